"""Tiny targets of the two classes that need no processor of transformers."""
from __future__ import annotations

import pytest

import tiny_models
from crossspec_ros.models.targets import load_target

KINDS = ['video_llava', 'llava_onevision']


@pytest.fixture(scope='module', params=KINDS)
def folder(request, tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope='module')
def target(folder):
    return load_target(folder)
