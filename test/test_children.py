"""Child processes listen to the ladder of signals, together, and those that do not are named."""
import os
import signal
import subprocess
import sys

import pytest

from crossspec_ros import children


def child(ignored: str) -> subprocess.Popen:
    code = f'import signal, time\nfor name in {ignored.split()!r}: signal.signal(getattr(signal, name), signal.SIG_IGN)\n'
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
