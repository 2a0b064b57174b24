"""Cores of a container with a share of its host, read from files as Linux writes them."""
import os

import pytest

from crossspec_ros import cores as module
from crossspec_ros.cores import cores
from crossspec_ros.pipeline import threads


@pytest.fixture
def host(monkeypatch):
    """A host of 64 cores, all of which the process may run on."""
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(64)), raising=False)


@pytest.fixture
def grouped(tmp_path, host):
    """Makes the files of control groups; returns what is read of them."""
    def make(own: str, files: dict[str, str]) -> int:
        (tmp_path / 'own').write_text(own)
        for name, text in files.items():
            path = tmp_path / 'root' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cores(tmp_path / 'own', tmp_path / 'root')
    return make


OF_A_CONTAINER, NESTED = '0::/\n', '0::/system.slice/crossspec.service\n'
FIRST = '9:name=systemd:/\n4:memory:/a\n2:cpu,cpuacct:/docker/1f2e\n'


@pytest.mark.parametrize('own, files, expected', [
    pytest.param(OF_A_CONTAINER, {'cpu.max': '200000 100000\n'}, 2, id='two of a host'),
    pytest.param(OF_A_CONTAINER, {'cpu.max': '150000 100000\n'}, 2, id='one and a half'),
    pytest.param(OF_A_CONTAINER, {'cpu.max': '20000 100000\n'}, 1, id='a fifth'),
    pytest.param(OF_A_CONTAINER, {'cpu.max': 'max 100000\n'}, 64, id='no share'),
    pytest.param(OF_A_CONTAINER, {'cpu.max': '9900000 100000\n'}, 64, id='more than there are'),
    pytest.param(OF_A_CONTAINER, {}, 64, id='no file'),
    pytest.param(OF_A_CONTAINER, {'cpu.max': 'nonsense'}, 64, id='nonsense'),
    pytest.param(OF_A_CONTAINER, {'cpu.max': '100000 0'}, 64, id='no period'),
    pytest.param(NESTED, {'system.slice/crossspec.service/cpu.max': '300000 100000'}, 3, id='a unit'),
    pytest.param(NESTED, {'system.slice/crossspec.service/cpu.max': 'max 100000',
                          'system.slice/cpu.max': '400000 100000'}, 4, id='the group around it'),
    pytest.param('0::/../other\n', {'cpu.max': '200000 100000'}, 2, id='a group outside what is seen'),
    pytest.param(FIRST, {'cpu,cpuacct/docker/1f2e/cpu.cfs_quota_us': '250000\n',
                         'cpu,cpuacct/docker/1f2e/cpu.cfs_period_us': '100000\n'}, 3, id='first kind'),
    pytest.param(FIRST, {'cpu/cpu.cfs_quota_us': '200000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 2,
                 id='first kind, of a container'),
    pytest.param(FIRST, {'cpu/cpu.cfs_quota_us': '-1\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 64,
                 id='first kind, no share'),
    pytest.param('', {'cpu.max': '200000 100000\n'}, 64, id='no groups')])
def test_cores_are_those_that_the_groups_grant(grouped, own, files, expected):
    assert grouped(own, files) == expected


def test_cores_are_no_more_than_the_process_may_run_on(grouped, monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {3, 5, 6}, raising=False)
    assert grouped(OF_A_CONTAINER, {'cpu.max': '800000 100000'}) == 3


def test_this_process_has_one_at_least_and_no_more_than_it_may_run_on():
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize('granted, number', [(2, 1), (1, 1), (8, 7)])
def test_threads_are_no_more_than_the_cores_that_are_granted(monkeypatch, granted, number):
    import torch
    told = [64]
    monkeypatch.setattr(threads, '_asked', {})
    monkeypatch.setattr(threads, '_most', None)
    monkeypatch.setattr(threads, 'cores', lambda: granted)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: told[-1])
    monkeypatch.setattr(torch, 'set_num_threads', told.append)
    assert threads.ask_threads('verifier', 0) == told[-1] == number
    assert module.cores is cores
