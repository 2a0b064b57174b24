"""Processes that are looked after: what comes back, when, and what does not."""
import os
import signal
import sys
import time

import pytest

from crossspec_ros import supervisor
from crossspec_ros.supervisor import Supervisor

SLEEP = 'import time; time.sleep(600)'


def supervised(restart: bool, delay_s: float = 0.0, **programs: str) -> Supervisor:
    made = Supervisor(dict(os.environ), restart, delay_s=delay_s)
    for name, program in programs.items():
        made.start(name, [sys.executable, '-c', program])
    return made


def wait_for(condition, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, 'did not happen in time'
        time.sleep(0.02)


def test_supervisor_ends_what_it_started():
    mine = supervised(False, one=SLEEP, two=SLEEP)
    assert mine.look() is None
    mine.end()
    assert all(known.process.poll() is not None for known in mine.running.values())


def test_supervisor_tells_the_worst_exit_code_when_all_have_ended():
    mine = supervised(False, one='pass', two='raise SystemExit(2)')
    codes = []
    wait_for(lambda: codes.append(mine.look()) or codes[-1] is not None)
    assert codes[-1] == 2


def test_supervisor_restarts_a_killed_node_and_lets_an_ended_one_rest():
    mine = supervised(True, one=SLEEP, two='pass')
    try:
        first = mine.running['one'].process
        first.send_signal(signal.SIGKILL)
        wait_for(lambda: mine.look() is None and mine.running['one'].process.pid != first.pid)
        wait_for(lambda: mine.look() is None and mine.running['two'].process.poll() == 0)
        assert mine.running['two'].restart_at_s in (None, float('inf'))
    finally:
        mine.end()


@pytest.mark.parametrize('failures', [0, 1, 4])
def test_supervisor_restarts_at_once_what_had_lived_for_a_while(monkeypatch, failures):
    monkeypatch.setattr(supervisor, '_STABLE_S', 0.0)
    mine = supervised(True, one='raise SystemExit(1)')
    mine.running['one'].failures = failures
    try:
        mine.running['one'].process.wait(20)
        mine.look()
        assert mine.running['one'].restart_at_s <= time.monotonic()
    finally:
        mine.end()


def test_supervisor_waits_longer_for_what_ends_at_its_start(monkeypatch):
    monkeypatch.setattr(supervisor, '_STABLE_S', 1e9)
    waits = []
    for failures in range(7):
        mine = supervised(True, one='raise SystemExit(1)')
        mine.running['one'].failures = failures
        mine.running['one'].process.wait(20)
        before_s = time.monotonic()
        mine.look()
        waits.append(round(mine.running['one'].restart_at_s - before_s))
        mine.end()
    assert waits == [0, 1, 2, 5, 10, 10, 10]


def test_supervisor_waits_as_long_as_it_is_told_to():
    mine = supervised(True, delay_s=7.0, one='raise SystemExit(1)')
    try:
        mine.running['one'].process.wait(20)
        before_s = time.monotonic()
        assert mine.look() is None
        assert round(mine.running['one'].restart_at_s - before_s) == 7
    finally:
        mine.end()
