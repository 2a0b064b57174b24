"""Folders of a process: gone at its end, those of killed ones with the next; never those of living ones."""
import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from crossspec_ros import scratch as scratch_room
from crossspec_ros.scratch import Scratch

_HOLDER = '''
import sys
from crossspec_ros.scratch import Scratch
scratch = Scratch('trial')
(scratch.path / 'kept').write_text('x')
print(scratch.path, flush=True)
sys.stdin.read()
scratch.close()
'''


@pytest.fixture(autouse=True)
def room(tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', None)
    yield tmp_path
    tempfile.tempdir = None


@pytest.fixture
def holder():
    """A process that holds a folder, and the folder."""
    process = subprocess.Popen([sys.executable, '-c', _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


def test_a_folder_is_gone_when_it_is_closed(room):
    scratch = Scratch('trial')
    (scratch.path / 'file').write_text('x')
    assert scratch.path.parent == room and scratch.path.name.startswith('crossspec-trial-')
    scratch.close()
    scratch.close()
    assert list(room.iterdir()) == []


def test_a_killed_process_leaves_its_folder_to_the_next_of_the_kind(holder):
    process, left = holder
    assert (left / 'kept').read_text() == 'x'
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    other = Scratch('another')
    assert left.exists()
    scratch = Scratch('trial')
    assert not left.exists() and scratch.path.exists() and other.path.exists()
    scratch.close()
    other.close()


def test_folders_of_the_living_stay(holder):
    process, theirs = holder
    mine = [Scratch('trial') for _ in range(3)]
    assert all(each.path.exists() for each in mine) and (theirs / 'kept').exists()
    process.communicate('')
    assert not theirs.exists()
    for each in mine:
        each.close()


def test_where_folders_cannot_be_locked_they_are_made_and_stay(monkeypatch):
    def refused(handle, operation):
        raise OSError(errno.ENOLCK, 'no locks available')
    monkeypatch.setattr(scratch_room.fcntl, 'flock', refused)
    first, second = Scratch('trial'), Scratch('trial')
    assert first.path.exists() and second.path.exists()
    first.close()
    second.close()
    assert not first.path.exists()


def test_a_folder_that_a_sweep_took_is_made_again(monkeypatch):
    made, real = [], tempfile.mkdtemp

    def taken_at_once(prefix):
        path = real(prefix=prefix)
        made.append(path)
        if len(made) == 1:
            os.rmdir(path)
        return path
    monkeypatch.setattr(tempfile, 'mkdtemp', taken_at_once)
    scratch = Scratch('trial')
    assert len(made) == 2 and scratch.path == Path(made[1]) and scratch.path.exists()
    scratch.close()


def test_a_folder_that_a_sweep_still_looks_at_is_waited_for(monkeypatch):
    made, real = [], tempfile.mkdtemp

    def looked_at(prefix):
        path = real(prefix=prefix)
        made.append(path)
        if len(made) == 1:
            handle = os.open(path, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)

            def sweep():
                os.rmdir(path)
                os.close(handle)
            threading.Timer(0.3, sweep).start()
        return path
    monkeypatch.setattr(tempfile, 'mkdtemp', looked_at)
    scratch = Scratch('trial')
    assert len(made) == 2 and scratch.path == Path(made[1]) and scratch.path.exists()
    scratch.close()
