"""Which windows the scene opens."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.activity import MAP_SHAPE
from crossspec_ros.pipeline.scene import SceneWatch
from crossspec_ros.speculation.types import Opening
from crossspec_ros.timing.when import Speaking
from crossspec_ros.timing.window import WindowGrid

GRID = WindowGrid(stride_frames=1)
STILL, LEFT, RIGHT = np.zeros((3, *MAP_SHAPE))
LEFT[:, :4], RIGHT[:, 4:] = 400.0, 400.0
SPEAKING = Speaking(beat_slots=8, min_slots=2, max_slots=40, threshold=0.16)


def watched(scenes, speaking: Speaking = SPEAKING, first: int = 101) -> dict[int, Opening]:
    """Windows that were opened, and why."""
    watch = SceneWatch(GRID, speaking)
    told = [watch.look(first + at, scene) for at, scene in enumerate(scenes)]
    return {each.window_id: each.reason for each in told if each.reason is not Opening.NONE}


def test_first_window_is_opened_when_it_is_whole_and_then_none_for_want_of_change():
    assert watched([LEFT] * 30) == {108: Opening.FIRST}


def test_change_opens_its_own_slot_and_the_first_window_that_lies_after_it():
    assert watched([LEFT] * 12 + [RIGHT] * 20) == {
        108: Opening.FIRST, 113: Opening.CHANGE, 120: Opening.SETTLED}


def test_change_soon_after_a_window_waits_for_the_floor():
    assert watched([LEFT] * 8 + [RIGHT] * 3) == {108: Opening.FIRST, 110: Opening.CHANGE}


def test_ceiling_opens_a_window_where_nothing_changes():
    assert watched([STILL] * 100) == {108: Opening.FIRST, 148: Opening.CEILING, 188: Opening.CEILING}


def test_both_opens_the_windows_of_the_grid_too():
    both = Speaking(8, 2, 40, 0.16, grid_too=True)
    opened = watched([LEFT] * 12 + [RIGHT] * 20, both)
    assert {window for window, why in opened.items() if why is Opening.GRID or window % 8 == 0} == {104, 112, 120, 128}
    assert opened[114] is Opening.CHANGE                        # 113 is too soon after 112


def test_slow_drift_from_the_last_caption_opens_a_window():
    scenes = [LEFT] * 8 + [LEFT + (RIGHT - LEFT) * share for share in np.linspace(0, 1, 60)]
    assert Opening.CHANGE in watched(scenes, Speaking(8, 2, 400, 0.16)).values()


def test_what_is_told_names_the_scene_and_the_window_that_it_is_compared_with():
    watch = SceneWatch(GRID, SPEAKING)
    told = {each.window_id: each for each in
            [watch.look(101 + at, scene) for at, scene in enumerate([LEFT] * 12 + [RIGHT] * 20)]}
    assert (told[113].changed, told[113].scene_id, told[113].reference_id) == (True, 113, 113)
    assert (told[112].changed, told[112].reference_id, told[119].reference_id) == (False, 108, 113)
    assert told[120].scene_id == 0                              # a whole window of it: nothing is left out
    assert told[113].window_end_ns == GRID.end_ns(113)


def test_another_question_opens_a_window_at_once():
    watch = SceneWatch(GRID, SPEAKING)
    for slot in range(101, 120):
        watch.look(slot, LEFT)
    watch.ask_again()
    assert watch.look(120, LEFT).reason is Opening.FIRST


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=200), st.integers(1, 12), st.integers(0, 60))
def test_windows_keep_floor_and_ceiling_whatever_happens(scenes, floor, more):
    speaking = Speaking(8, floor, floor + more, 0.16)
    slots = sorted(watched([(STILL, LEFT, RIGHT)[scene] for scene in scenes], speaking))
    gaps = np.diff(slots)
    assert all(floor <= gap <= floor + more for gap in gaps)
    if len(scenes) >= 8:
        assert slots[0] == 108 and 100 + len(scenes) - slots[-1] < floor + more


def test_floor_above_ceiling_is_refused():
    with pytest.raises(CrossSpecError, match='window.min_s must be .* at most window.max_s, got 9 and 8 intervals'):
        Speaking(8, 9, 8, 0.16)
