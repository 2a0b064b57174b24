"""Passes of a target that is known: what they emit, and which rows have states."""
import torch

from crossspec_ros.speculation.replay import KnownAnswer
from crossspec_ros.speculation.sources.heads import FINAL
from crossspec_ros.speculation.tree import TokenTree

STATES = torch.arange(1, 17, dtype=torch.float32).view(4, 2, 2)


def test_pass_emits_the_accepted_path_and_one_more_with_the_states_it_was_said_from():
    known = KnownAnswer((5, 6, 7, 1), STATES, (0, FINAL))
    outcome = known.outcome(TokenTree((9, 6, 7), (-1, -1, 1)), 1, verify_ms=2.0)
    assert outcome.nodes == (1, 2) and outcome.emitted == (6, 7, 1) and outcome.complete and not outcome.first
    assert outcome.verify_ms == 2.0 and list(outcome.layers) == [0]
    for rows, place in ((outcome.layers[0], 0), (outcome.states, 1)):
        assert torch.equal(rows[[0, 2, 3]], STATES[1:, place]) and not rows[1].any()


def test_pass_that_drafts_the_end_token_emits_no_more_than_there_is():
    outcome = KnownAnswer((5, 1)).outcome(TokenTree((5, 1), (-1, 0)), 0)
    assert outcome.emitted == (5, 1) and outcome.nodes == (0, 1) and outcome.first and outcome.complete
    assert outcome.states is None and outcome.layers == {}
    assert KnownAnswer((5, 6, 1)).outcome(TokenTree(), 0).emitted == (5,)
