"""Folders for a process' own files, which are gone with it: at its end, or, where it was killed, with the next one."""
from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_SWEEP_S = 0.02


class Scratch:
    """A new folder of a ``kind`` among the system's temporary files; those of the same kind whose process is dead are
    removed. A living one holds a lock on its own, whatever container it is in.

    Raises OSError where there is no room, or no leave, for it.
    """

    def __init__(self, kind: str) -> None:
        prefix = f'crossspec-{kind}-'
        for left in Path(tempfile.gettempdir()).glob(f'{prefix}*'):
            _remove_dead(left)
        self.path, self._handle = _made(prefix)

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _made(prefix: str) -> tuple[Path, int | None]:
    """A folder and its lock; None where this system locks no folders, and nothing is ever removed."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix))
        handle = _lock(path)
        if handle is None:
            time.sleep(_SWEEP_S)                                # another one began just then, and looks at it
            handle = _lock(path)
        if path.exists():
            return path, handle
        if handle is not None:                                  # that one took it for a dead one's
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """A handle that holds the folder's lock; None where somebody else does, or it is not ours to have."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_dead(folder: Path) -> None:
    handle = _lock(folder)
    if handle is None:
        return
    try:
        if os.fstat(handle).st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
