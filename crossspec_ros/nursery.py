"""A process that has imported what nodes need and forks them: a node is there in the time that its model takes to load.

`Nursery` starts that process and asks it for nodes; `SharedNursery` asks one that several ask, started by somebody
else. It starts no thread and opens no transport, so what it forks is as good as new; a node forked by it shares its
pages, so the libraries lie in memory once. Linux only: elsewhere, and where the process is gone, nodes are started as
always.

It says how each node ends, and a node whose asker has gone is told to end (SIGTERM); so is every node when the process
itself goes.
"""
from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from crossspec_ros import children
from crossspec_ros.children import Process
from crossspec_ros.forker import MESSAGE, WHERE, address, command_of, same_user, with_room

_log = logging.getLogger(__name__)
_START_TIMEOUT_S = 120.0                                        # imports from a cold disk
_FIND_TIMEOUT_S = 20.0                                          # it may be just starting


class Forked:
    """A node that the nursery forked, with the interface of `subprocess.Popen`."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection
        self._gone = False
        try:
            self._handle: int | None = os.pidfd_open(pid)      # a number may be another's by the time it is signalled
        except OSError:
            self._handle = None

    def poll(self) -> int | None:
        """The exit code (minus the signal's number), None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises `subprocess.TimeoutExpired`."""
        until_s = None if timeout is None else time.monotonic() + timeout
        while (code := self._look(0.1 if until_s is None else min(0.1, max(0.0, until_s - time.monotonic())))) is None:
            if until_s is not None and time.monotonic() >= until_s:
                raise subprocess.TimeoutExpired(f'pid {self.pid}', timeout or 0.0)
        return code

    def send_signal(self, sig: int) -> None:
        """Signal it, where it still runs."""
        if self.poll() is None and self._handle is not None:
            try:
                signal.pidfd_send_signal(self._handle, sig)
            except ProcessLookupError:
                pass

    def _look(self, wait_s: float) -> int | None:
        if self.returncode is None and not self._gone:
            self._connection.settimeout(max(wait_s, 0.0) or None if wait_s else 0.0)
            try:
                said = self._connection.recv(MESSAGE)
                if said:
                    self._ended(int(json.loads(said)['code']))
                else:
                    self._gone = True
            except (BlockingIOError, TimeoutError):
                return None
            except OSError:
                self._gone = True
        if self.returncode is None and self._gone:              # nobody can say how it ended, only whether
            try:
                if self._handle is not None:
                    signal.pidfd_send_signal(self._handle, 0)
                    time.sleep(min(wait_s, 0.02))
                    return None
            except ProcessLookupError:
                pass
            self._ended(-signal.SIGKILL)
        return self.returncode

    def _ended(self, code: int) -> None:
        self.returncode = code
        self._connection.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Nursery:
    """Asks a process of its own for nodes; it is started at once and again where it has ended.

    ``modules`` are imported there; ``warmed`` are ``module:function`` that it calls once, such as loading compiled
    code. A context manager.
    """

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str], warmed: Sequence[str] = ()) -> None:
        self._environment = dict(environment)
        self._preload = [*modules, *warmed]
        self._process: subprocess.Popen | None = None
        self._line: socket.socket | None = None
        if supported():
            self._open()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the process that forks; None where there is none."""
        return None if self._process is None else self._process.pid

    def start(self, command: Sequence[str]) -> Process:
        """Start ``python -m module arguments``: forked where that can be, else as `children.start` does.

        Waits until the imports are done. The node's output goes where this process's own goes.
        """
        forked = self._fork(command)
        return forked if forked is not None else children.start(command, self._environment)

    def revive(self) -> None:
        """Begin to import again where the process has ended, so that the next `start` need not."""
        if self._process is not None and self._process.poll() is not None:
            _log.warning('the process that forks nodes ended with %s; it is started again', self._process.returncode)
            self.close()
            self._open()

    def close(self) -> None:
        """End the process; nodes that it has forked are told to end."""
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._process is not None:
            try:
                self._process.wait(2.0)                         # it ends with the line
            except subprocess.TimeoutExpired:
                children.end([self._process], 5.0)
            self._process = None

    def _open(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            environment = self._environment | {WHERE: str(theirs.fileno())}
            self._process = children.start(with_room(command_of(self._preload)), environment,
                                           pass_fds=[theirs.fileno()])

    def _fork(self, command: Sequence[str]) -> Forked | None:
        if self._line is None or not _forkable(command):
            return None
        self.revive()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def ask() -> None:
            with theirs:
                socket.send_fds(self._line, [json.dumps(list(command)).encode()], [theirs.fileno(), 0, 1, 2])

        return _forked(ours, ask)


class SharedNursery:
    """Asks a process that somebody else has started to serve whoever knows this ``name``: `forker.command_of`.

    Where it cannot be found in time, nodes are started as always.
    """

    def __init__(self, environment: Mapping[str, str], name: str) -> None:
        self._environment = dict(environment)
        self._name = name

    def start(self, command: Sequence[str]) -> Process:
        """As `Nursery.start`."""
        forked = self._fork(command) if supported() and _forkable(command) else None
        return forked if forked is not None else children.start(command, self._environment)

    def revive(self) -> None:
        """Nothing: whoever has started the process starts it again."""

    def close(self) -> None:
        """Nothing: others may need the process."""

    def _fork(self, command: Sequence[str]) -> Forked | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def ask() -> None:
            self._find(connection)
            socket.send_fds(connection, [json.dumps(list(command)).encode()], [0, 1, 2])

        return _forked(connection, ask)

    def _find(self, connection: socket.socket) -> None:
        until_s = time.monotonic() + _FIND_TIMEOUT_S
        while True:
            try:
                connection.connect(address(self._name))
                break
            except ConnectionRefusedError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.05)
        if not same_user(connection):
            raise PermissionError('it is of another user')


def _forkable(command: Sequence[str]) -> bool:
    return list(command[:2]) == [sys.executable, '-m']


def _forked(connection: socket.socket, ask: Callable[[], None]) -> Forked | None:
    """The node that ``ask`` asks for, once it is there; None where there is none to be had."""
    try:
        ask()
        connection.settimeout(_START_TIMEOUT_S)
        said = connection.recv(MESSAGE)
        if said:
            return Forked(connection, int(json.loads(said)['pid']))
    except OSError as error:
        _log.warning('no node from the process that forks them (%s); it is started as always', error)
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def supported() -> bool:
    """Whether nodes can be forked on this host."""
    return sys.platform == 'linux' and hasattr(os, 'pidfd_open')
