"""What learning while driving costs drafts: how long they take beside a process that learns, or a thread."""
from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import numpy as np

from crossspec_ros.config import OnlineConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.online_serving import serve
from crossspec_ros.models.drafter import EventDrafter
from crossspec_ros.pipeline.learning import LearningProcess
from crossspec_ros.pipeline.learning_messages import Begin, Heard, Report, weights_of

ALONE, PROCESS, THREAD = 'alone', 'beside a process that learns', 'beside a thread that learns'
MODES = (ALONE, PROCESS, THREAD)
_PAUSE_S = 0.15
_PATIENCE_S = 120.0
_FED = 16                        # windows to learn from before drafts are timed


def draft_times(drafter: EventDrafter, windows: Sequence[Heard], settings: OnlineConfig, mode: str, count: int
                ) -> dict[str, float]:
    """Percentiles of ``count`` drafts with pauses between them, ms, and the learner's share of a core meanwhile.

    A window is sent before each draft, so that there always is something to learn.
    """
    with _learner(mode, settings) as link:
        if link is not None:
            link.send(Begin(settings, drafter.config, drafter.tokenizer.to_str(), weights_of(drafter), 0))
            for window in range(_FED):
                link.send(windows[window % len(windows)])
            _until_taken(link, _FED)
        times_ms, report = [], Report()
        for number in range(count):
            heard = windows[number % len(windows)]
            if link is not None:
                link.send(heard)
                report = _newest(link, report)
            time.sleep(_PAUSE_S)
            made = drafter.draft(heard.looks[-1].astype(np.float32), prompt=heard.prompt)
            times_ms.append(made.compute_ms)
    return {f'p{q}': round(float(np.percentile(times_ms, q)), 2) for q in (50, 90, 99)} | {
        'learner_cpu_share': float(report.values.get('cpu_share', 0.0)),
        'learner_memory_mb': float(report.values.get('memory_mb', 0.0))}


@contextmanager
def _learner(mode: str, settings: OnlineConfig) -> Iterator[Connection | None]:
    if mode == ALONE:
        yield None
    elif mode == PROCESS:
        process = LearningProcess(settings.online_priority)
        try:
            yield process.link
        finally:
            process.kill()
            process.link.close()
    else:
        ours, theirs = (Connection(end.detach()) for end in socket.socketpair())
        thread = threading.Thread(target=_serve_quietly, args=(theirs,), daemon=True)
        thread.start()
        try:
            yield ours
        finally:
            ours.close()
            thread.join(_PATIENCE_S)


def _serve_quietly(link: Connection) -> None:
    with link, suppress(OSError):
        serve(link, time.thread_time, lambda: 0)


def _newest(link: Connection, report: Report) -> Report:
    while link.poll():
        message = link.recv()
        if isinstance(message, Report):
            report = message
    if report.trouble:
        raise CrossSpecError(report.trouble)
    return report


def _until_taken(link: Connection, windows: int) -> None:
    until_s, report = time.monotonic() + _PATIENCE_S, Report()
    while report.taken < windows:
        if time.monotonic() > until_s:
            raise CrossSpecError(f'the learner has taken {report.taken} of {windows} windows in {_PATIENCE_S:g} s: is '
                                 'this machine free?')
        link.poll(0.1)
        report = _newest(link, report)
