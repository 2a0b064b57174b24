"""Rows of groups of frames, kept for windows that overlap: a frame is encoded once."""
from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError


def check_frame(rgb: object) -> None:
    """Raises `CrossSpecError` unless ``rgb`` is uint8 (H, W, 3), not empty, H and W from 2 to 16384."""
    if not isinstance(rgb, np.ndarray):
        raise CrossSpecError(f'rgb must be a numpy array, got {type(rgb).__name__}')
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise CrossSpecError(f'rgb must be uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}')
    if not all(2 <= side <= 16384 for side in rgb.shape[:2]):
        raise CrossSpecError(f'rgb must be 2 to 16384 pixels high and wide, got {rgb.shape[0]} x {rgb.shape[1]}')


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
