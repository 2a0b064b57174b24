"""The map from sensor time to ROS time."""
import numpy as np
import pytest

from crossspec_ros.timing.sensor_clock import SensorClock

S, MS = 1_000_000_000, 1_000_000


def test_sensor_clock_takes_the_smallest_delay():
    clock = SensorClock()
    for packet, delay in enumerate([3 * MS, 1 * MS, 9 * MS]):
        clock.observe(100 * S + packet * 10 * MS + delay, packet * 10 * MS)
    assert clock.offset_ns == 100 * S + 1 * MS


def test_sensor_clock_before_any_packet_knows_nothing():
    assert SensorClock().offset_ns is None


def test_sensor_clock_follows_drift():
    clock = SensorClock()
    for packet in range(4000):                                  # 40 s; the sensor's clock is 100 ppm slow
        sensor_ns = packet * 10 * MS
        clock.observe(100 * S + sensor_ns + sensor_ns // 10_000, sensor_ns)
    drifted = 100 * S + 40 * S // 10_000
    assert drifted - 1.1 * MS < clock.offset_ns <= drifted


def test_sensor_clock_begins_anew_after_a_jump():
    clock = SensorClock()
    assert not clock.observe(100 * S, 5 * S)
    assert clock.observe(101 * S, 0)                            # the camera was started again
    assert clock.offset_ns == 101 * S and clock.jumps == 1


def test_sensor_clock_synchronised_adds_nothing():
    clock = SensorClock(synchronised=True)
    clock.observe(100 * S + 4 * MS, 100 * S)
    assert clock.offset_ns == 0


@pytest.mark.parametrize('synchronised', [False, True])
def test_sensor_clock_settled_first_events_leave_the_offset_as_it_is(synchronised):
    rng = np.random.default_rng(1)
    settled_seen = moved_seen = 0
    clock = SensorClock(synchronised)
    for stamp_ns in range(0, 60 * S, S // 10):
        first_ns = stamp_ns - 500 * S - int(rng.exponential(5e6)) - (3 * S if stamp_ns > 40 * S else 0)
        settled_ns, before = clock.settled(stamp_ns), clock.offset_ns
        clock.observe(stamp_ns, first_ns)
        if settled_ns is not None and settled_ns[0] <= first_ns <= settled_ns[1]:
            assert clock.offset_ns == before
            settled_seen += 1
        else:
            moved_seen += 1
    assert settled_seen > 400 and (moved_seen > 5) != synchronised
