"""Films of bags show the events and the images of their time."""
from __future__ import annotations

import signal
import subprocess
import sys

import av
import numpy as np
import pytest

from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.bag import BagWriter
from crossspec_ros.recordings.film import Film
from crossspec_ros.recordings.render import render

MS = 1_000_000


def _write(path, events=True, images=True):
    """Half a second: ON events in the left half of the sensor, a picture that turns from red to green in the middle."""
    packetizer = Packetizer('mono', 64, 48)
    with BagWriter(path) as bag:
        for ms in range(0, 500, 10):
            if events:
                t_ns = np.arange(ms * MS, (ms + 10) * MS, 50_000, dtype=np.int64)
                x = (np.arange(len(t_ns)) % 32).astype(np.uint16)
                burst = Events(t_ns, x, (x * 7 % 48).astype(np.uint16), np.ones(len(t_ns), np.uint8), 64, 48)
                bag.write_packet('/events', ms * MS, packetizer.packet(burst, ms * MS))
            if images and ms % 50 == 0:
                colour = (200, 0, 0) if ms < 250 else (0, 200, 0)
                bag.write_rgb('/image', ms * MS + 1, ms * MS, np.full((60, 80, 3), colour, np.uint8))
    return path


def _frames(path):
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format='rgb24').astype(int) for frame in film.decode(video=0)]


def test_render_puts_events_beside_images_of_the_same_time(tmp_path):
    assert main(['bag', 'render', str(_write(tmp_path / 'bag')), str(tmp_path / 'film.mp4'), '--fps', '20', '--height',
                 '96']) == 0
    frames = _frames(tmp_path / 'film.mp4')
    assert len(frames) == 10
    assert frames[0].shape == (96, 128 + 128, 3)
    left, right = frames[3][:, :64], frames[3][:, 66:126]
    assert left.max() > right.max() + 50                                   # events in the left half of the sensor only
    red, green = frames[2][20:70, 150:240].mean((0, 1)), frames[8][20:70, 150:240].mean((0, 1))
    assert red[0] > 150 > red[1] and green[1] > 150 > green[0]


@pytest.mark.parametrize(('sides', 'width'), [pytest.param({'images': False}, 128, id='events_only'),
                                              pytest.param({'events': False}, 128, id='images_only')])
def test_render_of_one_sensor_shows_that_one(sides, width, tmp_path):
    assert render(_write(tmp_path / 'bag', **sides), tmp_path / 'film.mp4', fps=20, height=96) == 10
    assert _frames(tmp_path / 'film.mp4')[0].shape == (96, width, 3)


@pytest.mark.parametrize('options', [pytest.param({'fps': 0.0}, id='no_fps'), pytest.param({'height': 2}, id='flat'),
                                     pytest.param({'start_s': 9.0}, id='behind_the_end')])
def test_render_refuses_what_cannot_be(options, tmp_path):
    with pytest.raises(CrossSpecError):
        render(_write(tmp_path / 'bag'), tmp_path / 'film.mp4', **options)


def test_film_refuses_another_size_and_an_unwritable_file(tmp_path):
    with Film(tmp_path / 'film.mp4', 10) as film:
        film.add(np.zeros((20, 30, 3), np.uint8))
        with pytest.raises(CrossSpecError, match='30x20'):
            film.add(np.zeros((20, 32, 3), np.uint8))
    with pytest.raises(CrossSpecError, match='cannot be written'):
        with Film(tmp_path / 'none' / 'film.mp4', 10) as film:
            film.add(np.zeros((20, 30, 3), np.uint8))


@pytest.mark.parametrize('live', [pytest.param(True, id='live'), pytest.param(False, id='rendered')])
def test_film_of_a_killed_process_plays(tmp_path, live):
    path = tmp_path / 'film.mp4'
    code = ('import os, signal, sys, numpy as np\nfrom crossspec_ros.recordings.film import Film\n'
            f'film = Film({str(path)!r}, 10.0, live={live})\n'
            'for number in range(100):\n'
            '    film.add(np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8))\n'
            'os.kill(os.getpid(), signal.SIGKILL)\n')
    assert subprocess.run([sys.executable, '-c', code], timeout=120).returncode == -signal.SIGKILL
    with av.open(str(path)) as film:
        pictures = sum(1 for _ in film.decode(video=0))
    assert pictures >= (80 if live else 1)                      # live, at most the last fragment and a second are lost
