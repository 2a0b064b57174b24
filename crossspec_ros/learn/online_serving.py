"""Learning for a drafter at the other end of a connection, within a share of a core and a bound of memory."""
from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from crossspec_ros.config import OnlineConfig
from crossspec_ros.learn.online import FEWEST, OnlineLearner
from crossspec_ros.models.drafter import EventDrafter
from crossspec_ros.pipeline.learning_messages import Begin, Heard, Report, RolledBack

_SAVED_S = 0.5                   # of a core's time that may be saved up
_REPORT_S = 1.0
_SPARE_BYTES = 16 << 20          # of the memory, for what allocators keep
_LEAST_WINDOWS = 32
_STEPS, _COPIES = 3, 4           # before memory is measured; of the weights: a rival, and one that is sent


class CpuShare:
    """Time of one core by share: how long to rest after what was used. ``clock`` has the time used so far, s."""

    def __init__(self, share: float, clock: Callable[[], float] = time.process_time,
                 now: Callable[[], float] = time.monotonic) -> None:
        self._share, self._clock, self._now = share, clock, now
        self._used_s, self._at_s, self._credit_s = clock(), now(), 0.0
        self.begun_s, self.before_s = self._at_s, self._used_s

    def rest_s(self) -> float:
        """How long nothing may be done from now on; 0: go on."""
        used_s, at_s = self._clock(), self._now()
        self._credit_s += self._share * (at_s - self._at_s) - (used_s - self._used_s)
        self._credit_s = min(self._credit_s, _SAVED_S)
        self._used_s, self._at_s = used_s, at_s
        return max(0.0, -self._credit_s / self._share)

    def taken(self) -> float:
        """The share that was used since the beginning."""
        passed_s = self._now() - self.begun_s
        return (self._clock() - self.before_s) / passed_s if passed_s > 0 else 0.0


def ring_bytes(drafter: EventDrafter, settings: OnlineConfig, used_bytes: Callable[[], int]) -> int:
    """What is left for windows of the memory that is allowed, measured once all else has been needed.

    ``used_bytes``: the most memory that the process has had. Negative or small: the caller says so.
    """
    learner = OnlineLearner(drafter, replace(settings, judge_windows=8), 1 << 30)
    words = tuple(range(1, min(drafter.config.max_caption_tokens, drafter.config.vocab_size)))
    for window in range(FEWEST):
        learner.hear(Heard(window, 'What is happening?', np.zeros((2, *drafter.shape), np.float16), words))
    for _ in range(FEWEST + _STEPS):                            # each is judged by; then steps of the largest batch
        learner.work()
    weights = 4 * sum(weight.numel() for weight in drafter.parameters())
    return (settings.online_memory_mb << 20) - used_bytes() - _COPIES * weights - _SPARE_BYTES


def peak_bytes() -> int:
    """The most memory that this process has had; what it was forked from does not count."""
    status = Path('/proc/self/status')
    if status.is_file():
        for line in status.read_text(encoding='ascii').splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) << 10
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == 'darwin' else 10)


def serve(link: Connection, clock: Callable[[], float] = time.process_time,
          memory: Callable[[], int] = peak_bytes) -> None:
    """Learn until the other end is closed. Raises OSError where it is closed while something is sent to it."""
    inbox: queue.SimpleQueue[Begin | Heard | RolledBack | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(link, inbox), daemon=True).start()
    begin = inbox.get()
    if begin is None:
        return
    settings, generation, drafter = begin.settings, begin.generation, begin.drafter()
    room = ring_bytes(drafter, settings, memory)
    least = _LEAST_WINDOWS * 2 * 2 * int(np.prod(drafter.shape))
    if room < least:
        needed_mb = settings.online_memory_mb + -(-(least - room) // 2**20)
        link.send(Report(trouble=f'learn.online_memory_mb must be >= {needed_mb} here, got '
                                 f'{settings.online_memory_mb}'))
        return
    learner, told, told_s = OnlineLearner(drafter, settings, room), 0, -_REPORT_S
    share, idle = CpuShare(settings.online_cpu_share, clock), False
    while True:
        try:
            message = inbox.get(timeout=_REPORT_S if idle else min(share.rest_s(), _REPORT_S))
        except queue.Empty:
            if share.rest_s() <= 0:
                idle = not learner.work()
                better = learner.take_better()
                if better is not None:
                    link.send(replace(better, generation=generation))
        else:
            if message is None:
                return
            idle = False
            if isinstance(message, RolledBack):
                learner.roll_back(message.weights)
                generation = message.generation
            else:
                learner.hear(message)
        if learner.taken > told or time.monotonic() - told_s >= _REPORT_S:
            told, told_s = learner.taken, time.monotonic()
            link.send(Report(told, learner.statistics() | {
                'cpu_share': round(share.taken(), 3), 'memory_mb': round(memory() / 2**20)}))


def _listen(link: Connection, inbox: queue.SimpleQueue) -> None:
    """Take what comes at once: who sends must not wait for a step, or both ends would wait while both send."""
    with suppress(EOFError, OSError):
        while True:
            inbox.put(link.recv())
    inbox.put(None)
