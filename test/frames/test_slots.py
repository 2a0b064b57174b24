"""Which frame stands in which slot."""
import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.slots import DUPLICATE, LATE, UNUSED, Frame, FrameSlots
from crossspec_ros.timing.arrivals import Pace
from crossspec_ros.timing.window import WindowGrid

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
    told = [slots.add(frame(stamp)) for stamp in (1010, 1050, 1090, 1090, 1110)]
    assert settled(slots) == [(11, 1090)]
    assert told == [None, UNUSED, UNUSED, DUPLICATE, None]


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
    assert slots.add(frame(1090)) == LATE and settled(slots) == []


def test_slots_long_gap_tells_only_what_windows_can_use():
    slots = FrameSlots(GRID, 60 * MS)
    slots.add(frame(1100))
    settled(slots)
    slots.add(frame(100_000_000))
    told = settled(slots)
    assert len(told) == 9 and told[-1] == (1_000_000, 100_000_000)


def streamed(delays_ms, grace_ms: float = 500) -> FrameSlots:
    """A camera of 20 Hz whose frames take so long to arrive; the last stamp is 1050 ms."""
    slots = FrameSlots(GRID, grace_ms * MS)
    start = 1100 - 50 * len(delays_ms)
    for number, delay in enumerate(delays_ms):
        stamp = start + 50 * number
        slots.add(frame(stamp), round((stamp + delay) * MS))
    settled(slots)
    return slots


@pytest.mark.parametrize('delays, settles', [
    pytest.param([10.0] * 12, 1135, id='steady: half as long again and the jitter'),
    pytest.param([10.0] * 10 + [100.0] * 2, 1135, id='two late ones are not waited for'),
    pytest.param([10.0] * 9 + [100.0] * 3, 1260, id='three are'),
    pytest.param([100.0] * 3 + [10.0] * 100, 1135, id='late ones are forgotten'),
    pytest.param([300.0] * 12, 1460, id='a slow camera'),
    pytest.param([-40.0] * 12, 1120, id='a camera whose clock is ahead'),
    pytest.param([10_000.0] * 12, 1600, id='never longer than the grace'),
    pytest.param([10.0] * 5, 1600, id='too few to learn from'),
])
def test_slots_wait_as_long_as_frames_lately_took(delays, settles):
    assert settled(streamed(delays), settles - 1) == []
    assert settled(streamed(delays), settles) == [(11, 1050)]


def test_slots_frame_after_which_the_next_is_of_another_slot_settles_its_own_at_once():
    slots, told = FrameSlots(GRID, 500 * MS), {}
    for stamp in range(510, 1280, 33):
        assert slots.add(frame(stamp)) in (None, UNUSED)
        told |= {stamp: settled(slots)}
    assert told[1071] == [(11, 1071)] and told[1038] == told[1104] == told[1137] == []
    assert told[1170] == [] and told[1203] == [(12, 1170)]      # a frame three ms early would have been in that slot


@pytest.mark.parametrize('stamps', [
    pytest.param([1000, 1030, 1060, 1080], id='a pace that few have shown'),
    pytest.param([*range(500, 1000, 40), 1000, 1080], id='one of them came sooner'),
    pytest.param([*range(500, 1000, 40), 1070, 1060, 1080], id='out of order'),
    pytest.param([*range(500, 1080, 20), 1080], id='on the end'),
])
def test_slots_wait_where_the_next_may_be_of_the_same_slot(stamps):
    slots = FrameSlots(GRID, 500 * MS)
    for stamp in stamps:
        slots.add(frame(stamp))
    assert all(index < 11 for index, _ in settled(slots, 1090))


def test_slots_of_a_camera_that_gets_faster_have_one_late_frame_and_then_wait():
    slots = FrameSlots(GRID, 500 * MS)
    told = []
    for stamp in [*range(570, 1080, 100), *range(1170, 2000, 100), *range(1990, 3000, 20)]:
        told.append(slots.add(frame(stamp)))
        settled(slots)
    assert told.count(LATE) == 1


@pytest.mark.parametrize('hz', [10, 15, 24, 25, 30, 50, 60])
def test_slots_by_pace_hold_the_same_frames_sooner_and_none_is_late(hz, monkeypatch):
    def course():
        """Stamps that jitter by 1 ms, arrivals 20 ms later by 2; by slot: its frame and when it was settled."""
        random, slots, found = np.random.default_rng(hz), FrameSlots(GRID, 60 * MS, 500 * MS), {}
        stamps = 1_000_017.0 + np.arange(20 * hz) * 1000 / hz + random.normal(0, 1, 20 * hz)
        for arrival, stamp in sorted(zip(stamps + random.normal(20, 2, len(stamps)), stamps)):
            assert slots.add(frame(stamp), round(arrival * MS)) in (None, UNUSED)
            found |= {index: (standing, arrival) for index, standing in settled(slots, arrival)}
        return found

    by_pace = course()
    monkeypatch.setattr(Pace, 'next_ns', None)
    by_the_next = course()
    assert {slot: by_pace[slot][0] for slot in by_the_next} == {slot: each[0] for slot, each in by_the_next.items()}
    waits = [by_the_next[slot][1] - by_pace[slot][1] for slot in by_the_next]
    assert min(waits) >= 0 and max(waits) > 0


def test_slots_without_arrival_times_wait_the_whole_grace():
    slots = FrameSlots(GRID, 500 * MS)
    for stamp in range(500, 1100, 50):
        slots.add(frame(stamp))
    settled(slots)
    assert settled(slots, 1599) == [] and settled(slots, 1600) == [(11, 1050)]


def test_slots_begin_to_learn_anew_after_a_reset():
    slots = streamed([10.0] * 12)
    slots.reset()
    assert slots.wait_ns == 500 * MS


def test_frame_is_unpacked_once_and_when_asked_for():
    asked = []
    lazy = Frame(1, lambda: asked.append(1) or PIXELS)
    assert asked == []
    assert lazy.unpack() is PIXELS and lazy.unpack() is PIXELS and asked == [1]
    assert Frame(1, PIXELS).unpack() is PIXELS


def test_frame_that_is_damaged_says_so_each_time():
    def unpack():
        raise CrossSpecError('cut off')

    damaged = Frame(1, unpack)
    for _ in range(2):
        with pytest.raises(CrossSpecError, match='cut off'):
            damaged.unpack()


def test_slots_wait_longer_than_the_grace_for_a_slow_camera():
    slots = FrameSlots(GRID, 60 * MS, 500 * MS)
    assert slots.wait_ns == 60 * MS
    for stamp in range(500, 1100, 50):
        slots.add(frame(stamp), (stamp + 300) * MS)
    assert slots.wait_ns == 360 * MS
