"""Tiny random checkpoints of transformers' video-language families, written with no network, and their oracle."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from .looks import clip, look, rows_of_frames, table
from .named import NAMED
from .oracle import answer, load, oracle, prepare
from .parts import Family, Shape, older_files
from .refused import REFUSED
from .unnamed import UNNAMED

FAMILIES: dict[str, Family] = {family.name: family for family in (*NAMED, *UNNAMED, *REFUSED)}


def write_family(folder: Path, name: str, seed: int = 0, **shape: Any) -> Path:
    """A checkpoint of family ``name`` in ``folder``; ``shape`` as in `Shape`."""
    return FAMILIES[name].write(folder, seed, **shape)


__all__ = ['FAMILIES', 'Family', 'Shape', 'answer', 'clip', 'load', 'look', 'older_files', 'oracle', 'prepare',
           'rows_of_frames', 'table', 'write_family']
