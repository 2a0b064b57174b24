"""Slices of time end where windows and their time bins do."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.slices import Slicing

MS = 1_000_000


def test_slices_of_the_drafters_windows_are_as_long_as_its_lead():
    slicing = Slicing(1000 * MS, 1000 * MS, 5, (0, 125 * MS))
    assert slicing.borders_ns == tuple(range(0, 1000 * MS, 125 * MS)) and slicing.longest_ns == 125 * MS
    assert slicing.around(1000 * MS) == (875 * MS, 1000 * MS)
    assert slicing.around(1000 * MS + 1) == (1000 * MS, 1125 * MS)


def test_slices_of_a_window_without_early_look_are_its_bins():
    assert Slicing(1000 * MS, 1000 * MS, 5).longest_ns == 250 * MS
    assert Slicing(1000 * MS, 1000 * MS, 1).borders_ns == (0,)


@given(st.integers(1, 50), st.integers(1, 200), st.integers(1, 7), st.integers(0, 60), st.integers(-500, 500))
def test_slices_hold_every_time_once_and_bend_nowhere(stride_ns, span_ns, bins, lead_ns, t_ns):
    slicing = Slicing(stride_ns, span_ns, bins, (0, lead_ns))
    first_ns, last_ns = slicing.around(t_ns)
    assert first_ns < t_ns <= last_ns and last_ns - first_ns <= slicing.longest_ns
    assert slicing.around(first_ns + 1) == slicing.around(last_ns) == (first_ns, last_ns)
    for window in range(t_ns // stride_ns - 2, t_ns // stride_ns + span_ns // stride_ns + 3):
        for end_ns in (window * stride_ns, window * stride_ns - lead_ns):
            assert slicing.fits(end_ns)
            start_ns = end_ns - span_ns
            assert last_ns <= start_ns or first_ns >= start_ns          # inside or outside, never both
            assert last_ns <= end_ns or first_ns >= end_ns
            if start_ns <= first_ns and last_ns <= end_ns and bins > 1:
                lower = slicing.bin_of(first_ns, end_ns)
                # Knot b lies at start + b * span / (bins - 1).
                assert lower * span_ns < (first_ns + 1 - start_ns) * (bins - 1)
                assert (last_ns - start_ns) * (bins - 1) <= (lower + 1) * span_ns


def test_slices_fit_no_other_end():
    slicing = Slicing(1000, 1000, 5, (0, 125))
    assert slicing.fits(5000) and slicing.fits(4875) and not slicing.fits(4876)


@pytest.mark.parametrize('changes, word', [
    pytest.param({'stride_ns': 0}, 'stride_ns', id='stride'), pytest.param({'span_ns': 0}, 'span_ns', id='span'),
    pytest.param({'bins': 0}, 'bins', id='bins'), pytest.param({'leads_ns': ()}, 'leads_ns', id='no version'),
    pytest.param({'leads_ns': (-1,)}, 'leads_ns', id='lead'),
    pytest.param({'stride_ns': 1 << 50}, 'longest', id='slices of days')])
def test_slices_refuse(changes, word):
    with pytest.raises(CrossSpecError, match=word):
        Slicing(**({'stride_ns': 1000, 'span_ns': 1000, 'bins': 5} | changes))
