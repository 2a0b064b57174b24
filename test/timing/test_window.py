"""The grid of windows: every stamp lies where the grid says, whoever asks."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.timing.window import WindowGrid

grids = st.builds(lambda frames, interval_ms, share: WindowGrid(frames, interval_ms, max(1, round(frames * share))),
                  st.integers(1, 64), st.sampled_from([1.0, 33.3, 50.0, 125.0, 1000.0]), st.floats(0.0, 1.0))
stamps = st.integers(-10 ** 12, 2 * 10 ** 18)


@given(grids, stamps)
def test_containing_names_exactly_the_windows_around_a_stamp(grid, stamp_ns):
    windows = grid.containing(stamp_ns)
    assert len(windows) >= 1
    for window_id in range(windows.start - 2, windows.stop + 2):
        inside = grid.start_ns(window_id) < stamp_ns <= grid.end_ns(window_id)
        assert inside == (window_id in windows)


@given(grids, stamps)
def test_last_ended_is_the_newest_window_that_has_ended(grid, now_ns):
    window_id = grid.last_ended(now_ns)
    assert grid.end_ns(window_id) <= now_ns < grid.end_ns(window_id + 1)


@given(grids, st.integers(0, 10 ** 6))
def test_slots_of_a_window_lie_one_interval_apart_and_end_with_it(grid, window_id):
    ends = grid.slot_ends_ns(window_id)
    assert len(ends) == grid.window_frames and ends[-1] == grid.end_ns(window_id)
    assert {later - earlier for earlier, later in zip(ends, ends[1:])} <= {grid.interval_ns}
    for end_ns in ends:
        assert grid.slot_index(end_ns) * grid.interval_ns == end_ns
        assert grid.slot_index(end_ns - grid.interval_ns + 1) == grid.slot_index(end_ns)


@pytest.mark.parametrize('arguments, word', [
    pytest.param((0, 125.0, 1), 'window_frames', id='no frames'),
    pytest.param((8, 125.0, 9), 'stride_frames', id='stride beyond the window'),
    pytest.param((8, 0.0, 8), 'frame_interval_ms', id='no interval'),
])
def test_window_grid_refuses(arguments, word):
    with pytest.raises(CrossSpecError, match=word):
        WindowGrid(*arguments)
