"""Where the code and the files beside it are: config, launch and rviz files, in a checkout as in an installation."""
from __future__ import annotations

import os
import sys
from pathlib import Path

from crossspec_ros.errors import CrossSpecError

_PACKAGE = 'crossspec_ros'


def share_path(*parts: str) -> Path:
    """A file or folder of ``share/crossspec_ros``, e.g. ``share_path('config', 'fastdds.xml')``.

    A checkout that is run in place wins over what is installed, then the sourced prefixes in their order, then this
    Python's own prefix.

    Raises:
        CrossSpecError: it is nowhere; the text names the places looked at.
    """
    checkout = Path(__file__).resolve().parents[1]
    roots = [checkout] if (checkout / 'package.xml').is_file() else []
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p] + [sys.prefix]
    roots += [Path(prefix, 'share', _PACKAGE) for prefix in prefixes]
    for root in roots:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise CrossSpecError(f'{"/".join(parts)} of {_PACKAGE} is in none of {", ".join(map(str, roots))}: '
                         'install the package again, or source the workspace it is installed in')


def python_path(named: str) -> str:
    """``PYTHONPATH`` with which a child that has ``named`` finds this package, wherever it is started."""
    checkout = str(Path(__file__).resolve().parents[1])
    paths = named.split(os.pathsep)
    if checkout in paths or any(checkout == path for path in sys.path if 'packages' in path):
        return named
    return os.pathsep.join([checkout, *filter(None, paths)])
