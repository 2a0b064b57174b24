"""Verifiers of both classes and scenes for the tests of the engine."""
from __future__ import annotations

import numpy as np
import pytest

import tiny_models
from crossspec_ros.models.verifier import load_verifier
from engine_harness import FRAMES, KINDS, QUESTION, TOKENS, strip


@pytest.fixture(scope='module', params=KINDS)
def verifier(request, tmp_path_factory):
    return load_verifier(tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope='module')
def scenes(verifier):
    """A few scenes and what generate says of them: with few of them, captions come again and memory has a chance."""
    generator = np.random.default_rng(5)
    frames = [[generator.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(FRAMES)] for _ in range(4)]
    return [(clip, strip(verifier, verifier.generate(clip, QUESTION, TOKENS))) for clip in frames]
