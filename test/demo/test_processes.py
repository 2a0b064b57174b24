"""Processes are watched, named when they fail, and always ended."""
import os
import signal
import sys
import time

import psutil
import pytest

from crossspec_ros.demo.processes import Processes
from crossspec_ros.errors import CrossSpecError

SLEEP = 'import time\nprint("here", flush=True)\ntime.sleep(60)'
STUBBORN = 'import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n' + SLEEP


def _start(group, name, code):
    return group.start(name, [sys.executable, '-c', code], os.environ)


def _wait_for_output(group, name):
    until = time.monotonic() + 20
    while 'here' not in group.log_tail(name):
        assert time.monotonic() < until, group.log_tail(name)
        time.sleep(0.02)


def test_processes_end_with_the_block_even_on_error(tmp_path):
    with pytest.raises(ValueError), Processes(tmp_path) as group:
        pid = _start(group, 'one', SLEEP)
        _wait_for_output(group, 'one')
        raise ValueError
    assert not psutil.pid_exists(pid)
    assert group.exit_codes()['one'] == -signal.SIGINT or group.exit_codes()['one'] == 1


def test_processes_that_ignore_sigint_are_ended_all_the_same(tmp_path):
    with Processes(tmp_path) as group:
        _start(group, 'stubborn', STUBBORN)
        _wait_for_output(group, 'stubborn')
        group.end('stubborn', timeout_s=0.5)
        assert group.exit_codes() == {'stubborn': -signal.SIGTERM}
        group.check()                                                 # told to end: no failure


@pytest.mark.parametrize(('code', 'words'), [
    pytest.param('raise SystemExit("the weights are not there")', 'exit code 1.*the weights are not there', id='exit'),
    pytest.param('import os, signal; os.kill(os.getpid(), signal.SIGKILL)', 'ended by SIGKILL', id='killed'),
    pytest.param('pass', 'exit code 0', id='ended_early'),
])
def test_processes_check_names_who_failed_and_why(tmp_path, code, words):
    with Processes(tmp_path) as group:
        _start(group, 'verifier', code)
        until = time.monotonic() + 20
        while group.running('verifier') and time.monotonic() < until:
            time.sleep(0.02)
        with pytest.raises(CrossSpecError, match=f'(?s)the verifier process .*{words}'):
            group.check()


def test_processes_sample_keeps_the_peak(tmp_path):
    with Processes(tmp_path) as group:
        _start(group, 'big', 'x = bytearray(80_000_000)\n' + SLEEP)
        _wait_for_output(group, 'big')
        group.sample()
        group.check()
    assert 80 < group.rss_mb()['big'] < 300
