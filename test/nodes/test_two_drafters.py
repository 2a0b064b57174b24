"""Two drafters for one verifier, an event drafter and EventGPT: the drafts of both count, verdicts roll them back, and
when one is killed the other goes on."""
import json
import os
import signal
import subprocess
import time

import pytest
from graph_harness import PATIENCE_S, Graph, Probe
from tiny_eventgpt import write_eventgpt

from crossspec_ros.msg import Caption, Draft

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


def go_on_from_a_verdict(probe: Probe, verifier: subprocess.Popen, source: str) -> Draft:
    """The first draft of this source that continues a verdict, of a verifier that is held still within its answers.

    The built-in test verifier ends an answer before any drafter has gone on from half of it; one that people drive
    with takes longer than that for each of its passes.
    """
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        known = len(probe.verdicts)
        probe.wait_for(lambda: len(probe.verdicts) > known, 'a further verdict')
        os.kill(verifier.pid, signal.SIGSTOP)
        try:
            held_until = time.monotonic() + 3
            while time.monotonic() < held_until:
                for draft in list(probe.drafts):
                    if draft.source == source and draft.base_length:
                        return draft
                time.sleep(0.05)
        finally:
            os.kill(verifier.pid, signal.SIGCONT)
    raise AssertionError(f'not within {PATIENCE_S:g} s: a draft of {source} that goes on from a verdict')


def test_two_drafters_are_counted_apart_and_one_survives_the_other(tmp_path, models):
    write_eventgpt(tmp_path / 'eventgpt')
    with Graph(tmp_path, models) as graph:
        # Words enough, and none known from before: a verdict leaves something to go on with.
        verifier = graph.start('verifier', decode__max_new_tokens=64, decode__sources=['drafts'], audit__keep=True)
        graph.start('drafter')
        graph.start('drafter', 'second_drafter', draft__source='second', draft__max_tokens=12, draft__redrafts=64,
                    model__path=str(tmp_path / 'eventgpt'), model__speaks=models['verifier'])
        probe = graph.probe
        probe.start_cameras()
        verdicts = probe.verdicts
        probe.wait_for(lambda: {draft.source for draft in probe.drafts} == {'event_drafter', 'second'},
                       'drafts of both drafters')
        probe.wait_for(lambda: any({'event_drafter', 'second'} <= set(verdict.sources) for verdict in verdicts),
                       'a verdict on tokens of both drafters')
        again = go_on_from_a_verdict(probe, verifier, 'second')
        hashes = {(verdict.window_id, len(verdict.committed)): verdict.committed_hash for verdict in verdicts}
        assert hashes[again.window_id, again.base_length] == again.base_hash
        assert {draft.tokenizer_key for draft in probe.drafts} == {verdict.tokenizer_key for verdict in verdicts}
        assert {draft.trained_for for draft in probe.drafts if draft.source == 'second'} == {''}

        graph.processes.kill('second_drafter')
        last = max(draft.window_id for draft in probe.drafts)
        after = probe.wait_for(
            lambda: [caption for caption in probe.captions if caption.stage == Caption.FINAL
                     and caption.window_id > last + 1 and caption.mode == 'cross_modal'],
            'captions with the other alone')
        windows = {caption.window_id for caption in after}
        assert {draft.source for draft in probe.drafts if draft.window_id in windows} == {'event_drafter'}
        assert all(caption.lossless for caption in probe.captions)
        probe.stop_cameras()

        def audited():
            state = json.loads(probe.trigger('verifier/audit').message)
            return state if state['checked'] and not state['pending'] else None
        assert probe.wait_for(audited, 'the audit')['mismatched'] == 0
