"""Which frame stands in which slot of the grid, decided as frames and time come."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crossspec_ros.timing.arrivals import Latency, Pace
from crossspec_ros.timing.window import WindowGrid

LATE, UNUSED, DUPLICATE, SKIPPED = 'late', 'unused', 'duplicate', 'skipped'
"""Why a frame stands in no slot: it came when its slot was settled, a newer one of its slot stands there, one of the
same stamp does, or its slot passed in a gap too long for any window."""


class Frame:
    """A picture and its stamp in ROS time.

    ``picture`` is uint8 (H, W, 3) RGB, or makes it when it is first asked for: of a fast camera's frames only the
    newest of each slot is looked at, and to unpack a large one takes longer than all else that is done with it.
    """

    __slots__ = ('stamp_ns', '_rgb', '_unpack', '_arrival', '_passed')

    def __init__(self, stamp_ns: int, picture: np.ndarray | Callable[[], np.ndarray]) -> None:
        self.stamp_ns = stamp_ns
        self._unpack = picture if callable(picture) else None
        self._rgb = None if callable(picture) else picture
        self._arrival: tuple[float, int] | None = None          # age at arrival, ms, and when that was
        self._passed: set[str] = set()

    @property
    def is_packed(self) -> bool:
        """Whether the picture is still to be made."""
        return self._rgb is None

    def arrive(self, now_ns: int, elapsed_ns: int) -> None:
        """The frame came at ``now_ns`` of its stamp's clock, ``elapsed_ns`` of a clock that never jumps."""
        self._arrival = (now_ns - self.stamp_ns) / 1e6, elapsed_ns

    def passes(self, stage: str, elapsed_ns: int) -> list[float]:
        """Its age, ms, at the end of a stage, one number; none where it passed the stage before or has no arrival."""
        if self._arrival is None or stage in self._passed:
            return []
        self._passed.add(stage)
        age_ms, since_ns = self._arrival
        return [age_ms + (elapsed_ns - since_ns) / 1e6]

    def unpack(self) -> np.ndarray:
        """The picture. Two threads that ask at once may both make it. Raises CrossSpecError where it is damaged."""
        unpack = self._unpack
        if self._rgb is None and unpack is not None:
            self._rgb = unpack()
            self._unpack = None                                 # and with it the message
        return self._rgb


@dataclass(frozen=True)
class Slot:
    """A settled slot of the grid of all slots. ``frame`` is None where none came."""

    index: int
    frame: Frame | None


class FrameSlots:
    """Settles slots in order: the newest frame of a slot stands in it.

    A slot is settled once no better frame is to come: a frame with a stamp at or after its end is here; or the next one
    would have such a stamp, at the fastest pace of the newest ones; or the clock is past its end by as long as frames
    lately took to arrive, ``grace_max_ns`` at most, and by ``grace_ns`` until a few have come. A frame for a settled
    slot is late: of a camera that gets faster it may be one.
    """

    def __init__(self, grid: WindowGrid, grace_ns: int, grace_max_ns: int | None = None) -> None:
        self._grid, self._grace_ns = grid, grace_ns
        self._grace_max_ns = grace_ns if grace_max_ns is None else max(grace_ns, grace_max_ns)
        self._candidates: dict[int, Frame] = {}
        self.skipped = 0
        self.reset()

    def reset(self) -> int:
        """Forget all frames: time jumped. Returns how many stood in no settled slot yet."""
        forgotten = len(self._candidates)
        self._candidates = {}
        self._next: int | None = None                           # the oldest slot that is not settled
        self.newest_ns: int | None = None
        self.latency = Latency()
        self._pace = Pace()
        return forgotten

    @property
    def wait_ns(self) -> int:
        """How long past a slot's end its frame is waited for."""
        wait_ns = self.latency.wait_ns()
        return self._grace_ns if wait_ns is None else min(wait_ns, self._grace_max_ns)

    def add(self, frame: Frame, arrival_ns: int | None = None) -> str | None:
        """Take a frame; frames may come a little out of order. ``arrival_ns``: when it came, None if nothing follows
        from that (a recording without a clock).

        Returns why a frame, this one or the one that it takes the place of, stands in no slot; None where all do.
        """
        if arrival_ns is not None:
            self.latency.add(arrival_ns - frame.stamp_ns)
        self._pace.add(frame.stamp_ns)
        index = self._grid.slot_index(frame.stamp_ns)
        if self._next is None:
            self._next = index
        if index < self._next:
            return LATE
        kept = self._candidates.get(index)
        if kept is None or frame.stamp_ns > kept.stamp_ns:
            self._candidates[index] = frame
        self.newest_ns = max(frame.stamp_ns, self.newest_ns or 0)
        if kept is None:
            return None
        return DUPLICATE if kept.stamp_ns == frame.stamp_ns else UNUSED

    def settle(self, now_ns: int | None = None, give_up_ns: int = 5_000_000_000) -> list[Slot]:
        """Slots settled by now, oldest first.

        Without a clock, or with one ``give_up_ns`` past all frames, the frames decide.
        """
        if self._next is None:
            return []
        interval = self._grid.interval_ns
        stop = self.newest_ns // interval                       # newest slot whose end a frame has reached
        soonest_ns = self._pace.next_ns
        if soonest_ns is not None and soonest_ns > interval * (own := self._grid.slot_index(self.newest_ns)):
            stop = own
        if now_ns is not None and now_ns - self.newest_ns <= give_up_ns:
            stop = max(stop, (now_ns - self.wait_ns) // interval)
        # After a long gap only what the newest windows can use is worth telling.
        first = max(self._next, stop - 2 * self._grid.window_frames)
        settled = [Slot(index, self._candidates.get(index)) for index in range(first, stop + 1)]
        self.skipped += sum(index < first for index in self._candidates)
        self._next = max(self._next, stop + 1)
        self._candidates = {index: frame for index, frame in self._candidates.items() if index >= self._next}
        return settled
