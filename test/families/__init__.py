"""Tiny random checkpoints of transformers' video-language families, written with no network, and their oracle."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from packaging.version import Version

from .looks import clip, look, rows_of_frames, table
from .named import NAMED
from .oracle import answer, load, oracle, prepare
from .parts import Family, Shape, older_files
from .refused import REFUSED
from .unnamed import UNNAMED

FAMILIES: dict[str, Family] = {family.name: family for family in (*NAMED, *UNNAMED, *REFUSED)}

SINCE = {'smolvlm': '5.23', 'kimi_k25': '5.23'}
"""Versions of transformers before which a family's own processor or class fails."""


def needs(version: str, what: str) -> None:
    """Skip a test where transformers is older than ``version``."""
    if Version(transformers.__version__) < Version(version):
        pytest.skip(f'{what} needs transformers {version}')


def write_family(folder: Path, name: str, seed: int = 0, **shape: Any) -> Path:
    """A checkpoint of family ``name`` in ``folder``; ``shape`` as in `Shape`. Skips where transformers is too old."""
    needs(SINCE.get(name, '5.0'), name)
    return FAMILIES[name].write(folder, seed, **shape)


__all__ = ['FAMILIES', 'Family', 'Shape', 'answer', 'clip', 'load', 'look', 'needs', 'older_files', 'oracle', 'prepare',
           'rows_of_frames', 'table', 'write_family']
