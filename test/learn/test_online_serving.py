"""The other end of a drafter that learns: its share of a core, its bound of memory, and what it answers."""
from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np
import pytest
from test_online import SETTINGS, heard, make_drafter

from crossspec_ros.learn.online_serving import CpuShare, peak_bytes, serve
from crossspec_ros.pipeline.learning_messages import Begin, Better, Report, RolledBack, weights_of


class Learner:
    """`serve` in a thread, and the connection to it."""

    def __init__(self, memory=lambda: 0, **settings) -> None:
        self.drafter = make_drafter()
        ours, theirs = (Connection(end.detach()) for end in socket.socketpair())
        self.link, self._end = ours, theirs
        self.thread = threading.Thread(target=self._serve, args=(theirs, memory), daemon=True)
        self.thread.start()
        chosen = replace(SETTINGS, **settings)
        ours.send(Begin(chosen, self.drafter.config, self.drafter.tokenizer.to_str(), weights_of(self.drafter), 7))

    @staticmethod
    def _serve(link, memory) -> None:
        with suppress(OSError):                                 # the test has closed its end
            serve(link, lambda: 0.0, memory)

    def until(self, wanted, feed: bool = False):
        """The first message that is wanted; with ``feed`` a window is sent for each that was taken, after a moment in
        which nothing waits: that is when it learns."""
        until_s, number = time.monotonic() + 240, 0
        while time.monotonic() < until_s:
            if feed:
                self.link.send(heard(number))
                number += 1
            while self.link.poll(1.0):
                message = self.link.recv()
                if wanted(message):
                    return message
                if feed and isinstance(message, Report):
                    time.sleep(0.1)
                    break
        raise AssertionError('it never came')

    def close(self) -> None:
        self.link.close()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self._end.close()


@pytest.fixture
def learner():
    made = Learner()
    yield made
    made.close()


def test_what_took_over_carries_the_generation_that_it_began_with(learner):
    better = learner.until(lambda message: isinstance(message, Better), feed=True)
    assert better.generation == 7 and better.tau_after > better.tau_before
    learner.link.send(RolledBack(weights_of(learner.drafter), 8))
    again = learner.until(lambda message: isinstance(message, Better) and message.generation == 8, feed=True)
    assert set(again.weights) == set(better.weights)


def test_windows_that_were_taken_are_told(learner):
    for number in range(3):
        learner.link.send(heard(number))
    report = learner.until(lambda message: isinstance(message, Report) and message.taken == 3)
    assert report.values['judged'] == 3 and not report.trouble and report.values['memory_mb'] == 0


def test_too_little_memory_is_refused_with_what_would_do():
    made = Learner(memory=lambda: 100 << 20, online_memory_mb=64)
    report = made.until(lambda message: isinstance(message, Report))
    assert report.trouble.startswith('learn.online_memory_mb must be >= 11') and report.trouble.endswith('got 64')
    made.close()


def test_the_share_is_kept_and_little_is_saved_up():
    used, now = [0.0], [0.0]
    share = CpuShare(0.25, lambda: used[0], lambda: now[0])
    assert share.rest_s() == 0
    used[0], now[0] = 1.0, 1.0                                  # a second of work: three more of rest
    assert share.rest_s() == pytest.approx(3.0) and share.taken() == pytest.approx(1.0)
    now[0] = 3.9
    assert share.rest_s() == pytest.approx(0.1)
    now[0] = 4.1
    assert share.rest_s() == 0
    now[0] = 10_000.0                                           # hours of rest are worth half a second
    assert share.rest_s() == 0
    used[0] = 2.0
    assert share.rest_s() == pytest.approx(2.0)


def test_memory_is_this_process_own():
    first = peak_bytes()
    held = np.ones(8 << 20)
    assert first > 10 << 20 and peak_bytes() >= first and held.nbytes < 1 << 30
