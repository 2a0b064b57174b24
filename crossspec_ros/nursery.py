"""A process that has imported what nodes need and forks them: a node is there in the time that its model takes to load.

`Nursery` starts that process and asks it for nodes. It starts no thread and opens no transport, so what it forks is as
good as new; a node forked by it shares its pages, so the libraries lie in memory once. Linux only: elsewhere, and where
the process is gone, nodes are started as always.

It says how each node ends, and a node whose asker has gone is told to end (SIGTERM); so is every node when the process
itself goes.
"""
from __future__ import annotations

import ctypes
import gc
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from crossspec_ros import children
from crossspec_ros.children import Process

_log = logging.getLogger(__name__)
_WHERE = 'CROSSSPEC_NURSERY_FD'
_TITLE_ROOM = 4096                                              # bytes of the command line, for nodes' own
_MESSAGE = 1 << 20
_START_TIMEOUT_S = 120.0                                        # imports from a cold disk
_PR_SET_NAME = 15


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
                said = self._connection.recv(_MESSAGE)
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
            command = [sys.executable, '-m', 'crossspec_ros.nursery', *self._preload]
            room = max(_TITLE_ROOM - sum(map(len, command)), 1)
            self._process = children.start([*command, '-' * room], self._environment | {_WHERE: str(theirs.fileno())},
                                           pass_fds=[theirs.fileno()])

    def _fork(self, command: Sequence[str]) -> Forked | None:
        if self._line is None or list(command[:2]) != [sys.executable, '-m']:
            return None
        self.revive()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                socket.send_fds(self._line, [json.dumps(list(command)).encode()], [theirs.fileno(), 0, 1, 2])
            ours.settimeout(_START_TIMEOUT_S)
            said = ours.recv(_MESSAGE)
            if said:
                return Forked(ours, int(json.loads(said)['pid']))
        except OSError as error:
            _log.warning('no node from the process that forks them (%s); it is started as always', error)
        except BaseException:
            ours.close()
            raise
        ours.close()
        return None


def supported() -> bool:
    """Whether nodes can be forked on this host."""
    return sys.platform == 'linux' and hasattr(os, 'pidfd_open')


# ---- the process itself

@dataclass
class _Node:
    pid: int
    connection: socket.socket


class _Forker:
    """Forks on request, and says how each node ended."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._nodes: dict[int, _Node] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(line, selectors.EVENT_READ, None)
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, 0)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)   # to be woken by it

    def run(self) -> None:
        """Serve until the asker is gone."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._line:
                    if not self._serve():
                        return
                elif key.fileobj is self._woken:
                    self._drain()
                elif key.data in self._nodes:                   # nothing is ever said there: the asker has gone
                    self._selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGTERM)
            self._reap()

    def _drain(self) -> None:
        try:
            self._woken.recv(4096)
        except BlockingIOError:
            pass

    def _serve(self) -> bool:
        request, handles, _, _ = socket.recv_fds(self._line, _MESSAGE, 4)
        if not request:
            return False
        command, connection = json.loads(request), socket.socket(fileno=handles[0])
        sys.stdout.flush()
        sys.stderr.flush()
        parent, pid = os.getpid(), os.fork()
        if not pid:
            connection.close()
            self._become(command, handles[1:], parent)
        for handle in handles[1:]:
            os.close(handle)
        self._nodes[pid] = _Node(pid, connection)
        self._selector.register(connection, selectors.EVENT_READ, pid)
        _say(connection, {'pid': pid})
        return True

    def _reap(self) -> None:
        for pid in list(self._nodes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                node = self._nodes.pop(pid)
                if node.connection in self._selector.get_map():
                    self._selector.unregister(node.connection)
                _say(node.connection, {'code': os.waitstatus_to_exitcode(status)})
                node.connection.close()

    def _become(self, command: Sequence[str], output: Sequence[int], parent: int) -> NoReturn:
        """In the child: the node that was asked for, as if Python had just been started with its command."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for at, handle in enumerate(output):
                os.dup2(handle, at)
                os.close(handle)
            self._selector.close()
            for held in (self._line, self._woken, self._waker, *(node.connection for node in self._nodes.values())):
                held.close()
            children.prepare()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            if os.getppid() != parent:                          # it went before it could be followed
                os._exit(code)
            _entitle(command)
            module = importlib.import_module(command[2])
            sys.argv = [module.__file__ or command[2], *command[3:]]
            code = module.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - a forked process must never return into its parent's loop
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _say(connection: socket.socket, message: Mapping[str, Any]) -> None:
    try:
        connection.send(json.dumps(message).encode())
    except OSError:
        pass                                                    # nobody is there to hear it


def _entitle(command: Sequence[str]) -> None:
    """Show a command in ``ps``, written over the one that this process was started with, in its room.

    Linux shows what is there up to a zero byte, where the last byte of the room is none.
    """
    try:
        fields = Path('/proc/self/stat').read_text().rpartition(')')[2].split()
        begin, end = int(fields[45]), int(fields[46])
    except (OSError, IndexError, ValueError):
        return
    room = end - begin
    if begin and room >= _TITLE_ROOM // 2:
        text = ' '.join(command).encode()[:room - 2]
        ctypes.memmove(begin, text.ljust(room - 1, b'\0') + b'.', room)
    name = command[2].rpartition('.')[2].encode()[:15]
    ctypes.CDLL(None).prctl(_PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)


def main() -> int:
    """Import what is named, then fork on request."""
    line = socket.socket(fileno=int(os.environ.pop(_WHERE)))
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(0))
    _entitle([sys.executable, '-m', 'crossspec_ros.nursery'])
    for name in sys.argv[1:]:
        if name.startswith('-'):
            continue
        module, _, function = name.partition(':')
        found = importlib.import_module(module)
        if function:
            getattr(found, function)()
    gc.collect()
    gc.freeze()                                                 # the collector would write to, so copy, every page
    _Forker(line).run()
    return 0


if __name__ == '__main__':
    sys.exit(main())
