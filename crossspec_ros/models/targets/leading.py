"""A target whose model is shared by several processes, as rank 0 has it: what it does the others do at the same time.

Which operation, on which rows, with which parents in the tree and what of the cache is kept is said once, here; so
whatever hangs on time, chance or drafts is decided here alone (`models.targets.following` does as it is told).
"""
from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.check import check_frames
from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.models.ranks import Ranks
from crossspec_ros.models.targets.adapters.base import Adapter
from crossspec_ros.models.targets.transformers_target import TransformersTarget
from crossspec_ros.speculation.target import Judged, Layout
from crossspec_ros.speculation.tree import TokenTree


class LeadingTarget(TransformersTarget):
    """Operations raise `ModelLost` once a process of the model has ended or does not answer."""

    def __init__(self, adapter: Adapter, ranks: Ranks, cache: str = 'dynamic',
                 stop_strings: Sequence[str] = ()) -> None:
        super().__init__(adapter, cache, lean=False, stop_strings=stop_strings)
        self.ranks, self._lock = ranks, threading.RLock()      # prompts are checked in other threads too
        self._numbers = itertools.count()
        self._numbered: weakref.WeakKeyDictionary[Layout | SequenceCache, int] = weakref.WeakKeyDictionary()
        self._gone: deque[int] = deque()                       # numbers of what nobody here holds any more

    @property
    def processes(self) -> int:
        """How many processes share the model, this one among them."""
        return self.ranks.count

    def close(self) -> None:
        """Let the other processes go."""
        with self._lock:
            self.ranks.close()

    # -- prompt and frames --------------------------------------------------------------------------------------------

    def _layout(self, prompt: str, frames: int, height: int, width: int) -> Layout:
        with self._lock:
            number = next(self._numbers)
            with self._together('layout', number=number, prompt=prompt, frames=frames, size=(height, width)):
                layout = super()._layout(prompt, frames, height, width)
            self._number(layout, number)
            return layout

    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Rows (T, W) of answer tokens."""
        ids = [int(token) for token in token_ids]
        with self._lock, self._together('embed', ids=ids):
            return super().embed(ids)

    def encode(self, layout: Layout, group: int, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Rows (tokens, W) of one group; see `TransformersTarget.encode`."""
        with self._lock, self._seen('encode', frames, layout=self._numbered[layout], group=group):
            return super().encode(layout, group, frames)

    def encode_all(self, layout: Layout, frames: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Rows of every group at once."""
        with self._lock, self._seen('encode_all', frames, layout=self._numbered[layout]):
            return super().encode_all(layout, frames)

    # -- the decoder --------------------------------------------------------------------------------------------------

    def new_cache(self, layout: Layout, capacity: int) -> SequenceCache:
        """An empty cache for ``capacity`` tokens; the others make theirs when rows come."""
        with self._lock:
            cache = super().new_cache(layout, capacity)
            if cache.edits is None:
                self._number(cache, next(self._numbers))
                cache.edits = []
            return cache

    def extend(self, cache: SequenceCache, rows: torch.Tensor) -> None:
        """Prefill: append (T, W) rows causally; no logits are computed."""
        with self._lock, self._together('extend', [rows], **self._of(cache)):
            super().extend(cache, rows)

    def verify(self, cache: SequenceCache, rows: torch.Tensor, tree: TokenTree, committed: Sequence[int]) -> Judged:
        """Append (T, W) rows, the last ``len(tree)`` the tree's nodes; see `TransformersTarget.verify`."""
        with self._lock, self._together('verify', [rows], parents=tree.parents, **self._of(cache)):
            return super().verify(cache, rows, tree, committed)

    def tap(self, layers: Sequence[int]) -> None:
        """Raises `CrossSpecError`: heads need the whole of the model's embeddings and head."""
        if layers:
            raise CrossSpecError('heads on the states of a model that several processes share cannot draft: leave '
                                 'model.heads empty, or set model.tensor_parallel to 1')

    def generate(self, frames: Sequence[np.ndarray], prompt: str, max_new_tokens: int,
                 **options: object) -> tuple[int, ...]:
        """Tokens of transformers' own ``generate`` of the model that is shared; ``options`` are numbers and words."""
        with self._lock, self._seen('generate', frames, prompt=prompt, tokens=max_new_tokens, options=options):
            return super().generate(frames, prompt, max_new_tokens, **options)

    # -- what is said -------------------------------------------------------------------------------------------------

    def _together(self, order: str, tensors: Sequence[torch.Tensor] = (),
                  **header: Any) -> AbstractContextManager[None]:
        gone = [self._gone.popleft() for _ in range(len(self._gone))]
        return self.ranks.together(order, tensors, gone=gone, **header)

    def _seen(self, order: str, frames: Sequence[np.ndarray], **header: Any) -> AbstractContextManager[None]:
        """An order with frames, uint8 (H, W, 3). Raises `CrossSpecError` for others."""
        check_frames(frames)
        return self._together(order, [torch.from_numpy(np.array(frame)) for frame in frames], **header)

    def _of(self, cache: SequenceCache) -> dict[str, Any]:
        """A cache, and what was cut off and kept in it since it was named last."""
        edits, cache.edits = cache.edits, []
        return {'cache': self._numbered[cache], 'capacity': cache.capacity, 'layout': self._numbered[cache.layout],
                'edits': edits}

    def _number(self, held: Layout | SequenceCache, number: int) -> None:
        self._numbered[held] = number
        weakref.finalize(held, self._gone.append, number)
