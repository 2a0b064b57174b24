"""What loading a checkpoint has found and measured before, kept on disk, so that a node that comes back need not wait.

Kept by the names, sizes and times of the checkpoint's files, of our own code that judges it, by the versions of the
libraries and by the start of this computer: whatever changes of these, all is tried and measured again. The folder is
``$CROSSSPEC_CACHE_DIR``, else ``crossspec`` in the user's cache folder; set empty, nothing is kept.
"""
from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
import transformers

from crossspec_ros import __version__

_log = logging.getLogger(__name__)
_PACKAGE = Path(__file__).resolve().parents[1]
_JUDGES = ('models', 'speculation')
_BOOT = Path('/proc/sys/kernel/random/boot_id')
_KEPT = 64                                                      # checkpoints; the oldest go


def recall(folder: Path, what: str, **settings: object) -> Any:
    """What `keep` was given for the same checkpoint and settings, None where that is nothing."""
    path = _path(folder, what, settings)
    try:
        return None if path is None else json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def keep(folder: Path, what: str, value: Any, **settings: object) -> None:
    """Keep a value of JSON for a checkpoint; where that cannot be, the next load finds out again."""
    path = _path(folder, what, settings)
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile('w', dir=path.parent, delete=False, encoding='utf-8') as file:
            json.dump(value, file)
        os.replace(file.name, path)                             # two nodes may keep the same at once
        for old in sorted(path.parent.glob('*.json'), key=lambda each: each.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _log.info('what was measured of %s is not kept: %s', folder, error)


def _path(folder: Path, what: str, settings: dict[str, object]) -> Path | None:
    named = os.environ.get('CROSSSPEC_CACHE_DIR')
    if named == '':
        return None
    base = Path(named) if named else Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'crossspec'
    facts = [__version__, torch.__version__, transformers.__version__, platform.node(), os.cpu_count(), _boot(),
             str(folder.resolve()), sorted(settings.items(), key=str), _times(folder.rglob('*')),
             _times(path for room in _JUDGES for path in (_PACKAGE / room).rglob('*.py'))]
    return base / f'{what}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.json'


def _times(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    found = []
    for path in sorted(paths):
        if path.is_file():
            status = path.stat()                                # of what a link names: a hub's folder is made of links
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding='ascii').strip()
    except OSError:
        return ''
