"""Options and the environment that every test runs in."""
from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Iterator
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
_STUCK_S = 60.0                                                 # how long after its time-out a test is beyond help
_BEGUN_S = time.monotonic()
_ended_a_worker: list[str] = []

torch.set_num_threads(1)                                        # tiny models: a second thread would only wait


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--long', action='store_true', help='also run the tests that take a minute or so each')
    parser.addoption('--long-minutes', type=float, default=float('inf'), metavar='MINUTES',
                     help='begin none of these later than so many minutes after the start; the others go on')
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


def pytest_configure(config: pytest.Config) -> None:
    global _stderr
    with config.pluginmanager.getplugin('capturemanager').global_and_fixture_disabled():
        _stderr = os.dup(2)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    _ended_a_worker.append(crashitem)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """What ended its process is run again by another one, and has failed even where it then passes."""
    failed = session.config.pluginmanager.getplugin('lfplugin')
    if failed is not None:
        failed.lastfailed.update((name, True) for name in _ended_a_worker)


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = item.config.getoption('--long-minutes')
    if 'long' in item.keywords and time.monotonic() - _BEGUN_S > 60 * minutes:
        pytest.skip(f'the run has taken more than {minutes:g} minutes already')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the process where a call never comes back and holds the interpreter's lock, so that no thread of Python can
    end the test at its time-out: one of the middleware kept a whole run from its end. Says where it was.
    """
    if not item.config.pluginmanager.hasplugin('timeout') or item.config.getoption('usepdb'):
        return (yield)
    marker = item.get_closest_marker('timeout')
    limit_s = float(marker.args[0] if marker else item.config.getini('timeout'))
    faulthandler.dump_traceback_later(limit_s + _STUCK_S, exit=True, file=_stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
