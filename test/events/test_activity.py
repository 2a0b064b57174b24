"""Rate and density of events."""
import numpy as np
import pytest
from event_streams import random_events

from crossspec_ros.events.activity import activity
from crossspec_ros.events.types import Events


def test_activity_of_nothing_is_zero():
    quiet = activity(Events.empty(64, 48), 0, 1_000_000_000)
    assert (quiet.rate_hz, quiet.on_share, quiet.busy_share, quiet.spread) == (0.0, 0.0, 0.0, 0.0)
    assert quiet.density.shape == (8, 8) and not quiet.density.any()


def test_activity_counts_events_a_second_and_pixel():
    events = random_events(5, 3000)
    seen = activity(events, 0, 500_000_000, shape=(4, 4))
    inside = events.t_ns[(events.t_ns > 0) & (events.t_ns <= 500_000_000)]
    assert seen.rate_hz == 2 * len(inside)
    assert seen.density.sum() * (64 * 48 / 16) == pytest.approx(seen.rate_hz)


@pytest.mark.parametrize(
    'columns, spread',
    [pytest.param(np.zeros(64), 0.0, id='one cell'), pytest.param(np.arange(64), 1.0, id='all alike')],
)
def test_activity_tells_how_spread_events_are(columns, spread):
    events = Events(
        np.full(64, 5, np.int64), columns.astype(np.uint16), np.zeros(64, np.uint16), np.ones(64, np.uint8), 64, 48
    )
    assert activity(events, 0, 10, shape=(1, 8)).spread == pytest.approx(spread)
