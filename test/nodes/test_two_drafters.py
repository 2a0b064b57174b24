"""Two drafters for one verifier: both drafts of a window count, and when one is killed the other goes on."""
import pytest
from graph_harness import Graph

from crossspec_ros.msg import Caption

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


def test_two_drafters_are_counted_apart_and_one_survives_the_other(tmp_path, models):
    with Graph(tmp_path, models) as graph:
        graph.start('verifier', decode__max_new_tokens=12)
        graph.start('drafter')
        graph.start('drafter', 'second_drafter', draft__source='second')
        graph.probe.start_cameras()
        verdicts = graph.probe.verdicts
        graph.probe.wait_for(lambda: {draft.source for draft in graph.probe.drafts} == {'event_drafter', 'second'},
                             'drafts of both drafters')
        graph.probe.wait_for(lambda: any({'event_drafter', 'second'} <= set(verdict.sources) for verdict in verdicts),
                             'a verdict on tokens of both drafters')

        graph.processes.kill('second_drafter')
        last = max(draft.window_id for draft in graph.probe.drafts)
        after = graph.probe.wait_for(
            lambda: [caption for caption in graph.probe.captions if caption.stage == Caption.FINAL
                     and caption.window_id > last + 1 and caption.mode == 'cross_modal'],
            'captions with the other alone')
        windows = {caption.window_id for caption in after}
        assert {draft.source for draft in graph.probe.drafts if draft.window_id in windows} == {'event_drafter'}
        assert all(caption.lossless for caption in graph.probe.captions)
