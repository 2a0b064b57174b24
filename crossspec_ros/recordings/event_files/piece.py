"""What the formats exchange: a piece of a stream with all that a camera says in it.

Shape letters: N events, K triggers, M monitors.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.bag import ImageFrame

CHUNK_EVENTS = 1 << 20
NO_VALUE = -1
NONE = np.empty((0, 3), np.int64)
"""No triggers, or no monitors."""


@dataclass(frozen=True)
class Piece:
    """A consecutive part of a stream; times are sensor time, ns.

    ``triggers`` int64 (K, 3): time, edge (1 rising), id. ``monitors`` int64 (M, 3): time, subtype, value (``NO_VALUE``
    where the camera sent none): what a sensor says of itself. Subtypes 0x014 and 0x016 are the counters of the event
    rate controller (ERC): events that came in, events that it let through. Triggers and monitors are in the order of
    time, and none is earlier than those of the piece before.
    """

    events: Events
    triggers: np.ndarray = field(default_factory=lambda: NONE)
    monitors: np.ndarray = field(default_factory=lambda: NONE)


class EventFile(Protocol):
    """A recording of one event camera, open for reading.

    ``offset_ns`` is what the file itself says to add to its times for the clock of its images. ``dropped`` counts what
    could not be used, by cause, and grows while the pieces are read. ``header`` is the text that the file begins with.
    """

    path: Path
    format: str
    width: int
    height: int
    offset_ns: int
    dropped: Counter[str]
    header: str

    def span_ns(self) -> tuple[int, int]:
        """First and last time, ns of sensor time ((0, 0) of no events)."""

    def pieces(self) -> Iterator[Piece]:
        """The whole stream, from the start each time it is asked for."""

    def frames(self) -> Iterator[ImageFrame]:
        """The pictures that lie in the same file, stamped in the same time, in order."""

    def close(self) -> None:
        """Give the file back; twice is fine."""


class EventWriter(Protocol):
    """A file of events being written, under a temporary name; ``left_out`` counts what the format has no place for."""

    left_out: Counter[str]

    def write(self, piece: Piece) -> None:
        """Append a piece."""

    def close(self) -> None:
        """Write what comes last; the file is whole then."""


def inside(t_ns: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, width: int, height: int,
           dropped: Counter[str]) -> Events:
    """Columns of any whole-number types as events of a sensor; what lies outside it is left out and counted."""
    good = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if not good.all():
        dropped['outside_sensor'] += int(len(good) - np.count_nonzero(good))
        t_ns, x, y, p = t_ns[good], x[good], y[good], p[good]
    return Events(np.ascontiguousarray(t_ns, np.int64), np.ascontiguousarray(x, np.uint16),
                  np.ascontiguousarray(y, np.uint16), np.ascontiguousarray(p > 0, np.uint8), width, height)


def whole_us(t_ns: np.ndarray, left_out: Counter[str]) -> np.ndarray:
    """Times in us, int64; those that had parts of one are counted."""
    t_us, rest = np.divmod(t_ns, 1000)
    if cut := int(np.count_nonzero(rest)):
        left_out['parts_of_us'] += cut
    return t_us


def columns(rows: list[tuple[int, int, int]]) -> np.ndarray:
    """Triggers or monitors of a list, int64 (K, 3)."""
    return np.array(rows, np.int64).reshape(-1, 3)


def check_turns(t_us: np.ndarray, turn_us: int, before_us: int, name: str) -> None:
    """Raise CrossSpecError where a counter that begins anew after ``turn_us`` cannot say these times."""
    if not len(t_us):
        return
    steps = np.diff(t_us, prepend=max(before_us, 0))
    # The first time of all may be any of the first turn: nothing was said before it.
    far = np.abs(steps) >= turn_us // 2
    far[0] = steps[0] >= turn_us if before_us < 0 else far[0]
    if int(t_us.min()) < 0 or far.any():
        raise CrossSpecError(f'{name} cannot say times of {int(t_us.min()) / 1e6:.6f} to {int(t_us.max()) / 1e6:.6f} '
                             's; give --offset with the start of the recording, negative')
