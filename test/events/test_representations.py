"""Representations against plain numpy, by definition."""
import numpy as np
import pytest
from event_streams import random_events
from hypothesis import given, settings
from hypothesis import strategies as st

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.representations import histogram, shape_of, time_surface, voxel_grid
from crossspec_ros.events.types import Events

START_NS, END_NS = 100_000_000, 900_000_000


def in_window(events: Events, start_ns: int, end_ns: int) -> Events:
    keep = (events.t_ns > start_ns) & (events.t_ns <= end_ns)
    return Events(events.t_ns[keep], events.x[keep], events.y[keep], events.p[keep], events.width, events.height)


def plain_voxels(events: Events, start_ns: int, end_ns: int, bins: int, shape: tuple[int, int]) -> np.ndarray:
    """max(0, 1 - |b - t*|) for every bin and event."""
    grid = np.zeros((bins, *shape))
    events = in_window(events, start_ns, end_ns)
    rows = events.y.astype(int) * shape[0] // events.height
    columns = events.x.astype(int) * shape[1] // events.width
    position = (bins - 1) * (events.t_ns - start_ns) / (end_ns - start_ns)
    sign = np.where(events.p, 1.0, -1.0)
    for each in range(bins):
        np.add.at(grid[each], (rows, columns), sign * np.maximum(0.0, 1.0 - np.abs(each - position)))
    return grid


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(0, 300), st.integers(1, 9), st.tuples(st.integers(1, 60), st.integers(1, 80))
)
def test_voxel_grid_follows_its_definition(seed, count, bins, shape):
    events = random_events(seed, count)
    grid = voxel_grid(events, START_NS, END_NS, bins=bins, shape=shape)
    assert grid.shape == shape_of('voxel_grid', shape=shape, bins=bins) and grid.dtype == np.float32
    np.testing.assert_allclose(grid, plain_voxels(events, START_NS, END_NS, bins, shape), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2 ** 32), st.integers(0, 300), st.tuples(st.integers(1, 60), st.integers(1, 80)))
def test_histogram_follows_its_definition(seed, count, shape):
    events = in_window(random_events(seed, count), START_NS, END_NS)
    wanted = np.zeros((2, *shape))
    np.add.at(
        wanted,
        (events.p.astype(int), events.y.astype(int) * shape[0] // 48, events.x.astype(int) * shape[1] // 64),
        1.0,
    )
    np.testing.assert_array_equal(histogram(random_events(seed, count), START_NS, END_NS, shape=shape), wanted)


def test_time_surface_keeps_the_newest_event_of_a_cell():
    events = Events(
        np.array([10, 20, 30], np.int64) * 1_000_000,
        np.array([1, 1, 2], np.uint16),
        np.array([1, 1, 1], np.uint16),
        np.array([1, 1, 0], np.uint8),
        4,
        4,
    )
    surface = time_surface(events, 30_000_000, tau_ms=10.0, shape=(4, 4))
    assert surface[1, 1, 1] == pytest.approx(np.exp(-1.0))
    assert surface[0, 1, 2] == 1.0
    assert np.count_nonzero(surface) == 2


@pytest.mark.parametrize('build', [
    pytest.param(lambda events: voxel_grid(events, START_NS, END_NS, shape=(12, 16)), id='voxel_grid'),
    pytest.param(lambda events: histogram(events, START_NS, END_NS, shape=(12, 16)), id='histogram'),
    pytest.param(lambda events: time_surface(events, END_NS, start_ns=START_NS, shape=(12, 16)), id='time_surface'),
])
class TestAll:
    def test_representation_of_nothing_is_zero(self, build):
        assert not build(Events.empty(64, 48)).any()
        assert not build(()).any()

    def test_representation_of_parts_is_that_of_the_whole(self, build):
        events = random_events(5, 2000)
        np.testing.assert_array_equal(
            build([events.part(0, 700), events.part(700, 701), events.part(701, 2000)]), build(events)
        )

    def test_representation_takes_read_only_and_strided_arrays(self, build):
        events = random_events(5, 2000)
        odd = Events(events.t_ns[::2], events.x[::2], events.y[::2], events.p[::2], 64, 48)
        events.t_ns.flags.writeable = False
        plain = Events(odd.t_ns.copy(), odd.x.copy(), odd.y.copy(), odd.p.copy(), 64, 48)
        np.testing.assert_array_equal(build(odd), build(plain))

    def test_representation_leaves_out_pixels_beyond_the_sensor(self, build):
        events = random_events(5, 50)
        wrong = Events(events.t_ns, events.x + np.uint16(5000), events.y, events.p, 64, 48)
        assert not build(wrong).any()


@pytest.mark.parametrize('call, word', [
    pytest.param(lambda events: voxel_grid(events, 5, 5, shape=(4, 4)), 'end_ns', id='empty window'),
    pytest.param(lambda events: voxel_grid(events, 0, 5, bins=0, shape=(4, 4)), 'bins', id='no bins'),
    pytest.param(lambda events: histogram(events, shape=(0, 4)), 'shape', id='no rows'),
    pytest.param(lambda events: histogram(events, shape=(1 << 20, 1 << 20)), 'shape', id='huge'),
    pytest.param(lambda events: time_surface(events, 5, tau_ms=0.0, shape=(4, 4)), 'tau_ms', id='tau'),
    pytest.param(lambda events: shape_of('foo', shape=(4, 4)), 'foo', id='name'),
])
def test_representation_refuses(call, word):
    with pytest.raises(CrossSpecError, match=word):
        call(random_events(1, 10))
