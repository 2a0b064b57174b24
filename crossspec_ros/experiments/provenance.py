"""Where a result is from: command, version and commit of the package, machine, versions of what computes."""
from __future__ import annotations

import os
import platform
import shlex
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from crossspec_ros import __version__
from crossspec_ros.demo.summary import hardware

_LIBRARIES = ('torch', 'transformers', 'numpy')


def commit() -> str:
    """The commit of the checkout that the package is run from, with '+' where its files are changed; '' in an
    installation."""
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return ''

    def git(*words: str) -> str:
        return subprocess.run(['git', '-C', str(root), *words], capture_output=True, text=True, timeout=20,
                              check=True).stdout.strip()
    try:
        return git('rev-parse', '--short=12', 'HEAD') + '+' * bool(git('status', '--porcelain', '--', 'crossspec_ros'))
    except (OSError, subprocess.SubprocessError):
        return ''


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """What stands in each result; ``load``: processes that wanted a core in the minute before, ours among them."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ''
    return {'command': shlex.join(command), 'version': __version__, 'commit': commit(), 'hardware': hardware(),
            'load': round(os.getloadavg()[0], 1), 'python': platform.python_version(), 'libraries': found,
            'date': time.strftime('%Y-%m-%d', time.gmtime())}
