import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.world import DvsConfig, EventSensor

QUIET = {'mismatch': 0.0, 'leak_hz': 0.0, 'shot_hz': 0.0, 'refractory_us': 0.0}


def _sensor(**config: float) -> EventSensor:
    return EventSensor(8, 6, seed=1, config=DvsConfig(**{**QUIET, **config}))


def _flat(value: float) -> np.ndarray:
    return np.full((6, 8), value, np.float32)


@pytest.mark.parametrize('rise, polarity', [pytest.param(1.05, 1, id='brighter'), pytest.param(-1.05, 0, id='darker')])
def test_sensor_linear_ramp_fires_at_each_threshold_crossing(rise, polarity):
    sensor = _sensor(threshold=0.2)
    sensor.look(_flat(3.0), 0)
    events = sensor.sample(_flat(3.0 + rise), 100_000)
    assert len(events) == 5 * 48
    assert (events.p == polarity).all()
    pixel = events.t_ns[(events.x == 2) & (events.y == 3)]
    expected = np.arange(1, 6) * 0.2 / 1.05 * 1e8                       # the k-th crossing of a linear ramp
    assert np.abs(pixel - expected).max() < 5_000


def test_sensor_ramp_in_steps_gives_the_events_of_the_whole_ramp():
    whole, steps = _sensor(threshold=0.2), _sensor(threshold=0.2)
    whole.look(_flat(1.0), 0)
    steps.look(_flat(1.0), 0)
    expected = whole.sample(_flat(2.05), 100_000).t_ns
    got = np.concatenate([steps.sample(_flat(1.0 + 1.05 * k / 10), k * 10_000).t_ns for k in range(1, 11)])
    assert len(got) == len(expected)
    assert np.abs(got - expected).max() <= 3_000


def test_sensor_change_below_threshold_is_remembered():
    sensor = _sensor(threshold=0.2)
    sensor.look(_flat(1.0), 0)
    assert len(sensor.sample(_flat(1.15), 1_000)) == 0
    assert len(sensor.sample(_flat(1.25), 2_000)) == 48


def test_sensor_refractory_pixel_is_blind():
    sensor = _sensor(threshold=0.1, refractory_us=40_000.0)
    sensor.look(_flat(0.0), 0)
    events = sensor.sample(_flat(1.05), 100_000)
    for pixel in range(8):
        times = events.t_ns[(events.x == pixel) & (events.y == 0)]
        assert 1 < len(times) < 10
        assert np.diff(times).min() >= 40_000_000


def test_sensor_mismatch_spreads_the_crossing_times():
    sensor = _sensor(threshold=0.2, mismatch=0.03)
    sensor.look(_flat(0.0), 0)
    events = sensor.sample(_flat(0.32), 100_000)
    assert len(np.unique(events.t_ns)) > 30


def test_sensor_leak_fires_on_in_constant_light():
    sensor = _sensor(threshold=0.2, leak_hz=10.0)
    sensor.look(_flat(2.0), 0)
    events = [sensor.sample(_flat(2.0), k * 10_000) for k in range(1, 105)]      # 1.04 s: ten thresholds of leak
    assert sum(len(e) for e in events) == 10 * 48
    assert all((e.p == 1).all() for e in events)


def test_sensor_shot_noise_has_its_rate_and_both_polarities():
    sensor = EventSensor(64, 48, 1, DvsConfig(**{**QUIET, 'shot_hz': 2.0}))
    sensor.look(np.full((48, 64), 2.0, np.float32), 0)
    events = sensor.sample(np.full((48, 64), 2.0, np.float32), 1_000_000)
    assert abs(len(events) - 2 * 64 * 48) <= 1
    assert 0.45 < events.p.mean() < 0.55
    assert (np.diff(events.t_ns) >= 0).all()


def test_sensor_first_sample_gives_no_events():
    assert len(_sensor().sample(_flat(2.0), 5)) == 0


def test_sensor_time_that_does_not_go_on_is_refused():
    sensor = _sensor()
    sensor.look(_flat(0.0), 1_000)
    with pytest.raises(CrossSpecError, match='t_us'):
        sensor.sample(_flat(1.0), 1_000)


@pytest.mark.parametrize('config', [pytest.param({'threshold': 0.0}, id='threshold'),
                                    pytest.param({'leak_hz': -1.0}, id='leak')])
def test_config_out_of_range_is_refused(config):
    with pytest.raises(CrossSpecError, match=next(iter(config))):
        DvsConfig(**config)
