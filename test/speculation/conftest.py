"""Targets of two classes and scenes for the tests of the engine."""
from __future__ import annotations

import numpy as np
import pytest

import tiny_models
from crossspec_ros.models.targets import load_target
from engine_harness import KINDS, QUESTION, TOKENS, clip_of, strip


@pytest.fixture(scope='module', params=KINDS)
def folder(request, tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope='module')
def target(folder):
    return load_target(folder)


@pytest.fixture(scope='module')
def scenes(target):
    """A few scenes and what generate says of them: with few of them, captions come again and memory has a chance."""
    generator = np.random.default_rng(5)
    return [(clip, strip(target, target.generate(clip, QUESTION, TOKENS)))
            for clip in (clip_of(generator) for _ in range(4))]
