"""What Fast DDS leaves in shared memory when a process is killed: our own dead's is removed, and no port taken over.

Fast DDS keeps a lock file ``<name>_el`` open for each segment and port that a process owns, and for no other's. Linux.
"""
from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SHM, _PROC = Path('/dev/shm'), Path('/proc')
_LOCK, _PORT = '_el', 'fastdds_port'
_LOOK_S = 0.02
_PORTS_KEPT = 64                                                # Fast DDS tries a hundred before it gives up


def dead_segments(shm: Path = _SHM, proc: Path = _PROC) -> list[Path]:
    """Shared-memory files of Fast DDS that no process has mapped or open: left behind by killed nodes."""
    names = {path.name: path for path in shm.glob('*fastdds_*')} if shm.is_dir() else {}
    for maps in proc.glob('[0-9]*/maps'):
        try:
            text = maps.read_text(errors='replace')
            targets = [os.readlink(link) for link in (maps.parent / 'fd').iterdir()]
        except OSError:
            continue                                      # ended meanwhile, or not ours to read
        for held in [*(line.rpartition('/')[2] for line in text.splitlines() if f'{shm}/' in line),
                     *(target.rpartition('/')[2] for target in targets if target.startswith(f'{shm}/'))]:
            names.pop(held, None)
    return sorted(names.values())


@contextmanager
def dead_ports_kept(shm: Path = _SHM) -> Iterator[int]:
    """Around a participant's life: ports of the dead are not taken over by it; how many there are.

    Fast DDS makes a dead process' port anew under its old name. A peer that had opened the old one goes on to send
    there, until its queue of some hundred messages is full, where the process was killed while it handled a message:
    so long the new one hears nothing of that peer. A port whose lock is held is passed over, and the next one taken,
    which no peer knows. The newest are held, and no more than leave room for others.
    """
    held: list[int] = []
    try:
        held += _locks_of_dead_ports(shm)
        yield len(held)
    finally:
        for handle in held:
            os.close(handle)


def _locks_of_dead_ports(shm: Path) -> list[int]:
    ports = sorted(shm.glob(f'{_PORT}*{_LOCK}'), key=_made_ns, reverse=True)
    whole = [path for path in ports if (shm / path.name.removesuffix(_LOCK)).exists()]      # others harm nobody
    held: list[int] = []
    for again in (False, True):                                 # peers that look whether a port is dead lock it, too
        if again:
            time.sleep(_LOOK_S)
        for path in list(whole):
            handle = _lock(path) if len(held) < _PORTS_KEPT else None
            if handle is not None:
                held.append(handle)
                whole.remove(path)
    return held


def _made_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0                                                # gone meanwhile


def _lock(path: Path) -> int | None:
    """A handle that holds the lock of a port; None where somebody else does, or it is not ours to have."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


class Leftovers:
    """The files of some processes, noted while they live, removed once they are dead.

    Ports stay until the last `sweep`: a process that starts takes over the port that it finds, in several steps, and
    one that is removed between them leaves it listening where nobody sends. Each process has one, and it is small.
    """

    def __init__(self, shm: Path = _SHM, proc: Path = _PROC) -> None:
        self._shm, self._proc = shm, proc
        self._owned: dict[int, dict[str, int]] = {}             # pid -> name without the ending -> inode of its lock
        self._dead: dict[str, int] = {}

    def note(self, pid: int) -> None:
        """Look what a process owns now. What it owned before stays its own."""
        try:
            targets = [os.readlink(link) for link in (self._proc / str(pid) / 'fd').iterdir()]
        except OSError:
            return                                              # ended, or no Linux
        known = self._owned.setdefault(pid, {})
        for target in targets:
            path = Path(target)
            if path.parent == self._shm and path.name.startswith('fastdds_') and path.name.endswith(_LOCK):
                inode = _inode(path)
                if inode is not None:
                    known[path.name.removesuffix(_LOCK)] = inode

    def ended(self, pid: int) -> None:
        """A process is dead: what it has not removed itself may go."""
        self._dead |= self._owned.pop(pid, {})

    def sweep(self, last: bool = False) -> list[Path]:
        """Remove what the dead left; returns what was removed.

        A segment's name is never used again: it goes at once, and peers that have mapped it keep what they have. A port
        goes the ``last`` time, once no process of ours will start any more, where nobody owns it.
        """
        removed: list[Path] = []
        for name, inode in list(self._dead.items()):
            if name.startswith(_PORT) and not last:
                continue
            lock = self._shm / (name + _LOCK)
            now = _inode(lock)
            if now is not None and now != inode:                # another has made one of this name since
                del self._dead[name]
                continue
            family = [path for each in (name, f'sem.{name}_mutex', lock.name) if (path := self._shm / each).exists()]
            if _remove_unowned(lock, family):
                removed += family
                del self._dead[name]
        return removed

    @property
    def waiting(self) -> bool:
        """Whether files of the dead are still there."""
        return bool(self._dead)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _remove_unowned(lock: Path, family: list[Path]) -> bool:
    """Remove files while holding their lock, so that no process can take them over meanwhile; False where one has."""
    handle = _lock(lock)
    if handle is None and lock.exists():
        return False
    try:
        for path in family:
            path.unlink(missing_ok=True)
        return True
    except OSError:
        return False
    finally:
        if handle is not None:
            os.close(handle)
