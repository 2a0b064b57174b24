"""Keys and values of a sequence that speculation needs: grow, cut back, keep only the accepted path of a tree.

Two kinds behind one interface (`speculation.target.KeyValues`), both over one store of all layers. The dynamic one
hands the model views of the part in use, so that the cost of a forward follows the true length. The static one hands it
the whole buffers, at fixed addresses, which captured forwards need; masks hide what is not in use.

Shape letters: H heads of keys, L tokens, D head width.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from transformers.cache_utils import Cache, DynamicLayer

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.devices import sent


class _Store:
    """Keys and values of all layers, (layers, 1, H, capacity, D) each: one operation moves rows in all of them.

    Layers whose heads are of another number or width than the first one's get buffers of their own. ``length`` rows
    hold the sequence. ``columns``, where it is set, are the rows that the next states go to, int64 (T,) on the device:
    a forward then depends on no number of the host's.
    """

    def __init__(self, layers: int, capacity: int, whole: bool) -> None:
        self._layers, self.capacity, self.whole = layers, capacity, whole
        self.length = 0
        self.columns: torch.Tensor | None = None
        self._buffers: list[torch.Tensor] = []
        self._shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def allocate(self, place: int, key_states: torch.Tensor,
                 value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Room for keys and values of layer ``place``, in the shape and type of the first states that come."""
        shapes = tuple((*states.shape[:2], states.shape[3]) for states in (key_states, value_states))
        if self._shapes is None:
            self._shapes = shapes
            self._buffers += [self._room(states, self._layers) for states in (key_states, value_states)]
        if shapes == self._shapes:
            return self._buffers[0][place], self._buffers[1][place]
        own = [self._room(states, 1) for states in (key_states, value_states)]
        self._buffers += own
        return own[0][0], own[1][0]

    def _room(self, states: torch.Tensor, layers: int) -> torch.Tensor:
        """A buffer; zeros where all of it is handed out, since what is hidden must still be numbers."""
        batch, heads, _, width = states.shape
        make = states.new_zeros if self.whole else states.new_empty
        return make(layers, batch, heads, self.capacity, width)

    def move(self, base: int, index: torch.Tensor) -> None:
        """Rows ``base + index`` become the rows right after ``base``, in every layer."""
        for buffer in self._buffers:
            buffer[..., base:base + len(index), :] = buffer.index_select(3, base + index)

    def clear(self, base: int) -> None:
        """Zeros in all rows from ``base`` on."""
        for buffer in self._buffers:
            buffer[..., base:, :] = 0


class _Layer(DynamicLayer):
    """A layer of a `_Store`."""

    def __init__(self, store: _Store, place: int) -> None:
        super().__init__()
        self._store, self._place = store, place

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.key_buffer, self.value_buffer = self._store.allocate(self._place, key_states, value_states)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object,
               **kwargs: object) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (1, H, T, D) and return all rows in use, or the whole buffers where the store is `whole`."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        store = self._store
        if store.columns is not None:
            self.key_buffer.index_copy_(2, store.columns, key_states)
            self.value_buffer.index_copy_(2, store.columns, value_states)
            return self.key_buffer, self.value_buffer
        stop = store.length + key_states.shape[-2]
        self.key_buffer[:, :, store.length:stop] = key_states
        self.value_buffer[:, :, store.length:stop] = value_states
        if store.whole:
            return self.key_buffer, self.value_buffer
        return self.key_buffer[:, :, :stop], self.value_buffer[:, :, :stop]

    def get_seq_length(self) -> int:
        """Rows in use; 0 where a forward must depend on no number of the host's."""
        return self._store.length if self._store.columns is None else 0


class SequenceCache:
    """`KeyValues` over a transformers `Cache` of growing or fixed layers."""

    def __init__(self, layers: int, capacity: int, kind: str = 'dynamic') -> None:
        if kind not in ('dynamic', 'static'):
            raise CrossSpecError(f"cache must be 'dynamic' or 'static', got {kind!r}")
        self.kind, self.capacity, self.length = kind, capacity, 0
        self.layout: Any = None                       # of the prompt that is in it; the target's own
        self.private: Any = None                      # what else the target keeps with it
        self.edits: list[tuple[int, tuple[int, ...]]] | None = None    # where it is a list: what was cut and kept
        self._store = _Store(layers, capacity, kind == 'static')
        self.layers = [_Layer(self._store, place) for place in range(layers)]
        self.inner = Cache(layers=list(self.layers))

    @property
    def bytes_a_token(self) -> int:
        """Keys and values of one token in all layers, bytes; 0 before the first forward."""
        parts = [part for layer in self.layers if layer.is_initialized
                 for part in (layer.key_buffer, layer.value_buffer)]
        return sum(part.shape[1] * part.shape[3] * part.element_size() for part in parts)

    def room_for(self, tokens: int) -> None:
        """Raises `CrossSpecError` where ``tokens`` more do not fit."""
        if self.length + tokens > self.capacity:
            raise CrossSpecError(f'the sequence must fit the cache of {self.capacity} tokens, got {self.length} and '
                                 f'{tokens} more; shorten the prompt or lower max_new_tokens')

    @contextmanager
    def at(self, columns: torch.Tensor) -> Iterator[None]:
        """Inside, states of a forward go to these rows, int64 (T,) on the device; for a cache of the static kind."""
        self._store.columns = columns
        try:
            yield
        finally:
            self._store.columns = None

    def grew(self, tokens: int) -> None:
        """The model has appended ``tokens`` rows."""
        self._set(self.length + tokens)

    @torch.inference_mode()
    def truncate(self, length: int) -> None:
        """Forget everything after the first ``length`` tokens."""
        assert 0 <= length <= self.length, f'cannot cut a cache of {self.length} tokens to {length}'
        self._cut(length, ())

    def _cut(self, base: int, rows: Sequence[int]) -> None:
        """What is kept stands in its place."""
        self._set(base + len(rows))
        if self.edits is not None:
            self.edits.append((base, tuple(rows)))

    def _set(self, length: int) -> None:
        self.length = self._store.length = length

    @torch.inference_mode()
    def clear(self) -> None:
        """Zeros in all that is not in use: after numbers that are none, which no mask would hide."""
        self._store.clear(self.length)

    @torch.inference_mode()
    def keep(self, base: int, rows: Sequence[int]) -> None:
        """Keep the first ``base`` tokens and, of what follows, only ``rows`` (rising, counted from ``base``)."""
        assert base + len(rows) <= self.length, f'cannot keep {base} + {len(rows)} of {self.length} tokens'
        if any(row != i for i, row in enumerate(rows)):
            self._store.move(base, sent(rows, self.layers[0].device))
        self._cut(base, rows)
