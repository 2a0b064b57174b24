"""Child processes of the commands: started so as never to outlive their parent, and ended by one ladder of signals."""
from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

_log = logging.getLogger(__name__)
# Environment variable: the process whose death, however it comes, ends what it has started.
FOLLOWED = 'CROSSSPEC_PARENT'
_PR_SET_PDEATHSIG = 1
# Loaded here: nothing may be loaded between fork and exec.
_LIBC = ctypes.CDLL(None) if sys.platform == 'linux' else None
_INSISTING = 1 / 3                                              # of the time that SIGINT is given
_ENDING = 1 / 6


class Process(Protocol):
    """What is used of a child, whoever started it: part of `subprocess.Popen`."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """The exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises `subprocess.TimeoutExpired`."""

    def send_signal(self, sig: int) -> None:
        """Signal it."""


def prepare() -> None:
    """In a child, before it becomes what it is to be: it never outlives us, and SIGINT is as usual.

    Shells let background children ignore SIGINT.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def follow_parent() -> None:
    """End (SIGTERM) when the process that the launch files name as having started this one dies, however it does.

    Linux; elsewhere, and where none is named, nothing is done.
    """
    named = os.environ.get(FOLLOWED, '')
    if not named.isdigit() or _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1 and named != '1':                      # it was gone before it could be followed
        os.kill(os.getpid(), signal.SIGTERM)


def start(command: Sequence[str], environment: Mapping[str, str], **options: Any) -> subprocess.Popen:
    """Start a child in a session of its own, so that Ctrl-C reaches the parent only, which passes it on once.

    The death of the thread that started it ends a child too (SIGTERM; on Linux). ``options`` go to `subprocess.Popen`.
    """
    with _signals_held() as held:
        process = subprocess.Popen(list(command), env=dict(environment), start_new_session=True, preexec_fn=prepare,
                                   **options)
    try:
        for number in held:
            signal.raise_signal(number)
    except BaseException:                                       # nobody else knows of this child
        process.kill()
        process.wait()
        raise
    return process


@contextmanager
def _signals_held() -> Iterator[list[int]]:
    """Hold SIGINT and SIGTERM back, for the caller to raise: Python swallows what their handlers raise amid a fork."""
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield held                                              # handlers run in the main thread only
        return
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}
    before = {sign: handler for sign, handler in before.items() if callable(handler)}
    for sign in before:
        signal.signal(sign, lambda number, _: held.append(number))
    try:
        yield held
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def end(processes: Iterable[Process], timeout_s: float,
        say: Callable[[str], None] = _log.warning) -> None:
    """Ask children to end (SIGINT), insist (SIGTERM), then end them (SIGKILL), all of them together.

    Takes at most about 1.5 ``timeout_s``. ``say`` hears of each that does not listen.
    """
    processes = list(processes)
    for sign, share in ((signal.SIGINT, 1.0), (signal.SIGTERM, _INSISTING), (signal.SIGKILL, _ENDING)):
        alive = [process for process in processes if process.poll() is None]
        for process in alive:
            process.send_signal(sign)
        until_s = time.monotonic() + share * timeout_s
        for process in alive:
            try:
                process.wait(max(0.01, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                say(f'pid {process.pid} does not end on {sign.name}')
