"""Why nothing came of a recording: one line with the numbers, and what to set really helps."""
from __future__ import annotations

import re

import pytest

from crossspec_ros.recordings.outlook import (Passed, Passing, filled_slots, gives_windows, why_few, why_late,
                                              why_never_together, why_no_window, why_nothing)
from crossspec_ros.timing.window import WindowGrid

S = 1_000_000_000
START = 1_726_000_000 * S


def _passed(rate_hz, seconds, delay_ms=5, topic='/image', start_s=0.1):
    count = max(1, round(rate_hz * seconds))
    stamps = [START + round((start_s + i / rate_hz) * S) for i in range(count)]
    return Passed(topic, stamps, [stamp + delay_ms * 10**6 for stamp in stamps])


def test_filled_slots_count_a_picture_for_every_window_it_is_in():
    grid = WindowGrid(4, 100.0, 2)
    assert filled_slots([50_000_000, 60_000_000, 150_000_000], grid) == {1: 2, 2: 2}
    assert gives_windows([50_000_000, 150_000_000], grid) and not gives_windows([50_000_000], grid)


@pytest.mark.parametrize('rate_hz', [0.05, 0.5, 1.0, 2.0, 2.5, 3.0])
def test_a_slow_camera_is_told_with_an_interval_that_works(rate_hz):
    images = _passed(rate_hz, 30 / rate_hz)
    said = why_no_window(images, WindowGrid())
    assert re.match(rf'{rate_hz:.1f} images/s on /image \(30 in .* s\); a window of 8 frames 125 ms apart needs '
                    r'8 images/s: set window.frame_interval_ms to \d+$', said)
    interval_ms = float(said.split()[-1])
    assert gives_windows(images.stamps_ns, WindowGrid(frame_interval_ms=interval_ms))
    assert 1000 / rate_hz <= 1.02 * interval_ms


def test_a_camera_too_slow_for_every_window_is_told_where_windows_were_given_up():
    assert why_few(_passed(5.0, 9.0), 3, WindowGrid()) is None and why_few(_passed(3.7, 9.0), 0, WindowGrid()) is None
    assert why_few(_passed(3.7, 9.0), 5, WindowGrid()) == (
        '5 windows had images in fewer than half of their slots: 3.7 images/s on /image (33 in 8.6 s); a window of '
        '8 frames 125 ms apart needs 8 images/s: set window.frame_interval_ms to 300')


def test_three_a_second_need_400_ms():
    assert why_no_window(_passed(3.0, 4.0), WindowGrid()).endswith('set window.frame_interval_ms to 400')


@pytest.mark.parametrize('images, way_out', [
    pytest.param(_passed(10.0, 0.3), r'set window.frame_interval_ms to \d+|record at least 2 s', id='0.3_s'),
    pytest.param(_passed(30.0, 0.4, start_s=0.8), r'set window.frame_interval_ms to \d+', id='0.4_s_over_a_border'),
    pytest.param(_passed(1.0, 1.0), 'record at least 2 s', id='one_image')])
def test_a_recording_shorter_than_a_window_is_told(images, way_out):
    said = why_no_window(images, WindowGrid())
    assert '1 s long' in said and re.search(way_out, said) and '\n' not in said


def test_enough_images_are_not_told_of():
    assert why_no_window(_passed(8.0, 3.0), WindowGrid()) is None
    assert why_no_window(_passed(4.1, 3.0), WindowGrid()) is None
    assert why_no_window(Passed(), WindowGrid()) is None


def test_late_images_are_told_with_a_grace_that_is_long_enough():
    images = _passed(8.0, 3.0, delay_ms=1500)
    assert why_late(images, 3, 60.0) is None
    assert why_late(images, 23, 60.0) == ('23 of 24 images on /image came too late, 1500 ms after their stamps '
                                          '(median); a slot waits 60 ms for its image: set frames.grace_ms to 2000')


def test_nothing_is_told_with_all_counts():
    passing = Passing()
    assert why_nothing(passing, {'image_unstamped': 7}, WindowGrid(), 60.0) == (
        'nothing to caption came; dropped: image_unstamped 7')
    passing.events = _passed(100.0, 0.5, topic='/events')
    assert 'on /events gave no draft; dropped: events_refused 50' in why_nothing(
        passing, {'events_refused': 50}, WindowGrid(), 60.0)
    passing.images = _passed(10.0, 3.0)
    assert '30 of 30 images on /image cannot be used' in why_nothing(
        passing, {'image_refused': 20, 'frames_damaged': 10}, WindowGrid(), 60.0)
    assert '30 images in 2.9 s on /image gave no caption; dropped: window_overtaken 2' in why_nothing(
        passing, {'window_overtaken': 2, 'frames_late': 0}, WindowGrid(), 60.0)


def test_windows_that_never_meet_are_told():
    passing = Passing()
    passing.events, passing.images = _passed(100.0, 3.0, topic='/events'), _passed(10.0, 3.0, start_s=5.1)
    assert why_never_together(passing, {1, 2}, {2, 3}) is None and why_never_together(passing, {1}, set()) is None
    assert why_never_together(passing, {1, 2}, {5, 6}) == (
        'no window has both a draft and a caption: events on /events are from 0.0 to 3.0 s, images on /image from '
        '5.0 to 7.9 s of the recording')
