"""Real recordings beside the checkout: used in place, never copied; tests skip where they are absent."""
from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared(name: str) -> Path:
    """Path of ``shared/data/<name>``, from CROSSSPEC_SHARED or a folder ``shared`` beside a parent folder of the
    checkout.
    """
    roots = [Path(os.environ['CROSSSPEC_SHARED'])] if os.environ.get('CROSSSPEC_SHARED') else []
    roots += [parent / 'shared' for parent in Path(__file__).resolve().parents]
    for root in roots:
        if (root / 'data' / name).exists():
            return root / 'data' / name
    pytest.skip(f'the recording data/{name} is not here: set CROSSSPEC_SHARED to the folder that holds data/')
