"""Three models over real DDS: the qualifier's drafts are heard and used, the verifier's words stay its own, and the
graph goes on while the qualifier is dead.
"""
import json

import pytest
from graph_harness import Graph

from crossspec_ros.msg import Caption

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


def film(graph: Graph) -> None:
    """Cameras of a still scene, of which a model says at any time what it says at the end of a window."""
    send = graph.probe.send_image
    graph.probe.send_image = lambda stamp_ns, number=0: send(stamp_ns, 80)
    graph.probe.start_cameras()


def test_better_drafts_are_used_and_their_end_is_survived(tmp_path, models):
    with Graph(tmp_path, models) as graph:
        probe, verdicts = graph.probe, graph.probe.verdicts
        # Nothing known from before, so that words are the drafters'; long windows and far ahead, for busy machines.
        grid = {'window__frames': 4, 'window__stride_frames': 4, 'window__frame_interval_ms': 500.0}
        graph.start('verifier', decode__max_new_tokens=12, decode__sources=['drafts'], audit__keep=True, **grid)
        graph.start('drafter', draft__max_tokens=4, **grid)

        def qualify() -> None:
            graph.start('qualifier', model__path=models['verifier'], draft__lead_ms=1000.0, draft__max_tokens=12,
                        **grid)

        def accepted() -> int:
            return sum(verdict.accepted[list(verdict.sources).index('qualifier')] for verdict in verdicts
                       if verdict.final and 'qualifier' in verdict.sources)

        def better() -> list:
            return [draft for draft in probe.drafts if draft.source == 'qualifier']
        qualify()
        film(graph)
        probe.wait_for(better, 'a draft of the qualifier')
        probe.wait_for(lambda: accepted() and probe.count('qualifier', 'drafts'), 'accepted words of the qualifier')
        probe.wait_for(lambda: probe.count('qualifier', 'drafts_heard'), 'drafts that it was given')
        assert {draft.source for draft in probe.drafts} == {'event_drafter', 'qualifier'}
        assert {(draft.events_used, draft.trained_for, draft.tokenizer_key) for draft in better()} == {
            (0, '', verdicts[0].tokenizer_key)}

        graph.processes.kill('qualifier')
        last, heard, used = max(caption.window_id for caption in probe.captions), len(better()), accepted()
        probe.wait_for(lambda: len([caption for caption in probe.captions if caption.stage == Caption.FINAL
                                    and caption.window_id > last + 1]) > 1, 'captions without it')
        assert len(better()) == heard
        qualify()
        probe.wait_for(lambda: len(better()) > heard and accepted() > used, 'its drafts again')
        probe.stop_cameras()
        assert graph.processes.end('qualifier') == 0
        assert all(caption.lossless for caption in probe.captions)

        def audited():
            state = json.loads(probe.trigger('verifier/audit').message)
            return state if state['checked'] and not state['pending'] else None
        assert probe.wait_for(audited, 'the audit')['mismatched'] == 0
