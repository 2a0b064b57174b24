"""Which frame stands in which slot."""
import numpy as np
import pytest

from crossspec_ros.events.window import WindowGrid
from crossspec_ros.pipeline.slots import Frame, FrameSlots

MS = 1_000_000
GRID = WindowGrid(window_frames=4, frame_interval_ms=100, stride_frames=4)
PIXELS = np.zeros((2, 2, 3), np.uint8)


def frame(stamp_ms: float) -> Frame:
    return Frame(round(stamp_ms * MS), PIXELS)


def settled(slots: FrameSlots, now_ms: float | None = None) -> list[tuple[int, float | None]]:
    now_ns = None if now_ms is None else round(now_ms * MS)
    return [(slot.index, slot.frame.stamp_ns / MS if slot.frame else None) for slot in slots.settle(now_ns)]


def test_slots_newest_frame_of_a_slot_stands():
    slots = FrameSlots(GRID, 60 * MS)
    for stamp in (1010, 1050, 1090, 1110):
        slots.add(frame(stamp))
    assert settled(slots) == [(11, 1090)]
    assert slots.unused == 2


def test_slots_frame_on_the_end_settles_its_slot_at_once():
    slots = FrameSlots(GRID, 60 * MS)
    slots.add(frame(1100))
    assert settled(slots) == [(11, 1100)]


@pytest.mark.parametrize('now, expected', [
    pytest.param(1159, [], id='within grace'),
    pytest.param(1160, [(11, 1050)], id='grace has passed'),
    pytest.param(1260, [(11, 1050), (12, None)], id='a slot without a frame'),
])
def test_slots_clock_settles_after_the_grace(now, expected):
    slots = FrameSlots(GRID, 60 * MS)
    slots.add(frame(1050))
    assert settled(slots, now) == expected


def test_slots_clock_far_ahead_of_the_stamps_is_not_believed():
    slots = FrameSlots(GRID, 60 * MS)
    slots.add(frame(1050))
    assert settled(slots, 1050 + 3_600_000) == []


def test_slots_late_frame_is_counted():
    slots = FrameSlots(GRID, 60 * MS)
    slots.add(frame(1100))
    settled(slots)
    slots.add(frame(1090))
    assert settled(slots) == [] and slots.late == 1


def test_slots_long_gap_tells_only_what_windows_can_use():
    slots = FrameSlots(GRID, 60 * MS)
    slots.add(frame(1100))
    settled(slots)
    slots.add(frame(100_000_000))
    told = settled(slots)
    assert len(told) == 9 and told[-1] == (1_000_000, 100_000_000)
