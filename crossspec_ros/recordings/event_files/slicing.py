"""A stream in pieces of any size, cut into pieces of a grid of time, in the order of time."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from crossspec_ros.events.decode import join_events
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.event_files.piece import Piece

MOST_BACK_NS = 40_000_000
"""Events that are earlier than the newest one by more than this have no place in an evt3 stream any more."""


class Slicer:
    """Cuts one stream. ``dropped`` counts ``times_back`` (events earlier than the one before: kept, put in order where
    they came together) and ``times_far_back`` (too early to be kept).
    """

    def __init__(self, slice_ns: int, dropped: Counter[str]) -> None:
        self._slice_ns, self._dropped = slice_ns, dropped
        self._newest_ns = -1 << 62
        self._parts: list[Events] = []
        self._triggers = self._monitors = np.empty((0, 3), np.int64)
        self._number: int | None = None                 # of the slice that is being gathered

    def slices(self, pieces: Iterable[Piece]) -> Iterator[tuple[int, Piece]]:
        """(end in ns, piece) for each slice of the grid that has anything in it."""
        size = (1, 1)
        for piece in pieces:
            size = piece.events.width, piece.events.height
            self._triggers = np.concatenate([self._triggers, piece.triggers])
            self._monitors = np.concatenate([self._monitors, piece.monitors])
            events = self._in_order(piece.events)
            if len(events):
                yield from self._cut(events)
        if self._parts or len(self._triggers) or len(self._monitors):
            yield self._gathered(size, everything=True)

    def _in_order(self, events: Events) -> Events:
        if not len(events):
            return events
        t_ns = events.t_ns
        if backwards := int(np.count_nonzero(np.diff(t_ns) < 0)) + int(t_ns[0] < self._newest_ns):
            self._dropped['times_back'] += backwards
            order = np.argsort(t_ns, kind='stable')
            kept = order[t_ns[order] >= self._newest_ns - MOST_BACK_NS]
            if far := len(order) - len(kept):
                self._dropped['times_far_back'] += far
            events = Events(t_ns[kept], events.x[kept], events.y[kept], events.p[kept], events.width, events.height)
        if len(events):
            self._newest_ns = max(self._newest_ns, int(events.t_ns[-1]))
        return events

    def _cut(self, events: Events) -> Iterator[tuple[int, Piece]]:
        numbers = events.t_ns // self._slice_ns
        if self._number is not None:
            numbers = np.maximum(numbers, self._number)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(numbers)) + 1, [len(events)]]).tolist()
        for start, stop in zip(starts[:-1], starts[1:], strict=True):
            number = int(numbers[start])
            if self._number is not None and number != self._number:
                yield self._gathered((events.width, events.height))
            self._number = number
            self._parts.append(events.part(start, stop))

    def _gathered(self, size: tuple[int, int], everything: bool = False) -> tuple[int, Piece]:
        number = self._number
        if number is None:
            number = int(max([*self._triggers[:, 0], *self._monitors[:, 0]])) // self._slice_ns
        end_ns = (number + 1) * self._slice_ns
        triggers, self._triggers = _until(self._triggers, None if everything else end_ns)
        monitors, self._monitors = _until(self._monitors, None if everything else end_ns)
        events = join_events(self._parts) if self._parts else Events.empty(*size)
        self._parts = []
        return end_ns, Piece(events, triggers, monitors)


def _until(rows: np.ndarray, end_ns: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Those before a time, and the others."""
    at = len(rows) if end_ns is None else int(np.searchsorted(rows[:, 0], end_ns))
    return rows[:at], rows[at:]
