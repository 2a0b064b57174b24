"""Folders for a process' own files, which are gone with it: at its end, or, where it was killed, with the next one."""
from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path


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
        try:
            handle = _opened(path)
        except FileNotFoundError:
            continue                                            # another one began just then, and removed it
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)                  # not at once where that one still looks at it
        except OSError:
            os.close(handle)
            return path, None
        if path.exists():
            return path, handle
        os.close(handle)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove_dead(folder: Path) -> None:
    """Where nobody holds its lock, and it is ours."""
    try:
        handle = _opened(folder)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass                                                    # somebody lives in it
    finally:
        os.close(handle)
