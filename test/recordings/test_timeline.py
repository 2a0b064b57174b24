"""Times of whole bags: no single stamp decides when a recording begins, ends, or how long a film of it is."""
from __future__ import annotations

import struct

import numpy as np
import pytest

from crossspec_ros.cli import main
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.bag import BagWriter
from crossspec_ros.recordings.bag_info import bag_info
from crossspec_ros.recordings.sources import BagSource
from crossspec_ros.recordings.timeline import header_stamp_ns, with_stamp

MS, S = 1_000_000, 1_000_000_000
START = 1_726_000_000 * S
LATER = 200 * 86_400 * S


def write_bag(path, *, image_stamp=lambda i, at: at, event_stamp=lambda i, at: at, log=lambda at: at, seconds=3.0,
              image_ms=200, images=True, events=True):
    """Packets every 10 ms and pictures every ``image_ms``; ``log`` moves the recording time of what was at ``at``, ns.
    """
    packetizer = Packetizer('mono', 64, 48)
    with BagWriter(path) as bag:
        for number, ms in enumerate(range(10, round(1000 * seconds) + 1, 10)):
            at = START + ms * MS
            if events:
                t_ns = np.arange(ms * MS, (ms + 10) * MS, 500_000, dtype=np.int64)
                x = (np.arange(len(t_ns)) % 32).astype(np.uint16)
                burst = Events(t_ns, x, (x * 7 % 48).astype(np.uint16), np.ones(len(t_ns), np.uint8), 64, 48)
                bag.write_packet('/events', log(at), packetizer.packet(burst, event_stamp(number, at)))
            if images and ms % image_ms == 0:
                stamp = image_stamp(ms // image_ms - 1, at)
                bag.write_rgb('/image', log(at) + MS, stamp, np.full((12, 16, 3), np.linspace(0, 255, 48, dtype=np.uint8).reshape(16, 3)))
    return path


def _pass(path):
    source = BagSource(path)
    messages = list(source.messages(source.start_ns))
    source.close()
    return source, messages


def _stamps(messages, role='image'):
    return [message.stamp_ns for message in messages if message.role == role]


GOOD = [START + ms * MS for ms in range(200, 3001, 200)]


def test_a_bag_with_nothing_wrong_is_played_as_it_is(tmp_path):
    source, messages = _pass(write_bag(tmp_path / 'bag'))
    assert source.notes == () and not source.dropped
    assert _stamps(messages) == GOOD
    assert (source.start_ns, source.end_ns) == (START + 10 * MS, START + 3001 * MS)


@pytest.mark.parametrize('number', [pytest.param(0, id='first'), pytest.param(7, id='middle'),
                                    pytest.param(14, id='last')])
@pytest.mark.parametrize('stamp_ns, cause', [
    pytest.param(0, 'image_unstamped', id='zero'), pytest.param(START + LATER, 'image_stamp_off', id='future'),
    pytest.param(START - LATER, 'image_stamp_off', id='past'), pytest.param(5 * S, 'image_stamp_off', id='boot')])
@pytest.mark.parametrize('events', [True, False])
def test_one_stamp_decides_nothing(tmp_path, number, stamp_ns, cause, events):
    path = write_bag(tmp_path / 'bag', image_stamp=lambda i, at: stamp_ns if i == number else at, events=events)
    source, messages = _pass(path)
    assert _stamps(messages) == GOOD[:number] + GOOD[number + 1:]
    assert source.dropped == {cause: 1}
    assert len(source.notes) == 1 and f'number {number}' in source.notes[0] and '1 of 15' in source.notes[0]
    assert 2.5 < (source.end_ns - source.start_ns) / S < 3


def test_a_packet_far_off_is_dropped_too(tmp_path):
    source, messages = _pass(write_bag(tmp_path / 'bag', event_stamp=lambda i, at: 0 if i == 0 else at))
    assert source.dropped == {'events_unstamped': 1} and len(_stamps(messages, 'events')) == 299


@pytest.mark.parametrize('image_stamp, why', [
    pytest.param(lambda i, at: 0, 'zero stamp', id='zero'),
    pytest.param(lambda i, at: START, 'stand still', id='frozen'),
    pytest.param(lambda i, at: i ** 3 * 1000 * S + S, 'no clock', id='of_no_clock')])
def test_recording_times_stand_in_where_no_stamp_says_anything(tmp_path, image_stamp, why):
    source, messages = _pass(write_bag(tmp_path / 'bag', image_stamp=image_stamp))
    assert _stamps(messages) == [stamp + MS for stamp in GOOD] and not source.dropped
    assert why in source.notes[0] and 'all 15' in source.notes[0]
    image = next(message for message in messages if message.role == 'image')
    assert image.data.stamp_ns == header_stamp_ns(image.cdr) == image.stamp_ns     # both ways of playing it


@pytest.mark.parametrize('by_ns', [-3 * 3600 * S, 3 * 3600 * S, -40 * S, -20_000 * 86_400 * S + 5])
@pytest.mark.parametrize('whose', ['image_stamp', 'event_stamp'])
def test_clocks_of_two_topics_are_brought_together(tmp_path, by_ns, whose):
    source, messages = _pass(write_bag(tmp_path / 'bag', **{whose: lambda i, at: at + by_ns}))
    assert all(abs(stamp - good) <= MS for stamp, good in zip(_stamps(messages), GOOD, strict=True))
    assert all(abs(message.due_ns - message.stamp_ns) <= MS for message in messages)
    assert len(source.notes) == 1 and ('behind' if by_ns < 0 else 'ahead of') in source.notes[0]


@pytest.mark.parametrize('by_ns', [-3600 * S, 3600 * S, -4 * S])
@pytest.mark.parametrize('events', [True, False])
def test_a_camera_clock_set_meanwhile_goes_on(tmp_path, by_ns, events):
    path = write_bag(tmp_path / 'bag', image_stamp=lambda i, at: at + by_ns if i >= 8 else at, events=events)
    source, messages = _pass(path)
    assert _stamps(messages) == GOOD and '7 stamps on /image' in source.notes[0]


@pytest.mark.parametrize('later_ns', [LATER, 3600 * S, 60 * S])
def test_a_clock_set_while_recording_leaves_no_gap_to_wait_for(tmp_path, later_ns):
    path = write_bag(tmp_path / 'bag', image_stamp=lambda i, at: at + later_ns * (i >= 7),
                     event_stamp=lambda i, at: at + later_ns * (i >= 150),
                     log=lambda at: at + later_ns * (at > START + 1500 * MS))
    source, messages = _pass(path)
    assert _stamps(messages) == GOOD and [m.due_ns for m in messages] == sorted(m.due_ns for m in messages)
    assert (source.end_ns - source.start_ns) / S < 3.5
    assert len(source.notes) == 1 and 'nothing was recorded for' in source.notes[0]
    source = BagSource(path)                                                # starting after the gap finds what is there
    assert _stamps(list(source.messages(source.start_ns + 2 * S))) == [at for at in GOOD if at > START + 2 * S]
    source.close()


def test_a_slow_camera_is_no_gap(tmp_path):
    source, messages = _pass(write_bag(tmp_path / 'bag', events=False, image_ms=20_000, seconds=100.0))
    assert source.notes == () and len(messages) == 5 and source.end_ns - source.start_ns == 80 * S


def test_a_bag_written_again_with_two_clocks_never_silently_misses(tmp_path):
    year = iter(range(START + LATER, START + LATER + 10**6))
    source, messages = _pass(write_bag(tmp_path / 'bag', image_stamp=lambda i, at: at - 3 * 3600 * S,
                                       log=lambda at: next(year)))
    assert len(source.notes) == 1 and '3.00 h' in source.notes[0]
    assert all(abs(stamp - good) <= 200 * MS for stamp, good in zip(_stamps(messages), GOOD, strict=True))


@pytest.mark.parametrize('bad', [
    pytest.param({'image_stamp': lambda i, at: 0 if i == 0 else at}, id='first_zero'),
    pytest.param({'image_stamp': lambda i, at: START + LATER if i == 3 else at}, id='one_in_the_future'),
    pytest.param({'log': lambda at: at + LATER * (at > START + S), 'image_stamp': lambda i, at: at + LATER * (i > 4),
                  'event_stamp': lambda i, at: at + LATER * (i >= 100)}, id='clock_set')])
@pytest.mark.parametrize('events', [True, False])
def test_films_are_as_long_as_the_recording(tmp_path, bad, events, capfd):
    path = write_bag(tmp_path / 'bag', events=events, **bad)
    assert main(['bag', 'render', str(path), str(tmp_path / 'film.mp4'), '--fps', '10', '--height', '48']) == 0
    out, err = capfd.readouterr()
    assert 25 <= int(out.split()[-2]) <= 40
    assert sum(line.startswith('crossspec: ') for line in err.splitlines()) == 1


def test_bag_info_tells_robust_times_and_which_messages_are_off(tmp_path, capsys):
    path = write_bag(tmp_path / 'bag', image_stamp=lambda i, at: {0: 0, 5: 7 * S}.get(i, at))
    info = bag_info(path)
    assert (info['start_ns'], info['duration_s']) == (START + 10 * MS, pytest.approx(2.991))
    assert info['stamps']['/image'] == {'unstamped': [0], 'off': [5], 'recording_times_stand_in': False,
                                        'recorded_after_stamp_ms': 1.0}
    assert (info['topics']['/image']['first_ns'], info['topics']['/image']['last_ns']) == (GOOD[1], GOOD[-1])
    assert main(['bag', 'info', str(path)]) == 0
    said = capsys.readouterr().out
    assert 'duration 2.991 s' in said and said.count('note: ') == 2


def test_stamps_of_serialised_messages_in_both_byte_orders():
    for order, flag in (('<', 1), ('>', 0)):
        cdr = bytes([0, flag, 0, 0]) + struct.pack(order + 'iI', 17, 5) + b'rest'
        assert header_stamp_ns(cdr) == 17 * S + 5
        assert header_stamp_ns(with_stamp(cdr, 3 * S + 2)) == 3 * S + 2 and with_stamp(cdr, 1).endswith(b'rest')
    assert header_stamp_ns(b'\0\1\0\0') is None
