"""A drafter that learned from another verifier: its drafts are used, and everybody is told."""
import json
import shutil
from pathlib import Path

import pytest
from graph_harness import Graph

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


def test_drafts_for_another_verifier_are_used_and_told(tmp_path, models):
    drafter = tmp_path / 'other'
    shutil.copytree(models['drafter'], drafter)
    config = json.loads((drafter / 'config.json').read_text(encoding='utf-8'))
    (drafter / 'config.json').write_text(json.dumps(config | {'verifier_key': 'feed'}), encoding='utf-8')
    with Graph(tmp_path, models) as graph:
        graph.start('verifier', decode__max_new_tokens=12)
        graph.start('drafter', model__path=str(Path(drafter)))
        graph.probe.start_cameras()
        probe = graph.probe
        probe.wait_for(lambda: any('event_drafter' in verdict.sources for verdict in probe.verdicts), 'drafts in use')
        probe.wait_for(lambda: any(draft.other_verifier for draft in probe.drafts), 'a draft that says it')
        assert {draft.trained_for for draft in probe.drafts} == {'feed'}
        assert all(len(verdict.verifier_key) == 16 and verdict.tokenizer_key for verdict in probe.verdicts)
        for node in ('/drafter', '/verifier'):
            probe.wait_for(lambda: 'not trained for this verifier' in probe.states.get(node, (0, ''))[1], f'{node} too')
        assert all(caption.lossless for caption in probe.captions)
