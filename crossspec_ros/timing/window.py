"""The grid of caption windows in sensor time.

Drafter and verifier never talk about which window they mean: both compute it from stamps on one fixed grid,
so the drafter needs no image and the verifier no event.
"""
from __future__ import annotations

from dataclasses import dataclass

from crossspec_ros.errors import CrossSpecError

_MS = 1_000_000


@dataclass(frozen=True)
class WindowGrid:
    """``window_frames`` frame slots, one every ``frame_interval_ms``; a new window every ``stride_frames`` slots.

    Window ``k`` ends at ``k * stride_ns`` and covers ``(end - span, end]``. Its slot ``i`` (oldest first) ends at
    ``end - (window_frames - 1 - i) * interval`` and is filled by the newest frame in ``(slot_end - interval,
    slot_end]``.
    """

    window_frames: int = 8
    frame_interval_ms: float = 125.0
    stride_frames: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.window_frames <= 64:
            raise CrossSpecError(f'window_frames must be 1 to 64, got {self.window_frames}')
        if not 1 <= self.stride_frames <= self.window_frames:
            raise CrossSpecError(f'stride_frames must be 1 to window_frames ({self.window_frames}), '
                                 f'got {self.stride_frames}')
        if not 1.0 <= self.frame_interval_ms <= 60_000.0:
            raise CrossSpecError(f'frame_interval_ms must be 1 to 60000, got {self.frame_interval_ms}')

    @property
    def interval_ns(self) -> int:
        return round(self.frame_interval_ms * _MS)

    @property
    def span_ns(self) -> int:
        """Length of a window, ns."""
        return self.window_frames * self.interval_ns

    @property
    def stride_ns(self) -> int:
        """From one window's end to the next one's, ns."""
        return self.stride_frames * self.interval_ns

    def end_ns(self, window_id: int) -> int:
        """End of a window in sensor time, ns: the window's name on the wire."""
        return window_id * self.stride_ns

    def start_ns(self, window_id: int) -> int:
        """Start of a window (exclusive), ns."""
        return self.end_ns(window_id) - self.span_ns

    def slot_ends_ns(self, window_id: int) -> tuple[int, ...]:
        """Ends of the frame slots, oldest first; the last is the window's end."""
        end = self.end_ns(window_id)
        return tuple(end - (self.window_frames - 1 - i) * self.interval_ns for i in range(self.window_frames))

    def slot_index(self, stamp_ns: int) -> int:
        """The slot on the grid of all slots that a frame belongs to; slot ``k`` is ``((k-1)*interval, k*interval]``."""
        return -(-stamp_ns // self.interval_ns)

    def last_ended(self, now_ns: int) -> int:
        """The newest window that has ended at ``now_ns``."""
        return now_ns // self.stride_ns

    def containing(self, stamp_ns: int) -> range:
        """Windows that contain a stamp, oldest first (one when tumbling, several when sliding)."""
        first = -(-stamp_ns // self.stride_ns)                        # smallest k with end >= stamp
        last = (stamp_ns + self.span_ns - 1) // self.stride_ns        # largest k with end - span < stamp
        return range(first, last + 1)
