"""A tiny verifier and drafter that share no vocabulary, and drives of a few scenes in place of recordings."""
from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))                  # toy_drive

import toy_drive                                                # noqa: E402
from tiny_models import write_checkpoint                        # noqa: E402
from tiny_pair import write_pair                                # noqa: E402


@pytest.fixture(scope='session')
def verifier(tmp_path_factory) -> Path:
    """A LLaVA-OneVision of random weights: another class than the built-in one's."""
    return write_checkpoint(tmp_path_factory.mktemp('verifier') / 'onevision', 'llava_onevision', seed=3, context=1024)


@pytest.fixture(scope='session')
def base(tmp_path_factory) -> Path:
    """A tiny drafter of random weights."""
    return write_pair(tmp_path_factory.mktemp('pair'))[1]


@pytest.fixture
def toys(monkeypatch) -> None:
    """Recordings named ``toy:...`` are toy drives."""
    monkeypatch.setattr('crossspec_ros.learn.drives.open_source', toy_drive.open_toy)


@pytest.fixture
def bar():
    """No progress bar."""
    return lambda text, total, unit: nullcontext(lambda count: None)
