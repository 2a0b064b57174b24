"""The newest events of a stream, bounded in bytes and in time, cut by time without copying.

Storage is a row of chunks that are filled once, from the front: what a reader holds is never written again, so the
receiving thread appends while the inference thread works on views.
"""
from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numba import types as nbt

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events
from crossspec_ros.events.jit import kernel, read_only, writable
from crossspec_ros.events.types import Events

BYTES_PER_EVENT = 13
_LEAST_CHUNK = 256
_LARGEST_CHUNK = 1 << 17
_CHUNKS = 32
_NO_TIME_NS = -(1 << 63)
_FIELDS = ('t_ns', 'x', 'y', 'p')


class _Chunk:
    """Arrays for ``capacity`` events; ``used`` of them are filled and final."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.t_ns = np.empty(capacity, np.int64)
        self.x = np.empty(capacity, np.uint16)
        self.y = np.empty(capacity, np.uint16)
        self.p = np.empty(capacity, np.uint8)

    def fill(self, events: Events, start: int) -> int:
        """Copy events from index ``start`` on, as many as fit; returns how many."""
        count = min(self.capacity - self.used, len(events) - start)
        for field in _FIELDS:
            getattr(self, field)[self.used:self.used + count] = getattr(events, field)[start:start + count]
        self.used += count
        return count


class EventBuffer:
    """Ring of the newest events, sorted by time; every method may be called from any thread.

    Whole chunks of the oldest events go where the memory would grow beyond ``max_bytes`` or where all of a chunk is
    more than ``max_span_ns`` older than the newest event. An event a little earlier than the newest one kept is left
    out (``late``); one earlier by more than ``max_back_ns`` means that time jumped back (a bag that loops, a camera
    that restarted): everything before it is forgotten.

    ``dropped`` counts events by cause: ``bytes``, ``late``, ``time_back``, ``size_change``; ``expired`` ones have
    only grown old. Raises ``CrossSpecError`` on bounds that cannot be kept.
    """

    def __init__(self, max_bytes: int, max_span_ns: int, *, max_back_ns: int = 100_000_000) -> None:
        least = 4 * _LEAST_CHUNK * BYTES_PER_EVENT
        if max_bytes < least:
            raise CrossSpecError(f'max_bytes must be >= {least}, got {max_bytes}')
        if max_span_ns < 1 or max_back_ns < 0:
            raise CrossSpecError(f'max_span_ns must be >= 1 and max_back_ns >= 0, got {max_span_ns} and {max_back_ns}')
        self._chunk_events = min(max(max_bytes // BYTES_PER_EVENT // _CHUNKS, _LEAST_CHUNK), _LARGEST_CHUNK)
        self._max_chunks = max_bytes // BYTES_PER_EVENT // self._chunk_events
        self._max_span_ns = max_span_ns
        self._max_back_ns = max_back_ns
        self._lock = threading.Lock()
        self._chunks: deque[_Chunk] = deque()
        self._newest_ns = _NO_TIME_NS
        self._size = (0, 0)
        self._dropped = dict.fromkeys(('bytes', 'late', 'time_back', 'size_change', 'expired'), 0)
        self._in_order = _in_order.compiled
        self._sort_out = _sort_out.compiled

    def __len__(self) -> int:
        with self._lock:
            return self._length()

    @property
    def dropped(self) -> dict[str, int]:
        """Events no longer here, by cause."""
        with self._lock:
            return dict(self._dropped)

    @property
    def nbytes(self) -> int:
        """Memory held by the buffer itself; at most ``max_bytes``."""
        with self._lock:
            return len(self._chunks) * self._chunk_events * BYTES_PER_EVENT

    @property
    def newest_ns(self) -> int | None:
        """Time of the newest event; None while empty."""
        with self._lock:
            return self._newest_ns if self._chunks else None

    @property
    def oldest_ns(self) -> int | None:
        """Time of the oldest event; None while empty."""
        with self._lock:
            return int(self._chunks[0].t_ns[0]) if self._chunks else None

    def clear(self) -> None:
        """Forget all events; what was cut before stays valid."""
        with self._lock:
            self._forget()

    def append(self, events: Events) -> None:
        """Add events of the stream after those already here; they are copied."""
        if not len(events):
            return
        with self._lock:
            if (events.width, events.height) != self._size:
                self._dropped['size_change'] += self._forget()
                self._size = (events.width, events.height)
            events = self._usable(events)
            start = 0
            while start < len(events):
                if not self._chunks or self._chunks[-1].used == self._chunk_events:
                    self._make_room()
                start += self._chunks[-1].fill(events, start)
            if len(events):
                self._newest_ns = int(events.t_ns[-1])
            while len(self._chunks) > 1 and self._chunks[0].t_ns[-1] < self._newest_ns - self._max_span_ns:
                self._dropped['expired'] += self._chunks.popleft().used

    def cut(self, start_ns: int, end_ns: int) -> Events:
        """Events of (``start_ns``, ``end_ns``]: views where they lie in one chunk, else one copy."""
        parts = self.cut_parts(start_ns, end_ns)
        return join_events(parts) if parts else Events.empty(*self._size)

    def cut_parts(self, start_ns: int, end_ns: int) -> tuple[Events, ...]:
        """Events of (``start_ns``, ``end_ns``] as views, one a chunk, oldest first; never a copy."""
        with self._lock:
            chunks = [(chunk, chunk.used) for chunk in self._chunks]
            width, height = self._size
        parts = []
        for chunk, used in chunks:
            t_ns = chunk.t_ns[:used]
            if t_ns[-1] <= start_ns or t_ns[0] > end_ns:
                continue
            start, stop = np.searchsorted(t_ns, (start_ns, end_ns), side='right').tolist()
            if start < stop:
                parts.append(
                    Events(
                        t_ns[start:stop], chunk.x[start:stop], chunk.y[start:stop], chunk.p[start:stop], width, height
                    )
                )
        return tuple(parts)

    def _usable(self, events: Events) -> Events:
        """Events in order and not before the newest; forgets everything where time jumped back."""
        t_ns = np.ascontiguousarray(events.t_ns)
        if t_ns[0] >= self._newest_ns and self._in_order(t_ns):
            return events
        keep = np.ones(len(t_ns), np.bool_)
        jump = self._sort_out(t_ns, self._newest_ns, self._max_back_ns, keep)
        if jump >= 0:
            keep[:jump] = False
            self._dropped['time_back'] += self._forget() + jump
        self._dropped['late'] += int(np.count_nonzero(~keep[max(jump, 0):]))
        return Events(t_ns[keep], events.x[keep], events.y[keep], events.p[keep], events.width, events.height)

    def _make_room(self) -> None:
        while len(self._chunks) >= self._max_chunks:
            self._dropped['bytes'] += self._chunks.popleft().used
        self._chunks.append(_Chunk(self._chunk_events))

    def _forget(self) -> int:
        forgotten = self._length()
        self._chunks.clear()
        self._newest_ns = _NO_TIME_NS
        return forgotten

    def _length(self) -> int:
        return sum(chunk.used for chunk in self._chunks)


@kernel(nbt.boolean(read_only(nbt.int64)))
def _in_order(t_ns):
    for i in range(1, len(t_ns)):
        if t_ns[i] < t_ns[i - 1]:
            return False
    return True


@kernel(nbt.int64(read_only(nbt.int64), nbt.int64, nbt.int64, writable(nbt.boolean)))
def _sort_out(t_ns, newest_ns, max_back_ns, keep):
    """Mark late events in ``keep``; index of the last event at which time jumped back, or -1."""
    jump = -1
    for i in range(len(t_ns)):
        if t_ns[i] >= newest_ns:
            newest_ns = t_ns[i]
        elif newest_ns - t_ns[i] > max_back_ns:
            jump = i
            newest_ns = t_ns[i]
        else:
            keep[i] = False
    return jump
