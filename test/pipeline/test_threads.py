"""torch's threads with several models in a process."""
import os
import subprocess
import sys

import pytest
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.pipeline import threads

TORCHS_OWN = 3


@pytest.fixture
def fresh(monkeypatch):
    """A process in which nobody has asked yet; what torch is told is kept from the other tests."""
    told = [TORCHS_OWN]
    monkeypatch.setattr(threads, '_asked', {})
    monkeypatch.setattr(threads, '_most', None)
    monkeypatch.setattr(threads, 'cores', lambda: 64)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: told[-1])
    monkeypatch.setattr(torch, 'set_num_threads', told.append)
    return told


@pytest.mark.parametrize('asked, number', [
    pytest.param([('drafter', 1)], 1, id='alone'),
    pytest.param([('drafter', 1), ('verifier', 2)], 2, id='the most'),
    pytest.param([('verifier', 2), ('drafter', 1)], 2, id='in any order'),
    pytest.param([('drafter', 1), ('verifier', 0)], TORCHS_OWN - 1, id='all but one'),
    pytest.param([('verifier', 0), ('drafter', 1)], TORCHS_OWN - 1, id='all but one in any order'),
    pytest.param([('drafter', 2), ('drafter', 1)], 1, id='asked again')])
def test_threads_are_the_most_that_is_asked(fresh, asked, number):
    returned = [threads.ask_threads(*each) for each in asked]
    assert returned[-1] == fresh[-1] == number


@pytest.mark.parametrize('own, number', [
    pytest.param({}, 1, id='one is there'),
    pytest.param({'OMP_NUM_THREADS': '1'}, 1, id='one is wanted')])
def test_no_core_is_left_where_there_is_one(own, number, fresh, monkeypatch):
    fresh[:] = [1]
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert threads.ask_threads('verifier', 0) == number


def test_threads_that_the_user_names_are_taken(fresh, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', str(TORCHS_OWN))
    assert threads.ask_threads('verifier', 0) == TORCHS_OWN


def test_threads_below_zero_are_refused():
    with pytest.raises(CrossSpecError, match='threads must be >= 0, got -1'):
        threads.ask_threads('drafter', -1)


def test_threads_of_a_drafter_do_not_limit_the_verifier_in_its_process():
    code = f"""
import sys, threading, types, torch
from crossspec_ros.config import DrafterConfig, VerifierConfig
from crossspec_ros.pipeline import building, threads
threads.cores = lambda: 64
class Loaded(Exception): pass
def load(*args, **options):
    raise Loaded
# the threads are asked for before anything is loaded
for name, functions in (('drafters.load', dict(load_any_drafter=load)), ('targets', dict(load_target=load)),
                        ('fit', dict(Serving=lambda *args, **options: None, check_fit=lambda *args: None)),
                        ('ranks', dict(torchrun_count=lambda: 1))):
    sys.modules[f'crossspec_ros.models.{{name}}'] = types.SimpleNamespace(**functions)
torch.set_num_threads({TORCHS_OWN})                             # what it decides differs from machine to machine
for build, config in ((building.build_drafting, DrafterConfig()), (building.build_engine, VerifierConfig())):
    try:
        build(config)
    except Loaded:                                              # models compute in threads of their own
        thread = threading.Thread(target=lambda: print(torch.get_num_threads()))
        thread.start()
        thread.join()
"""
    environment = {name: value for name, value in os.environ.items() if name != 'OMP_NUM_THREADS'}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=300,
                          env=environment)
    assert done.stdout.split() == ['1', str(TORCHS_OWN - 1)]
