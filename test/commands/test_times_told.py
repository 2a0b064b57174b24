"""Recordings whose times are wrong, by the command line: a caption or a reason, never silence; and always an end."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shared_data import shared
from tiny_pair import write_pair

from crossspec_ros.cli import main
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.bag import BagWriter

MS, S = 1_000_000, 1_000_000_000
START = 1_726_000_000 * S
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    verifier, drafter = write_pair(tmp_path_factory.mktemp('pair'))
    return ['--model', str(verifier), '--drafter', str(drafter)]


def _replay(capsys, bag, *words):
    code = main(['replay', str(bag), '--no-dds', '--json', *words])
    out, err = capsys.readouterr()
    report = json.loads(out)
    drafted, captioned = ({line['window_id'] for line in report['lines'] if line['kind'] == kind}
                          for kind in ('draft', 'caption'))
    return code, report, [line for line in err.splitlines() if line.startswith('crossspec: ')], drafted & captioned


def _bag(path, image_ms, *, packets_ms=(), late_ms=0, stamp=lambda at: at):
    """Pictures at these times and packets at those, ms; ``late_ms`` after their stamps."""
    packetizer = Packetizer('mono', 64, 48)
    with BagWriter(path) as bag:
        for at_ms, what in sorted([(ms + late_ms, 'image') for ms in image_ms] + [(ms, 'events') for ms in packets_ms]):
            if what == 'events':
                t_ns = np.arange(at_ms * MS, (at_ms + 10) * MS, 500_000, dtype=np.int64)
                x = (np.arange(len(t_ns)) % 32).astype(np.uint16)
                burst = Events(t_ns, x, (x * 7 % 48).astype(np.uint16), np.ones(len(t_ns), np.uint8), 64, 48)
                bag.write_packet('/events', START + at_ms * MS, packetizer.packet(burst, START + at_ms * MS))
            else:
                stamp_ns = stamp(START + (at_ms - late_ms) * MS)
                bag.write_rgb('/image', START + at_ms * MS, stamp_ns, np.full((12, 16, 3), np.linspace(0, 255, 48, dtype=np.uint8).reshape(16, 3)))
    return path


@pytest.mark.parametrize('name, captions, dropped, told', [
    pytest.param('08_image_stamps_zero', 3, None, 'all 15 messages on /camera/image_raw have a zero stamp'),
    pytest.param('09_every_third_stamp_zero', 1, ('image_unstamped', 5), '5 of 15 messages on /camera/image_raw'),
    pytest.param('10_camera_clock_3h_behind', 3, None, '3.00 h behind those on /event_camera/events'),
    pytest.param('12_first_stamp_zero', 3, ('image_unstamped', 1), '1 of 15 messages on /camera/image_raw'),
    pytest.param('13_clock_set_while_recording', 3, None, '200.0 days')])
def test_replay_of_a_recording_in_trouble_gives_captions_and_one_line(name, captions, dropped, told, pair, capsys):
    code, report, lines, together = _replay(capsys, shared(f'trouble/{name}') / 'b_0.mcap', *pair)
    assert (code, report['captions'], report['reason']) == (0, captions, None)
    assert told in lines[0] and len(report['notes']) == 1
    assert len(lines) == (2 if name.startswith('09') else 1)
    assert not dropped or report['dropped'][dropped[0]] == dropped[1]
    assert len(together) == (0 if name.startswith('12') else captions)


def test_replay_of_a_camera_at_3_hz_says_what_to_set_and_that_helps(pair, capsys):
    bag = shared('trouble/11_camera_at_3_hz') / 'b_0.mcap'
    code, report, lines, _ = _replay(capsys, bag, *pair)
    assert (code, report['captions'], report['dropped']) == (1, 0, {'window_few_frames': 4})
    assert lines == [f'crossspec: error: {report["reason"]}']
    assert report['reason'] == ('3.0 images/s on /camera/image_raw (12 in 3.7 s); a window of 8 frames 125 ms apart '
                                'needs 8 images/s: set window.frame_interval_ms to 400')
    code, report, lines, _ = _replay(capsys, bag, *pair, '--frame-interval-ms', '400')
    assert code == 0 and report['captions'] >= 1 and not lines


@pytest.mark.parametrize('name', ['12_first_stamp_zero', '13_clock_set_while_recording'])
def test_films_of_recordings_in_trouble_end(name, tmp_path, capfd):
    assert main(['bag', 'render', str(shared(f'trouble/{name}') / 'b_0.mcap'), str(tmp_path / 'film.mp4')]) == 0
    out, err = capfd.readouterr()
    assert 50 <= int(out.split()[-2]) <= 100
    assert len([line for line in err.splitlines() if line.startswith('crossspec: ')]) == 1


def test_replay_of_less_than_a_window_says_so(tmp_path, pair, capsys):
    code, report, lines, _ = _replay(capsys, _bag(tmp_path / 'bag', range(100, 400, 100)), *pair)
    assert code == 1 and '3 images in 0.2 s on /image; a window of 8 frames 125 ms apart is 1 s long' in lines[-1]
    assert report['dropped'] == {'window_few_frames': 1}


def test_replay_of_images_too_late_says_what_to_set_and_that_helps(tmp_path, pair, capsys):
    bag = _bag(tmp_path / 'bag', range(100, 3000, 100), late_ms=700)
    code, report, lines, _ = _replay(capsys, bag, *pair)
    assert code == 1 and 'came too late, 700 ms after their stamps' in lines[-1]
    assert lines[-1].endswith('set frames.grace_ms to 1000')
    assert report['dropped']['frames_late'] > 20
    code, report, *_ = _replay(capsys, bag, *pair, '--frame-grace-ms', '1000')
    assert code == 0 and report['captions'] >= 2 and 'frames_late' not in report['dropped']


def test_replay_of_events_and_images_at_other_times_says_so(tmp_path, pair, capsys):
    bag = _bag(tmp_path / 'bag', range(8100, 11_000, 100), packets_ms=range(100, 3000, 10))
    code, report, lines, together = _replay(capsys, bag, *pair)
    assert code == 0 and report['captions'] and report['drafts'] and not together
    assert 'no window has both a draft and a caption: events on /events are from 0.0 to 2.9 s' in lines[-1]


def test_replay_of_most_stamps_zero_counts_them_and_gives_the_reason(tmp_path, pair, capsys):
    bag = _bag(tmp_path / 'bag', range(100, 5000, 100), stamp=lambda at: at if at // (100 * MS) % 8 == 0 else 0)
    code, report, lines, _ = _replay(capsys, bag, *pair)
    assert code == 1 and report['dropped']['image_unstamped'] == 43
    assert 'dropped for a zero stamp' in lines[0] and '1.2 images/s on /image' in lines[-1]


def _player(bag, *words):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
                   'ROS_DOMAIN_ID': str(_free_domain())}
    return subprocess.run([sys.executable, '-m', 'crossspec_ros.cli', 'replay', str(bag), *words], capture_output=True,
                          text=True, timeout=300, env=environment)


def _free_domain():
    from crossspec_ros.demo.options import free_domain
    return free_domain(1 + os.getpid() % 101)


@pytest.mark.timeout(400)
@pytest.mark.parametrize('name, told', [
    pytest.param('11_camera_at_3_hz', '3.0 images/s on /camera/image_raw', id='slow'),
    pytest.param('12_first_stamp_zero', '1 of 15 messages on /camera/image_raw', id='first_zero'),
    pytest.param('13_clock_set_while_recording', '200.0 days', id='clock_set')])
def test_replay_over_dds_ends_and_tells(name, told):
    pytest.importorskip('crossspec_ros.msg', reason='the messages are not built')
    done = _player(shared(f'trouble/{name}') / 'b_0.mcap')
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count(told) == 1
