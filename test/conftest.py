"""Options and the environment that every test runs in."""
from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from crossspec_ros.models.vision_ops import load_vision_ops

sys.path.insert(0, str(Path(__file__).parent))                  # shared_data, tiny_models

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')           # off by default; a wrong field type is to fail here
os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ['CROSSSPEC_CACHE_DIR'] = ''                          # what one test has loaded is tried again by the next

load_vision_ops()                                               # before a test imports a class of transformers
_TESTS = Path(__file__).parent
_LIVE = ('bench/', 'commands/', 'demo/', 'launch/', 'nodes/', 'test_children', 'test_interrupts', 'test_launched',
         'test_nursery')

torch.set_num_threads(1)                                        # tiny models: a second thread would only wait


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--long', action='store_true', help='also run the tests that take a minute or so each')
    parser.addoption('--longest', action='store_true', help='run all tests: those of a quarter of an hour too')


@pytest.hookimpl(tryfirst=True)                               # before the groups become part of the names
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.pluginmanager.hasplugin('xdist'):
        _share_out(items)
    longest = config.getoption('--longest')
    asked = {'long': longest or config.getoption('--long'), 'longest': longest}
    for name in (name for name, is_asked in asked.items() if not is_asked):
        skip = pytest.mark.skip(reason=f'takes too long for every run: run with --{name}')
        for item in items:
            if name in item.keywords:
                item.add_marker(skip)


def _share_out(items: list[pytest.Item]) -> None:
    """For `pytest -n N --dist loadgroup`: what starts processes of its own is one process' work, one after the other,
    and begins first; of the rest, a file is.
    """
    for item in items:
        file = item.path.relative_to(_TESTS).as_posix()
        live = 'graph' in item.keywords or file.startswith(_LIVE)
        item.add_marker(pytest.mark.xdist_group('live' if live else file))
    items.sort(key=lambda item: item.get_closest_marker('xdist_group').args[0] != 'live')
