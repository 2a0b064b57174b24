"""The distribution of rejection sampling, by exact enumeration: every draft and every random decision."""
from __future__ import annotations

import itertools

import pytest
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.rejection import (SeededChance, accept_rejection, accept_tree, distribution_of_weights,
                                                 residual)
from crossspec_ros.speculation.tree import TokenTree

VOCAB = 3


def distribution(*weights) -> torch.Tensor:
    weights = torch.tensor(weights, dtype=torch.float64)
    return weights / weights.sum()


TARGET = {(): distribution(5, 3, 2), (0,): distribution(1, 1, 8), (1,): distribution(6, 3, 1),
          (2,): distribution(2, 5, 3)}
DRAFTER_A, DRAFTER_B = distribution(2, 2, 6), distribution(1, 7, 2)


class Script:
    """A Chance that replays decisions from a script, then takes the first branch, and notes the others."""

    def __init__(self, script):
        self.script, self.taken, self.probability, self.open = list(script), [], 1.0, []

    def _decide(self, probs):
        choices = [choice for choice, prob in enumerate(probs) if prob > 0]
        place = len(self.taken)
        choice = self.script[place] if place < len(self.script) else choices[0]
        if place >= len(self.script):
            self.open += [self.taken + [other] for other in choices[1:]]
        self.taken.append(choice)
        self.probability *= float(probs[choice])
        return choice

    def accept(self, probability):
        return bool(self._decide([1 - probability, probability]))

    def sample(self, probs):
        return self._decide(probs.tolist())


def outcomes(run):
    """(result, probability) of every path of random decisions through ``run(chance)``."""
    waiting = [[]]
    while waiting:
        chance = Script(waiting.pop())
        yield run(chance), chance.probability
        waiting += chance.open


def distribution_of_two(drafts):
    """Distribution (V, V) of the first two tokens said. ``drafts``: (tokens, parents, distributions, probability) of
    every draft.
    """
    joint = torch.zeros(VOCAB, VOCAB, dtype=torch.float64)
    for tokens, parents, distributions, weight in drafts:
        deep = distribution(1, 1, 1)  # a third token is not looked at
        above = parents or range(-1, len(tokens) - 1)
        rows = torch.stack(
            [TARGET[()], *(TARGET[(token,)] if parent < 0 else deep for token, parent in zip(tokens, above))])
        for accepted, probability in outcomes(lambda chance: accept_tree(tokens, parents, distributions, rows, chance)):
            said = accepted.emitted
            if len(said) == 1:
                joint[said[0]] += weight * probability * TARGET[said]
            else:
                joint[said[0], said[1]] += weight * probability
    return joint


TRUE_LAW = torch.stack([TARGET[()][first] * TARGET[(first,)] for first in range(VOCAB)])


def distance(drafts) -> float:
    """Total variation between the distribution said and the target's."""
    said = distribution_of_two(drafts)
    assert abs(float(said.sum()) - 1) < 1e-12
    return 0.5 * float((said - TRUE_LAW).abs().sum())


def siblings(*distributions):
    """Every draw of one sibling from each distribution."""
    for tokens in itertools.product(range(VOCAB), repeat=len(distributions)):
        weight = 1.0
        for token, drawn_from in zip(tokens, distributions):
            weight *= float(drawn_from[token])
        yield tokens, (-1,) * len(tokens), list(distributions), weight


def without_replacement(drawn_from):
    """Two siblings from one distribution, the second from what is left without the first."""
    for first, second in itertools.permutations(range(VOCAB), 2):
        left = residual(drawn_from, None, first)
        yield (first, second), (-1, -1), [drawn_from, left], float(drawn_from[first] * left[second])


def two_deep():
    """Two siblings and below each a child, all sampled, and a lookup after them."""
    for a, b, c, d in itertools.product(range(VOCAB), repeat=4):
        weight = float(DRAFTER_A[a] * DRAFTER_B[b] * DRAFTER_B[c] * DRAFTER_A[d])
        yield (a, b, 1, c, d), (-1, -1, -1, 0, 1), [DRAFTER_A, DRAFTER_B, None, DRAFTER_B, DRAFTER_A], weight


EXACT = {
    'nothing drafted': [((), (), [], 1.0)],
    'one sampled': list(siblings(DRAFTER_A)),
    'chain of two': [((a, b), (), [DRAFTER_A, DRAFTER_B], float(DRAFTER_A[a] * DRAFTER_B[b]))
                     for a, b in itertools.product(range(VOCAB), repeat=2)],
    'one certain': [((2,), (-1,), [None], 1.0)],
    'three certain': [((2, 0, 1), (-1, -1, -1), [None] * 3, 1.0)],
    'two sources': list(siblings(DRAFTER_A, DRAFTER_B)),
    'same distribution thrice': list(siblings(DRAFTER_A, DRAFTER_A, DRAFTER_A)),
    'without replacement': list(without_replacement(DRAFTER_A)),
    'sampled then certain': [((a, 1), (-1, -1), [DRAFTER_A, None], float(DRAFTER_A[a])) for a in range(VOCAB)],
    'draft distribution is the target distribution': list(siblings(TARGET[()])),
    'tree': list(two_deep()),
}


@pytest.mark.parametrize('case', EXACT)
def test_rejection_distribution_is_the_target_distribution(case):
    assert distance(EXACT[case]) < 1e-12


def skipped_duplicate():
    for tokens, parents, distributions, weight in siblings(DRAFTER_A, DRAFTER_A):
        kept = 1 if tokens[0] == tokens[1] else 2
        yield tokens[:kept], parents[:kept], distributions[:kept], weight


def dropped_for_low_confidence():
    for tokens, parents, distributions, weight in siblings(DRAFTER_A):
        kept = 1 if DRAFTER_A[tokens[0]] > 0.3 else 0
        yield tokens[:kept], parents[:kept], distributions[:kept], weight


def ordered_after_seeing():
    for tokens, parents, distributions, weight in siblings(DRAFTER_A, DRAFTER_B):
        order = sorted(range(2), key=lambda place: -float(TARGET[()][tokens[place]]))
        yield tuple(tokens[place] for place in order), parents, [distributions[place] for place in order], weight


def greedy_scored_with_the_distribution():
    yield (int(DRAFTER_A.argmax()),), (-1,), [DRAFTER_A], 1.0


MISTAKES = [skipped_duplicate, dropped_for_low_confidence, ordered_after_seeing, greedy_scored_with_the_distribution]


@pytest.mark.parametrize('mistake', MISTAKES, ids=lambda mistake: mistake.__name__)
def test_rejection_distribution_catches_the_known_mistakes(mistake):
    assert distance(list(mistake())) > 0.03


def test_rejection_stopping_after_a_low_confidence_token_is_fine():
    drafts = []
    for tokens, parents, distributions, weight in siblings(DRAFTER_A, DRAFTER_B):
        kept = 2 if DRAFTER_A[tokens[0]] > 0.3 else 1
        drafts.append((tokens[:kept], parents[:kept], distributions[:kept], weight))
    assert distance(drafts) < 1e-12


def test_distribution_of_weights_is_the_distribution_to_verify_with():
    """Drafts drawn from truncated integer weights and verified with them are exact; with the full one they are not."""
    wire = distribution_of_weights((3, 1), (2, 1), VOCAB)
    right = [((token,), (-1,), [wire], float(wire[token])) for token in (1, 2)]
    wrong = [((token,), (-1,), [DRAFTER_A], float(wire[token])) for token in (1, 2)]
    assert distance(right) < 1e-12 and distance(wrong) > 0.05


def test_accept_rejection_is_seeded_and_stays_in_the_distribution():
    tree = TokenTree.chain([2, 1])
    logits = torch.stack([TARGET[()].log(), TARGET[(2,)].log(), distribution(1, 0, 0).log()])
    runs = [
        accept_rejection(tree, logits, torch.Generator().manual_seed(seed)).emitted for seed in list(range(50)) * 2]
    assert runs[:50] == runs[50:] and len(set(runs)) > 3
    assert all(said[2] == 0 for said in runs if len(said) == 3)
    cut = [accept_rejection(tree, logits, torch.Generator().manual_seed(seed), top_k=1).emitted for seed in range(5)]
    assert set(cut) == {(0,)}


def test_accept_tree_refuses():
    chance = SeededChance(torch.Generator())
    rows = torch.stack([TARGET[()]] * 2)
    with pytest.raises(CrossSpecError, match='parents'):
        accept_tree((1,), (0,), [None], rows, chance)
    with pytest.raises(CrossSpecError, match='rows'):
        accept_tree((1,), (), [], rows, chance)
    with pytest.raises(CrossSpecError, match='draft_probs must be > 0'):
        accept_tree((0,), (), [distribution(0, 1, 1)], rows, chance)
