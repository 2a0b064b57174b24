"""Writing files that are whole or not there at all."""
from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from crossspec_ros.errors import CrossSpecError


def _explain(error: OSError, path: Path) -> CrossSpecError:
    if error.errno == errno.ENOSPC:
        return CrossSpecError(f'the disk that holds {path} is full: free some space or name another folder with --out, '
                              f'then start again with --resume')
    return CrossSpecError(f'cannot write {path}: {error.strerror or error}')


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file beside ``path``, then rename it: nobody ever sees half a file.

    Raises CrossSpecError where the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        write(temporary)
        with temporary.open('rb') as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _explain(error, path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_folder_atomic(folder: Path, write: Callable[[Path], object]) -> None:
    """The same for a folder; an older folder of that name is replaced only after the new one is complete.

    Its files may be read by whoever may read the folder, whatever wrote them: weights come out for their owner only.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f'.{folder.name}.{os.getpid()}.part')
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        write(temporary)
        readable = temporary.stat().st_mode & 0o666
        for path in (path for path in temporary.rglob('*') if path.is_file()):
            path.chmod(readable)
        old = folder.with_name(f'.{folder.name}.{os.getpid()}.old')
        if folder.exists():
            folder.replace(old)
        temporary.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _explain(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
