"""Checkpoints to quantise, where the libraries for it are installed."""
from __future__ import annotations

import pytest

import tiny_models
from crossspec_ros.models.quantization import KINDS


def library_of(kind: str) -> None:
    """Skip a test where the library of a kind is not installed."""
    name = KINDS[kind].library
    pytest.importorskip(name, reason=f'quantization {kind} needs {name}')
    if kind == 'nf4':
        pytest.importorskip('accelerate', reason='nf4 is loaded by way of accelerate')


def wide(folder, kind='video_llava', **shape):
    """A checkpoint whose layers every kind that runs on a CPU can quantise."""
    return tiny_models.write_checkpoint(folder, kind, **(dict(seed=3, hidden=64, heads=4, kv_heads=2) | shape))
