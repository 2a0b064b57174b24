"""Two hosts on one: network namespaces with nothing between them but a link whose conditions can be chosen."""
from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crossspec_ros import children
from crossspec_ros.bench.relay import Conditions
from crossspec_ros.errors import CrossSpecError

HOSTS = ('edge', 'server')
ADDRESSES = {'edge': '10.213.7.1', 'server': '10.213.7.2'}
_TUN = '/dev/net/tun'
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_MTU = 1500
_QUEUE = 10_000
_END_S = 10.0


def obstacle() -> str | None:
    """Why no two hosts can be made here; None where they can."""
    if sys.platform != 'linux':
        return 'network namespaces are Linux\'s own'
    missing = [tool for tool in ('ip', 'unshare', 'mount') if shutil.which(tool) is None]
    if missing:
        return f'{missing[0]} is not installed (Debian: iproute2, util-linux, mount)'
    if os.geteuid() != 0:
        return 'only root may make network namespaces'
    try:
        os.close(os.open(_TUN, os.O_RDWR))
    except OSError as error:
        return f'{_TUN} cannot be opened: {error.strerror}'
    name = f'crossspec-try-{os.getpid()}'
    tried = subprocess.run(['ip', 'netns', 'add', name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f'no network namespace can be made: {tried.stderr.strip()}'
    subprocess.run(['ip', 'netns', 'del', name], check=False)
    return None


def _ip(*words: str) -> None:
    done = subprocess.run(['ip', *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CrossSpecError(f'ip {" ".join(words)} must succeed, got: {done.stderr.strip()}')


class TwoHosts:
    """The namespaces and the link; a context manager that removes what it made."""

    def __init__(self) -> None:
        self._names = {host: f'crossspec-{host}-{os.getpid()}' for host in HOSTS}
        self._relay: subprocess.Popen | None = None
        self._ends: list[int] = []

    def __enter__(self) -> TwoHosts:
        try:
            for host in HOSTS:
                self._make(host)
            self._relay = children.start([sys.executable, '-m', 'crossspec_ros.bench.relay', *map(str, self._ends)],
                                         os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         pass_fds=self._ends)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self, host: str) -> None:
        name, device = self._names[host], f'cs{HOSTS.index(host)}p{os.getpid()}'
        _ip('netns', 'add', name)
        end = os.open(_TUN, os.O_RDWR)
        self._ends.append(end)
        fcntl.ioctl(end, _TUNSETIFF, struct.pack('16sH', device.encode(), _IFF_TUN | _IFF_NO_PI))
        _ip('link', 'set', device, 'netns', name)
        _ip('-n', name, 'addr', 'add', f'{ADDRESSES[host]}/24', 'dev', device)
        _ip('-n', name, 'link', 'set', device, 'mtu', str(_MTU), 'txqueuelen', str(_QUEUE), 'up')
        _ip('-n', name, 'link', 'set', 'lo', 'up')

    def __exit__(self, *_: object) -> None:
        if self._relay is not None:
            self._relay.stdin.close()                           # which ends it
            try:
                self._relay.wait(_END_S)
            except subprocess.TimeoutExpired:
                children.end([self._relay], _END_S)
            self._relay.stdout.close()
        for end in self._ends:
            os.close(end)
        for name in self._names.values():
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True, check=False)

    def set(self, conditions: Conditions) -> dict[str, int]:
        """From now on; returns what went through since the last call: packets, bytes, and those that did not pass."""
        self._relay.stdin.write(conditions.line() + '\n')
        self._relay.stdin.flush()
        answer = self._relay.stdout.readline()
        if not answer:
            raise CrossSpecError('the relay between the two hosts has ended; run again')
        return json.loads(answer)

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """The same command on a host: its own network and its own shared memory."""
        return ['ip', 'netns', 'exec', self._names[host], 'unshare', '-m', 'sh', '-c',
                'mount -t tmpfs tmpfs /dev/shm && exec "$@"' if host != 'edge' else 'exec "$@"', 'sh', *command]

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """This thread, and those that it starts meanwhile, are in a host's network."""
        with open('/proc/thread-self/ns/net', 'rb') as home:
            self._enter(Path('/run/netns', self._names[host]))
            try:
                yield
            finally:
                _setns(home.fileno())

    @staticmethod
    def _enter(path: Path) -> None:
        with path.open('rb') as file:
            _setns(file.fileno())


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise CrossSpecError(f'setns must be allowed, got {errno.errorcode.get(code, code)}')
