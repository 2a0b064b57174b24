"""Rows of groups of frames, kept for windows that overlap: a frame is encoded once."""
from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch


def frame_key(stamp_ns: int, rgb: np.ndarray) -> Hashable:
    """Names a frame by its stamp and its pixels."""
    return stamp_ns, rgb.shape, zlib.crc32(np.ascontiguousarray(rgb))


class FeatureCache:
    """The newest ``limit`` groups by the frames in them; 0 keeps none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, keys: Sequence[Hashable], encode: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, bool]:
        """Rows of a group, and whether they were there already; else ``encode`` makes them."""
        key = tuple(keys)
        known = self._rows.get(key)
        if known is not None:
            return known, True
        rows = encode()
        if self._limit:
            self._rows[key] = rows
            while len(self._rows) > self._limit:
                self._rows.popitem(last=False)
        return rows, False

    def clear(self) -> None:
        """Forget all."""
        self._rows.clear()
