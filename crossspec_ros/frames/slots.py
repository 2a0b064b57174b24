"""Which frame stands in which slot of the grid, decided as frames and time come."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crossspec_ros.timing.window import WindowGrid

_LEARNT_FRAMES = 8              # arrivals that must be known before they count
_DELAY_DECAY = 0.97             # a frame; a late one is forgotten in a few seconds
_JITTER_NS = 20_000_000         # arrivals vary by more than the worst of the last few tells


class Frame:
    """A picture and its stamp in ROS time.

    ``picture`` is uint8 (H, W, 3) RGB, or makes it when it is first asked for: of a fast camera's frames only the
    newest of each slot is looked at, and to unpack a large one takes longer than all else that is done with it.
    """

    __slots__ = ('stamp_ns', '_rgb', '_unpack')

    def __init__(self, stamp_ns: int, picture: np.ndarray | Callable[[], np.ndarray]) -> None:
        self.stamp_ns = stamp_ns
        self._unpack = picture if callable(picture) else None
        self._rgb = None if callable(picture) else picture

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

    A slot is settled once no better frame can come: a frame with a stamp at or after its end is here, or the clock is
    past its end by as long as frames lately took to arrive, ``grace_ns`` at most and until a few have come. A frame for
    a settled slot is late.
    """

    def __init__(self, grid: WindowGrid, grace_ns: int) -> None:
        self._grid, self._grace_ns = grid, grace_ns
        self.late = 0
        self.unused = 0
        self.reset()

    def reset(self) -> None:
        """Forget all frames: time jumped."""
        self._candidates: dict[int, Frame] = {}
        self._next: int | None = None                           # the oldest slot that is not settled
        self.newest_ns: int | None = None
        self._arrivals = 0
        self._delay_ns = 0.0                                    # the longest from stamp to arrival, decayed

    @property
    def wait_ns(self) -> int:
        """How long past a slot's end its frame is waited for."""
        if self._arrivals < _LEARNT_FRAMES:
            return self._grace_ns
        return min(self._grace_ns, round(1.5 * self._delay_ns) + _JITTER_NS)

    def add(self, frame: Frame, arrival_ns: int | None = None) -> None:
        """Take a frame; frames may come a little out of order. ``arrival_ns``: when it came, None if nothing follows
        from that (a recording without a clock)."""
        if arrival_ns is not None:
            self._arrivals += 1
            self._delay_ns = max(arrival_ns - frame.stamp_ns, _DELAY_DECAY * self._delay_ns)
        index = self._grid.slot_index(frame.stamp_ns)
        if self._next is None:
            self._next = index
        if index < self._next:
            self.late += 1
            return
        kept = self._candidates.get(index)
        self.unused += kept is not None
        if kept is None or frame.stamp_ns > kept.stamp_ns:
            self._candidates[index] = frame
        self.newest_ns = max(frame.stamp_ns, self.newest_ns or 0)

    def settle(self, now_ns: int | None = None, give_up_ns: int = 5_000_000_000) -> list[Slot]:
        """Slots settled by now, oldest first.

        Without a clock, or with one ``give_up_ns`` past all frames, the frames decide.
        """
        if self._next is None:
            return []
        interval = self._grid.interval_ns
        stop = self.newest_ns // interval                       # newest slot whose end a frame has reached
        if now_ns is not None and now_ns - self.newest_ns <= give_up_ns:
            stop = max(stop, (now_ns - self.wait_ns) // interval)
        # After a long gap only what the newest windows can use is worth telling.
        first = max(self._next, stop - 2 * self._grid.window_frames)
        settled = [Slot(index, self._candidates.get(index)) for index in range(first, stop + 1)]
        self._next = max(self._next, stop + 1)
        self._candidates = {index: frame for index, frame in self._candidates.items() if index >= self._next}
        return settled
