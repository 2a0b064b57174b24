"""Two drafters for one verifier: both drafts of a window count, and when one is killed the other goes on."""
import pytest
from graph_harness import Graph

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
        alone = graph.probe.wait_for(
            lambda: [verdict for verdict in verdicts if verdict.window_id > last + 1 and verdict.final
                     and 'event_drafter' in verdict.sources], 'a verdict on tokens of the other')
        assert all('second' not in verdict.sources for verdict in alone)
        assert all(caption.lossless for caption in graph.probe.captions)
