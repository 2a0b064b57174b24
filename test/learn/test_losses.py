"""Losses against their formulas written out, and which places the filter and the gate let count."""
import pytest
import torch

from crossspec_ros.learn.losses import LOSSES, accepted_places, learnable_places, target_probs

ROWS, PROBS = torch.tensor([[2, 0, 0]]), torch.tensor([[0.6, 0.2, 0.1]])      # two tokens share the escape's row


def test_law_adds_up_tokens_of_one_row_and_spreads_what_is_left():
    law = target_probs(ROWS, PROBS, 4)
    assert torch.allclose(law, torch.tensor([[0.325, 0.025, 0.625, 0.025]]), atol=1e-4)
    assert torch.allclose(law.sum(-1), torch.ones(1))


@pytest.mark.parametrize('name', LOSSES)
def test_loss_is_least_where_the_drafter_says_what_the_verifier_says(name):
    law = target_probs(ROWS, PROBS, 4)
    same, other = law.log(), law.roll(1, -1).log()
    assert LOSSES[name](same, ROWS, PROBS) < LOSSES[name](other, ROWS, PROBS)


def test_losses_follow_their_formulas():
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.5]])
    draft, law = torch.softmax(logits, -1)[0], target_probs(ROWS, PROBS, 4)[0]
    expected = {'forward_kl': -(torch.tensor([0.6, 0.2, 0.1]) / 0.9 * draft[[2, 0, 0]].log()).sum(),
                'reverse_kl': (draft * (draft / law).log()).sum(),
                'total_variation': 1 - torch.minimum(draft, law).sum()}
    assert set(expected) == set(LOSSES)
    for name, value in expected.items():
        assert torch.allclose(LOSSES[name](logits, ROWS, PROBS)[0], value, atol=1e-5), name


def test_filter_keeps_the_places_where_a_reference_does_most_better():
    own, reference = torch.tensor([3.0, 3.0, 1.0, 0.5]), torch.tensor([2.9, 0.5, 0.2, 0.6])
    assert learnable_places(own, reference, 0.5).tolist() == [False, True, True, False]


def test_gate_accepts_by_the_ratio_of_probabilities():
    logits = torch.log(torch.tensor([[0.05, 0.05, 0.85, 0.05]])).expand(3, -1)
    rows, probs = ROWS.expand(3, -1), PROBS.expand(3, -1)                     # the verifier gives row 2 0.625
    assert accepted_places(logits, rows, probs, torch.tensor([0.0, 0.7, 0.8])).tolist() == [True, True, False]
