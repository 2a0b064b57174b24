"""Two drafters for one verifier, an event drafter and EventGPT: the drafts of both count, verdicts roll them back, and
when one is killed the other goes on."""
import json

import pytest
from graph_harness import Graph
from tiny_eventgpt import write_eventgpt

from crossspec_ros.msg import Caption

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


def test_two_drafters_are_counted_apart_and_one_survives_the_other(tmp_path, models):
    write_eventgpt(tmp_path / 'eventgpt')
    with Graph(tmp_path, models) as graph:
        # Words enough, and none known from before: a verdict leaves something to go on with.
        graph.start('verifier', decode__max_new_tokens=64, decode__sources=['drafts'], audit__keep=True)
        graph.start('drafter')
        graph.start('drafter', 'second_drafter', draft__source='second', draft__max_tokens=12,
                    model__path=str(tmp_path / 'eventgpt'), model__speaks=models['verifier'])
        probe = graph.probe
        probe.start_cameras()
        verdicts = probe.verdicts
        probe.wait_for(lambda: {draft.source for draft in probe.drafts} == {'event_drafter', 'second'},
                       'drafts of both drafters')
        probe.wait_for(lambda: any({'event_drafter', 'second'} <= set(verdict.sources) for verdict in verdicts),
                       'a verdict on tokens of both drafters')
        again = probe.wait_for(lambda: next((draft for draft in probe.drafts if draft.source == 'second'
                                             and draft.base_length), None), 'a draft that goes on from a verdict')
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
