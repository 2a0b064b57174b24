"""Keys and values of a sequence that speculation needs: grow, cut back, keep only the accepted path of a tree.

Two kinds behind one interface (`speculation.target.KeyValues`). The dynamic one hands the model views of the part
in use, so that the cost of a forward follows the true length. The static one is transformers' own: the model always
sees the whole buffer at fixed addresses, which compiled forwards and CUDA graphs need.

Shape letters: H heads of keys, L tokens, D head width.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from transformers.cache_utils import Cache, DynamicLayer, StaticLayer

from crossspec_ros.errors import CrossSpecError


class _Store:
    """Keys and values of all layers, (layers, 1, H, capacity, D) each: one operation moves rows in all of them.

    Layers whose heads are of another number or width than the first one's get buffers of their own.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self._layers, self.capacity = layers, capacity
        self._buffers: list[torch.Tensor] = []
        self._shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def allocate(self, place: int, key_states: torch.Tensor,
                 value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Room for keys and values of layer ``place``, in the shape and type of the first states that come."""
        shapes = tuple((*states.shape[:2], states.shape[3]) for states in (key_states, value_states))
        if self._shapes is None:
            self._shapes = shapes
            self._buffers += [_room(states, self._layers, self.capacity) for states in (key_states, value_states)]
        if shapes == self._shapes:
            return self._buffers[0][place], self._buffers[1][place]
        own = [_room(states, 1, self.capacity) for states in (key_states, value_states)]
        self._buffers += own
        return own[0][0], own[1][0]

    def move(self, base: int, index: torch.Tensor) -> None:
        """Rows ``base + index`` become the rows right after ``base``, in every layer."""
        for buffer in self._buffers:
            buffer[..., base:base + len(index), :] = buffer.index_select(3, base + index)


def _room(states: torch.Tensor, layers: int, capacity: int) -> torch.Tensor:
    batch, heads, _, width = states.shape
    return states.new_empty(layers, batch, heads, capacity, width)


class _GrowingLayer(DynamicLayer):
    """A layer of a `_Store`; ``used`` of its rows hold the sequence."""

    def __init__(self, store: _Store, place: int) -> None:
        super().__init__()
        self.used = 0
        self._store, self._place = store, place

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.key_buffer, self.value_buffer = self._store.allocate(self._place, key_states, value_states)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object,
               **kwargs: object) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (1, H, T, D) and return views of all rows in use."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        stop = self.used + key_states.shape[-2]
        self.key_buffer[:, :, self.used:stop] = key_states
        self.value_buffer[:, :, self.used:stop] = value_states
        self.used = stop
        return self.key_buffer[:, :, :stop], self.value_buffer[:, :, :stop]

    def get_seq_length(self) -> int:
        return self.used

    def set_length(self, length: int) -> None:
        """Only the first ``length`` rows count from now on."""
        self.used = length


class _FixedLayer(StaticLayer):
    """transformers' static layer, with a length that can be set back."""

    def set_length(self, length: int) -> None:
        """Only the first ``length`` rows count from now on; the mask hides the others."""
        self.cumulative_length.fill_(length)

    def move(self, base: int, index: torch.Tensor) -> None:
        """Rows ``base + index`` become the rows right after ``base``."""
        stop = base + len(index)
        self.keys[:, :, base:stop] = self.keys[:, :, base + index]
        self.values[:, :, base:stop] = self.values[:, :, base + index]


class SequenceCache:
    """`KeyValues` over a transformers `Cache` of growing or fixed layers."""

    def __init__(self, layers: int, capacity: int, kind: str = 'dynamic') -> None:
        if kind not in ('dynamic', 'static'):
            raise CrossSpecError(f"cache must be 'dynamic' or 'static', got {kind!r}")
        self.kind, self.capacity, self.length = kind, capacity, 0
        self.layout: Any = None                       # of the prompt that is in it; the target's own
        self._store = _Store(layers, capacity) if kind == 'dynamic' else None
        self.layers = ([_GrowingLayer(self._store, place) for place in range(layers)] if kind == 'dynamic'
                       else [_FixedLayer(capacity) for _ in range(layers)])
        self.inner = Cache(layers=list(self.layers))

    @property
    def bytes_a_token(self) -> int:
        """Keys and values of one token in all layers, bytes; 0 before the first forward."""
        parts = [part for layer in self.layers if layer.is_initialized
                 for part in ((layer.key_buffer, layer.value_buffer) if self._store else (layer.keys, layer.values))]
        return sum(part.shape[1] * part.shape[3] * part.element_size() for part in parts)

    def room_for(self, tokens: int) -> None:
        """Raises `CrossSpecError` where ``tokens`` more do not fit."""
        if self.length + tokens > self.capacity:
            raise CrossSpecError(f'the sequence must fit the cache of {self.capacity} tokens, got {self.length} and '
                                 f'{tokens} more; shorten the prompt or lower max_new_tokens')

    def grew(self, tokens: int) -> None:
        """The model has appended ``tokens`` rows."""
        self.length += tokens

    @torch.inference_mode()
    def truncate(self, length: int) -> None:
        """Forget everything after the first ``length`` tokens."""
        assert 0 <= length <= self.length, f'cannot cut a cache of {self.length} tokens to {length}'
        self.length = length
        for layer in self.layers:
            layer.set_length(length)

    @torch.inference_mode()
    def keep(self, base: int, rows: Sequence[int]) -> None:
        """Keep the first ``base`` tokens and, of what follows, only ``rows`` (rising, counted from ``base``)."""
        assert base + len(rows) <= self.length, f'cannot keep {base} + {len(rows)} of {self.length} tokens'
        if any(row != i for i, row in enumerate(rows)):
            index = torch.as_tensor(rows, device=self.layers[0].device)
            for part in [self._store] if self._store else self.layers:
                part.move(base, index)
        self.truncate(base + len(rows))
