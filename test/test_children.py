"""Child processes listen to the ladder of signals, together, and those that do not are named."""
import os
import signal
import subprocess
import sys

import pytest

from crossspec_ros import children


def child(ignored: str) -> subprocess.Popen:
    code = ('import signal, time\n'
            f'for name in {ignored.split()!r}: signal.signal(getattr(signal, name), signal.SIG_IGN)\n')
    process = children.start([sys.executable, '-c', code + 'print("here", flush=True)\ntime.sleep(60)'], os.environ,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == 'here\n'
    return process


@pytest.mark.parametrize('ignored, code', [
    pytest.param('', 1, id='listens'), pytest.param('SIGINT', -signal.SIGTERM, id='to be insisted'),
    pytest.param('SIGINT SIGTERM', -signal.SIGKILL, id='to be ended')])
def test_end_climbs_the_ladder(ignored, code):
    process, heard = child(ignored), []
    children.end([process], 0.6 if ignored else 60.0, heard.append)
    assert process.returncode in (code, -signal.SIGINT if not ignored else code)
    assert heard == [f'pid {process.pid} does not end on {name}' for name in ignored.split()]
    process.stdout.close()


def test_end_of_nothing_says_nothing():
    process = child('')
    process.kill()
    process.wait()
    process.stdout.close()
    children.end([process], 5.0, pytest.fail)
    children.end([], 5.0, pytest.fail)


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM])
def test_start_does_not_lose_a_signal_that_comes_amid_the_fork(sign):
    code = f'''
import os, signal, subprocess, sys
from crossspec_ros import children

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal({int(sign)}, interrupt)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), {int(sign)}))
try:
    children.start([sys.executable, '-c', 'import time; time.sleep(60)'], os.environ)
except KeyboardInterrupt:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print('interrupted, no child left')
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ('interrupted, no child left\n', '')
