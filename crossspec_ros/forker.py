"""The process that has imported what nodes need, and forks them for a `nursery`."""
from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from crossspec_ros import children

WHERE = 'CROSSSPEC_NURSERY_FD'                                  # environment variable: the line of one who asks alone
MESSAGE = 1 << 20
_TITLE_ROOM = 4096                                              # bytes of the command line, for nodes' own
_ASK_TIMEOUT_S = 5.0                                            # who has connected asks at once
_CREDENTIALS = struct.Struct('iII')                             # pid, uid, gid
_PR_SET_NAME = 15


def command_of(preload: Sequence[str], name: str = '', python: Sequence[str] = (sys.executable,)) -> list[str]:
    """How to start the process, which imports each ``module`` and calls each ``module:function`` of ``preload``.

    ``name``: known to those who may ask only, and of nobody else's on this host; it ends with SIGINT, once its nodes
    have. Empty: the process serves who has started it.
    """
    return [*python, '-m', 'crossspec_ros.forker', *(['--serve', name] if name else []), *preload]


def address(name: str) -> bytes:
    """Of no file, but of the network namespace; gone with its process."""
    return b'\0crossspec-' + name.encode()


def same_user(connection: socket.socket) -> bool:
    """Whether the other end is a process of the same user."""
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(said)[1] == os.geteuid()


def with_room(command: Sequence[str]) -> list[str]:
    """A command with room for the titles of nodes after it."""
    return [*command, '-' * max(_TITLE_ROOM - sum(map(len, command)), 1)]


@dataclass
class _Wanted:
    """A node that was asked for: what to run, where to say how it goes, where its output goes."""

    command: list[str]
    connection: socket.socket
    output: Sequence[int]


class _Forker:
    """Imports and calls what is to be there before nodes are, forks on request, and says how each node ended.

    Requests come on one line, with a connection each; or each on a connection of its own, where ``listening``. A node
    whose module is there need not wait for what comes after.
    """

    def __init__(self, line: socket.socket, listening: bool, preload: Sequence[str]) -> None:
        self._line, self._listening = line, listening
        self._to_load = list(preload)
        self._ending = False
        self._wanted: list[_Wanted] = []
        self._nodes: dict[int, socket.socket] = {}              # pid -> connection
        self._selector = selectors.DefaultSelector()
        self._selector.register(line, selectors.EVENT_READ, None)
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, 0)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)   # to be woken by it
        if listening:
            signal.signal(signal.SIGINT, self._end)

    def run(self) -> None:
        """Serve until the asker is gone; where there may be many, until told to end and all nodes have."""
        while self._nodes or not self._ending:
            for key, _ in self._selector.select(0.0 if self._to_load and not self._ending else None):
                if key.fileobj is self._line:
                    if not self._listen():
                        return
                elif key.fileobj is self._woken:
                    self._drain()
                elif key.data in self._nodes:                   # nothing is ever said there: the asker has gone
                    self._selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGTERM)
            self._reap()
            if self._to_load and not self._ending:
                _load(self._to_load.pop(0))
            self._serve()

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        if not self._nodes:                                     # whatever it does
            _leave()

    def _drain(self) -> None:
        try:
            self._woken.recv(4096)
        except BlockingIOError:
            pass

    def _listen(self) -> bool:
        """Hear what is asked for; False where nobody is there any more to ask."""
        if self._listening:
            connection, _ = self._line.accept()
            connection.settimeout(_ASK_TIMEOUT_S)
            try:
                request, handles, _, _ = socket.recv_fds(connection, MESSAGE, 3)
            except OSError:
                request, handles = b'', []
            if not same_user(connection):
                request = b''
        else:
            request, handles, _, _ = socket.recv_fds(self._line, MESSAGE, 4)
            if not request:
                return False
            connection = socket.socket(fileno=handles.pop(0))
        wanted = _Wanted(json.loads(request or '[]'), connection, handles)
        if wanted.command:
            self._wanted.append(wanted)
        else:
            _forget(wanted)
        return True

    def _serve(self) -> None:
        """Fork the nodes whose modules are there."""
        for wanted in list(self._wanted):
            if self._to_load and wanted.command[2] not in sys.modules and not self._ending:
                continue
            self._wanted.remove(wanted)
            if self._ending or _hung_up(wanted.connection):
                _forget(wanted)
            else:
                self._fork(wanted)

    def _fork(self, wanted: _Wanted) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        gc.collect()
        gc.freeze()                                             # the collector would write to, so copy, every page
        parent, pid = os.getpid(), os.fork()
        if not pid:
            self._become(wanted, parent)
        for handle in wanted.output:
            os.close(handle)
        self._nodes[pid] = wanted.connection
        self._selector.register(wanted.connection, selectors.EVENT_READ, pid)
        _say(wanted.connection, {'pid': pid})

    def _reap(self) -> None:
        for pid in list(self._nodes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                connection = self._nodes.pop(pid)
                if connection in self._selector.get_map():
                    self._selector.unregister(connection)
                _say(connection, {'code': os.waitstatus_to_exitcode(status)})
                connection.close()

    def _become(self, wanted: _Wanted, parent: int) -> NoReturn:
        """In the child: the node that was asked for, as if Python had just been started with its command."""
        code, command = 1, wanted.command
        try:
            signal.set_wakeup_fd(-1)
            for sign in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(sign, signal.SIG_DFL)
            for at, handle in enumerate(wanted.output):
                os.dup2(handle, at)
                os.close(handle)
            self._selector.close()
            for held in (self._line, self._woken, self._waker, wanted.connection, *self._nodes.values()):
                held.close()
            for other in self._wanted:
                _forget(other)
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


def _forget(wanted: _Wanted) -> None:
    for handle in wanted.output:
        os.close(handle)
    wanted.connection.close()


def _hung_up(connection: socket.socket) -> bool:
    """Whether who has asked waits no more."""
    try:
        connection.setblocking(False)
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.setblocking(True)


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


def _line(name: str) -> socket.socket:
    if not name:
        return socket.socket(fileno=int(os.environ.pop(WHERE)))
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.bind(address(name))
    line.listen()
    return line


def _load(name: str) -> None:
    """Import a module, or a function's, which is called; a node that lacks it says so itself."""
    module, _, function = name.partition(':')
    try:
        found = importlib.import_module(module)
        if function:
            getattr(found, function)()
    except Exception as error:  # noqa: BLE001 - whatever it is, nodes are forked all the same
        print(f'crossspec: no {name} before nodes are forked: {error}', file=sys.stderr, flush=True)


def _leave() -> NoReturn:
    """End now: libraries take seconds to take themselves apart on a busy host, and nodes are told by the end only."""
    os._exit(0)


def main() -> NoReturn:
    """Import what is named, then fork on request."""
    words = [word for word in sys.argv[1:] if word.strip('-')]
    parser = argparse.ArgumentParser(prog='python -m crossspec_ros.forker', description='Import modules, then fork '
                                     'nodes: for `crossspec up --restart` and the launch files, which start it.')
    parser.add_argument('--serve', metavar='NAME', default='', help='serve whoever knows this name')
    parser.add_argument('preload', nargs='*', metavar='MODULE[:FUNCTION]', help='what to import and to call')
    args = parser.parse_args(words)
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, frame: _leave())     # its nodes are told by its death
    if args.serve and len(words) == len(sys.argv) - 1:          # who has started it left no room for titles
        os.execv(sys.executable, with_room([sys.executable, '-m', 'crossspec_ros.forker', *words]))
    children.follow_parent()
    line = _line(args.serve)
    _entitle([sys.executable, '-m', 'crossspec_ros.forker'])
    _Forker(line, bool(args.serve), args.preload).run()
    _leave()


if __name__ == '__main__':
    main()
