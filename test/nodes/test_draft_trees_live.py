"""Drafts with branches in the live graph: sent, taken, and no caption changed by them."""
import pytest
import torch
from graph_harness import Graph

from crossspec_ros.models.drafter import load_drafter
from crossspec_ros.msg import Caption
from crossspec_ros.speculation.tree import tree_fault
from crossspec_ros.train.recipe import save_drafter

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


def test_drafts_with_branches_are_sent_and_taken(tmp_path, models):
    drafter = load_drafter(models['drafter'])
    with torch.no_grad():                                       # a random drafter that has opinions
        drafter.norm.weight.copy_(12.0 * torch.randn(drafter.config.dim, generator=torch.Generator().manual_seed(1)))
    save_drafter(drafter, tmp_path / 'decided')
    with Graph(tmp_path, models | {'drafter': str(tmp_path / 'decided')}) as graph:
        graph.start('verifier', decode__max_new_tokens=12)
        graph.start('drafter', draft__alternatives=8)
        graph.probe.start_cameras()
        probe = graph.probe

        def answered() -> list[Caption]:
            windows = {draft.window_id for draft in probe.drafts if len(set(draft.parents)) < len(draft.parents)}
            return [caption for caption in probe.captions if caption.stage == Caption.FINAL
                    and caption.window_id in windows and caption.mode == 'cross_modal']
        probe.wait_for(lambda: len(answered()) >= 2, 'captions of windows whose drafts have branches')
        assert all(tree_fault(draft.token_ids, draft.parents, draft.weights) is None for draft in probe.drafts)
        assert all(caption.lossless for caption in probe.captions)
        causes = {cause for verdict in probe.verdicts for cause in verdict.refused_causes}
        assert not causes & {'malformed', 'vocabulary', 'tokenizer', 'source'}
