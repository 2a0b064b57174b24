"""How much one time's events differ from another's."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crossspec_ros.events.activity import MAP_SHAPE, activity_map, difference

maps = arrays(np.float64, MAP_SHAPE, elements=st.floats(0, 1e6))


@given(maps)
def test_difference_of_a_map_from_itself_is_none(one):
    assert difference(one, one) == 0.0


@given(maps, maps)
def test_difference_is_from_0_to_1_and_has_no_direction(one, other):
    assert 0.0 <= difference(one, other) < 1.0
    assert difference(one, other) == pytest.approx(difference(other, one))


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1e4))
@settings(max_examples=50)
def test_difference_of_two_counts_of_one_rate_is_small(seed, rate):
    generator = np.random.default_rng(seed)
    assert difference(*generator.poisson(rate, (2, *MAP_SHAPE)).astype(float)) < 0.08


@given(st.floats(50.0, 1e6))
def test_difference_of_what_moved_elsewhere_is_large(count):
    one, other = np.zeros(MAP_SHAPE), np.zeros(MAP_SHAPE)
    one[:3], other[3:] = count, count
    assert difference(one, other) > 0.3


@pytest.mark.parametrize('height, width', [(48, 64), (33, 17), (4, 3), (1, 1)])
def test_map_keeps_every_event(height, width):
    halves = np.random.default_rng(0).normal(size=(2, height, width)).astype(np.float32)
    found = activity_map(halves)
    assert found.shape == (min(height, MAP_SHAPE[0]), min(width, MAP_SHAPE[1]))
    assert found.sum() == pytest.approx(np.abs(halves, dtype=np.float64).sum())


def test_map_does_not_cancel_an_edge_that_passes():
    halves = np.zeros((2, 6, 8), np.float32)
    halves[0, 2, 3], halves[1, 2, 3] = 5, -5                    # ON early, OFF late
    assert activity_map(halves)[2, 3] == 10
