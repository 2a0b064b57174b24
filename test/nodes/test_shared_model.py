"""A verifier whose model two processes share, as a node: alone, with a process lost, and under torchrun."""
import sys

import psutil
import pytest
from graph_harness import Graph
from lifecycle_msgs.msg import Transition

from crossspec_ros.graph import node_command
from crossspec_ros.msg import Caption

pytestmark = [pytest.mark.graph, pytest.mark.long, pytest.mark.timeout(1500)]
pytest.importorskip('accelerate', reason='transformers shares models with accelerate only')
ERROR = 2
PATIENCE_S = 400.0                                              # two processes take turns at one busy core


@pytest.fixture
def graph(tmp_path, models):
    with Graph(tmp_path, models) as graph:
        yield graph


def finals(probe) -> int:
    return sum(caption.stage == Caption.FINAL for caption in list(probe.captions))


def active(probe) -> None:
    probe.wait_for(lambda: probe.diagnostics.get('/verifier', {}).get('active') == 'True', 'an active verifier',
                   PATIENCE_S)


def captions_come(probe) -> None:
    before = finals(probe)
    probe.wait_for(lambda: finals(probe) >= before + 2, 'captions of a model that two processes share', PATIENCE_S)


def test_node_whose_model_lost_a_process_says_so_lives_and_captions_when_configured_again(graph):
    probe = graph.probe
    process = graph.start('verifier', model__tensor_parallel=2, decode__max_new_tokens=6)
    active(probe)
    probe.start_cameras(events=False)
    captions_come(probe)
    other, = psutil.Process(process.pid).children()
    other.kill()
    told = probe.wait_for(lambda: probe.states['/verifier'][0] == ERROR and probe.states['/verifier'][1],
                          'an error in the diagnostics')
    assert 'process 1 of the model has ended (SIGKILL)' in told
    probe.wait_for(lambda: probe.count('verifier', 'window_failed') >= 2, 'windows that are refused and counted')
    for transition in ('DEACTIVATE', 'CLEANUP', 'CONFIGURE', 'ACTIVATE'):
        assert probe.change('verifier', getattr(Transition, f'TRANSITION_{transition}')), transition
    captions_come(probe)
    probe.wait_for(lambda: probe.states['/verifier'][0] != ERROR, 'diagnostics without the error')
    other, = psutil.Process(process.pid).children()
    assert graph.processes.end('verifier') == 0
    assert not other.is_running()


def test_torchrun_starts_one_node_and_its_processes_end_with_it(graph, monkeypatch):
    probe = graph.probe
    command = node_command('verifier', {'model.path': graph.models['verifier'], 'decode.max_new_tokens': 6})
    together = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', *command[1:]]
    monkeypatch.setattr('graph_harness.node_command', lambda *args, **options: together)
    process = graph.start('verifier')
    active(probe)
    probe.start_cameras(events=False)
    captions_come(probe)
    both = psutil.Process(process.pid).children()
    assert len(both) == 2
    graph.processes.end('verifier')
    gone, alive = psutil.wait_procs(both, 20)
    assert not alive
