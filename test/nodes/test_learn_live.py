"""A drafter that learns from real verdicts: it changes while captions stay what they are."""
import json
import signal
import subprocess
import sys

import psutil
import pytest
from graph_harness import Graph

from crossspec_ros.models.drafter import load_drafter
from crossspec_ros.msg import Caption

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]
LEARN = {'learn__online': True, 'learn__online_priority': 'normal', 'learn__online_cpu_share': 1.0,
         'learn__judge_windows': 8, 'learn__rate': 3e-3, 'learn__online_memory_mb': 2048}


def test_the_drafter_learns_while_captions_stay_what_the_verifier_says_alone(tmp_path, models):
    saved = tmp_path / 'saved'
    with Graph(tmp_path, models) as graph:
        probe = graph.probe
        shape = {'window__frames': 2, 'window__stride_frames': 2}
        graph.start('verifier', decode__max_new_tokens=12, audit__rate=1.0, **shape)
        graph.start('drafter', **LEARN, **shape, learn__folder=str(saved))
        probe.start_cameras()
        probe.wait_for(lambda: probe.count('drafter', 'learn_swaps') >= 1, 'a drafter that learned takes over')
        keys = {verdict.verifier_key for verdict in probe.verdicts}
        probe.wait_for(lambda: probe.drafts[-1].trained_for in keys, 'drafts of one that learned from this verifier')
        assert probe.trigger('drafter/learn/save').success
        assert {load_drafter(saved).verifier_key} == keys
        assert probe.trigger('drafter/learn/roll_back').success
        probe.wait_for(lambda: probe.count('drafter', 'learn_rolled_back') == 1, 'the count of it')
        audit = probe.wait_for(lambda: (told := json.loads(probe.trigger('verifier/audit').message))['checked'] > 3
                               and told, 'captions decoded again without drafts')
        assert audit['mismatched'] == 0
        finals = [caption for caption in probe.captions if caption.stage == Caption.FINAL]
        assert finals and all(caption.lossless for caption in finals)
        told = {name: probe.count('drafter', f'learn_{name}') for name in (
            'heard', 'sent', 'forgotten', 'other_tokens', 'empty', 'overflow', 'waiting')}
        assert told.pop('heard') == sum(told.values()) and told['sent'] > 8
        assert graph.processes.end('drafter') == 0


def test_learning_works_where_drafter_and_verifier_share_a_process(tmp_path, models):
    with Graph(tmp_path, models) as graph:
        given = {f'{name}:model.path': path for name, path in models.items()}
        given |= {f'drafter:{name.replace("__", ".")}': str(value).lower() for name, value in LEARN.items()}
        arguments = ['--ros-args', *(text for name, value in given.items() for text in ('-p', f'{name}:={value}'))]
        process = subprocess.Popen([sys.executable, '-m', 'crossspec_ros.nodes.composed', *arguments],
                                   env=graph.processes.environment,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        try:
            graph.probe.start_cameras()
            graph.probe.wait_for(lambda: graph.probe.count('drafter', 'learn_judged') >= 2, 'windows that were judged')
            learners = [child for child in psutil.Process(process.pid).children() if any(
                'online_process' in word for word in child.cmdline())]
            assert len(learners) == 1
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            graph.probe.wait_for(lambda: not learners[0].is_running(), 'the end of the process that learns')
        finally:
            process.kill()
            process.wait()
