"""The map from sensor time to ROS time."""
from crossspec_ros.pipeline.sensor_clock import SensorClock

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
