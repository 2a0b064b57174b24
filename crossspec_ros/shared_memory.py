"""What Fast DDS leaves in shared memory when a process is killed: who made it, and that our own dead's is removed.

Fast DDS keeps a lock file ``<name>_el`` open for each segment and port that a process owns, and for no other's. Linux.
"""
from __future__ import annotations

import os
from pathlib import Path

_SHM, _PROC = Path('/dev/shm'), Path('/proc')
_LOCK = '_el'


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


class Leftovers:
    """The files of some processes, noted while they live, removed once they are dead and nobody holds them any more.

    Peers hold what a dead process shared with them until they give it up (20 s by default), so `sweep` several times.
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

    def sweep(self) -> list[Path]:
        """Remove what the dead left and nobody holds; returns what was removed."""
        if not self._dead:
            return []
        free = {path.name: path for path in dead_segments(self._shm, self._proc)}
        removed: list[Path] = []
        for name, inode in list(self._dead.items()):
            now = _inode(self._shm / (name + _LOCK))
            if now is not None and now != inode:                # another has made one of this name since
                del self._dead[name]
                continue
            family = [each for each in (name, f'sem.{name}_mutex', name + _LOCK)
                      if (self._shm / each).exists()]
            if all(each in free for each in family):
                for each in family:
                    (self._shm / each).unlink(missing_ok=True)
                    removed.append(self._shm / each)
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
