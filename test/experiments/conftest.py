"""A tiny pair and settings of seconds, for every experiment."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from crossspec_ros.experiments.experiment import Experiment
from crossspec_ros.experiments.registry import experiments
from tiny_pair import write_pair

sys.path.insert(0, str(Path(__file__).parent))

QUICKEST = ('alignment', 'early_exit', 'sources')
TIMELINES = ('breakdown', 'machine')              # test_timelines.py


@pytest.fixture(scope='session')
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp('pair'))


@pytest.fixture(scope='session')
def out(tmp_path_factory):
    """One folder, so that windows are answered once for all."""
    return tmp_path_factory.mktemp('experiments')


@pytest.fixture(params=[pytest.param(name, marks=() if name in QUICKEST else pytest.mark.long)
                        for name in experiments() if name not in TIMELINES])
def experiment(request) -> Experiment:
    return experiments()[request.param]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
