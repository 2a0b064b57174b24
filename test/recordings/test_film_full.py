"""A film on a disk that is full: an error in a line, and the process lives on."""
import subprocess
import sys

import pytest

pytest.importorskip('av')
pytest.importorskip('resource')
PROGRAM = '''
import resource, sys
import numpy as np
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.film import Film
film = Film(sys.argv[1], 10.0, live=True)
noise = np.random.default_rng(0)
film.add(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8))
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    for number in range(200):
        film.add(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8))
except CrossSpecError as error:
    print('told:', error)
try:
    film.close()
except CrossSpecError:
    pass
film.close()
print('alive')
'''


def test_film_without_room_is_told_and_ends_nothing(tmp_path):
    done = subprocess.run([sys.executable, '-c', PROGRAM, str(tmp_path / 'film.mp4')], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    assert 'make room' in done.stdout and done.stdout.endswith('alive\n')
