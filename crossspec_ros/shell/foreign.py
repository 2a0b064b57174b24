"""Packages of another Python, found on PYTHONPATH: which are they, and did an error come from one."""
from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

# A package whose compiled half says which Python it is for: its name, and where that half lies.
_COMPILED = {'rclpy': ('_rclpy_pybind11',), 'numpy': ('_core/_multiarray_umath', 'core/_multiarray_umath')}
_PROBE_S = 60.0


def shadowing(python_path: str) -> tuple[str, Path] | None:
    """The first package on this PYTHONPATH that is not for this Python, and the folder it is in."""
    for entry in filter(None, python_path.split(os.pathsep)):
        for package, halves in _COMPILED.items():
            folder = Path(entry, package)
            if (folder / '__init__.py').is_file() and not any(
                    (folder / (half + suffix)).is_file() for half in halves
                    for suffix in importlib.machinery.EXTENSION_SUFFIXES):
                return package, Path(entry)
    return None


def probe(code: str, environment: Mapping[str, str] | None = None) -> tuple[str | None, str]:
    """What a child Python prints for this code, or None and why it failed: an exit code, or its last line."""
    try:
        done = subprocess.run([sys.executable, '-c', code], env=None if environment is None else dict(environment),
                              capture_output=True, text=True, errors='replace', timeout=_PROBE_S, check=False,
                              stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return None, f'no answer within {_PROBE_S:g} s'
    except OSError as error:
        return None, str(error)
    if done.returncode == 0:
        return done.stdout, ''
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return None, lines[-1].strip() if lines else f'exit code {done.returncode}'


def explain(error: BaseException, environment: Mapping[str, str] | None = None) -> str | None:
    """In one line, that an error comes from a package which PYTHONPATH names, or from a library that is not found.

    None where it comes from neither.
    """
    environment = os.environ if environment is None else environment
    entries = [Path(entry).resolve() for entry in environment.get('PYTHONPATH', '').split(os.pathsep) if entry]
    entries = [entry for entry in entries if not (entry / 'crossspec_ros' / '__init__.py').is_file()]
    what = ' '.join(f'{type(error).__name__}: {error}'.split())
    if isinstance(error, ImportError) and 'cannot open shared object' in str(error):
        return f'{what}; source the ROS 2 that it belongs to again: LD_LIBRARY_PATH does not lead to it'
    for file in _files(error):
        for entry in entries:
            if entry in file.parents:
                package = file.relative_to(entry).parts[0].removesuffix('.py')
                return (f'PYTHONPATH must name packages that Python {sys.version_info.major}.{sys.version_info.minor} '
                        f'can use, and {package} in {entry} is not ({what}); unset it, or source a ROS 2 of this '
                        'Python')
    return None


def _files(error: BaseException | None) -> Iterator[Path]:
    """The files that were being imported when an error came, the innermost first, with those of errors behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        names = [error.filename] if isinstance(error, SyntaxError) and error.filename else []
        names += [frame.filename for frame in reversed(traceback.extract_tb(error.__traceback__))
                  if frame.name == '<module>']
        yield from (Path(name).resolve() for name in names if not name.startswith('<'))
        error = error.__cause__ or error.__context__
