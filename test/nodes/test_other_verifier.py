"""A drafter with a part of the words, which learned from another verifier: its drafts are used, everybody is told."""
import dataclasses

import pytest
import torch
from graph_harness import Graph

from crossspec_ros.models.drafter import EventDrafter, load_drafter
from crossspec_ros.train.recipe import save_drafter

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


def test_drafts_for_another_verifier_are_used_and_told(tmp_path, models):
    whole = load_drafter(models['drafter'])
    kept = tuple(range(1, whole.config.vocab_size, 3))
    part = EventDrafter(dataclasses.replace(whole.config, kept_ids=kept, verifier_key='feed', format=2),
                        whole.tokenizer)
    part.load_state_dict({name: value for name, value in whole.state_dict().items() if name != 'embed.weight'},
                         strict=False)
    with torch.no_grad():
        part.embed.weight[1:] = whole.embed.weight[list(kept)]
    save_drafter(part, tmp_path / 'other')
    with Graph(tmp_path, models) as graph:
        graph.start('verifier', decode__max_new_tokens=12)
        graph.start('drafter', model__path=str(tmp_path / 'other'))
        graph.probe.start_cameras()
        probe = graph.probe
        probe.wait_for(lambda: any('event_drafter' in verdict.sources for verdict in probe.verdicts), 'drafts in use')
        probe.wait_for(lambda: any(draft.other_verifier for draft in probe.drafts), 'a draft that says it')
        assert {draft.trained_for for draft in probe.drafts} == {'feed'}
        assert {token for draft in probe.drafts for token in draft.token_ids} <= set(kept)
        assert all(len(verdict.verifier_key) == 16 and verdict.tokenizer_key for verdict in probe.verdicts)
        for node in ('/drafter', '/verifier'):
            probe.wait_for(lambda: 'not trained for this verifier' in probe.states.get(node, (0, ''))[1], f'{node} too')
        assert all(caption.lossless for caption in probe.captions)
