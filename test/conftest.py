"""Options and the environment that every test runs in."""
from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))                  # shared_data, tiny_models

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')           # off by default; a wrong field type is to fail here
os.environ.setdefault('HF_HUB_OFFLINE', '1')

_BEGAN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--long', action='store_true', help='also run the tests that take minutes')


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_BEGAN] = time.time()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the shared memory that killed nodes have left behind since the session began: some tests kill nodes."""
    from crossspec_ros.commands.doctor_checks import dead_segments
    for path in dead_segments():
        try:
            if path.stat().st_mtime >= session.config.stash[_BEGAN]:
                path.unlink()
        except OSError:
            pass                                                # gone by now, or another user's


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption('--long'):
        return
    skip = pytest.mark.skip(reason='takes minutes: run with --long')
    for item in items:
        if 'long' in item.keywords:
            item.add_marker(skip)
