"""What experiments add to the package's own algorithms: rules enumerated, chains counted, pools, queues."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.lossy_rules import THRESHOLDS, lossy_rule
from crossspec_ros.experiments.ngram_pool import Jacobi, NgramPool
from crossspec_ros.experiments.states import apply_ridge, ridge
from crossspec_ros.experiments.studies import sampling, streaming
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.train.tau import TauCount, as_draft, count_window, make_proposer

EXACT = ('token by token', 'block verification', 'tree of two chains')


@pytest.mark.parametrize('name', EXACT)
def test_exact_rules_keep_the_law_and_a_mistake_does_not(name):
    laws = sampling.random_laws(3, 0.7, 3, 2, 1.0)
    tokens, away = sampling.judged(sampling.RULES[name], *laws, 2)
    assert away < 1e-12 and 1 < tokens <= 3
    assert sampling.judged(sampling.greedy_scored, *laws, 2)[1] > 0.05


def test_block_verification_never_emits_fewer_tokens_than_the_token_rule():
    for seed in range(4):
        laws = sampling.random_laws(seed, 1.0, 3, 3, 1.0)
        token, block = (sampling.judged(rule, *laws, 3)[0] for rule in (sampling.by_token, sampling.by_block))
        assert block >= token - 1e-12


def test_a_broken_rule_is_found_by_the_experiment(monkeypatch):
    monkeypatch.setattr(sampling, '_left', lambda target, draft, prefix, share: target[prefix])
    with pytest.raises(AssertionError, match='block verification must keep the law'):
        sampling.EXPERIMENT.measure(sampling.EXPERIMENT.quick, '1', None)


@pytest.mark.parametrize('seed', range(5))
def test_chain_row_counts_the_passes_of_the_proposer(seed):
    random = np.random.default_rng(seed)
    truth = random.integers(10, 20, 30).tolist()
    right = (random.random(30) < 0.8).tolist()
    said = [token if is_right else 5 for token, is_right in zip(truth, right)]
    proposer, count, revision = make_proposer(('drafts',), 100, ''), TauCount(), iter(range(99))

    def redraft(committed):
        return as_draft(1, next(revision), 'p', '', committed, said[len(committed):])
    count_window(proposer, 1, 'p', truth, count, redraft=redraft)
    row = chain_row('d', right)
    assert (row['passes'], row['tokens']) == (count.passes, 30) and row['right'] == sum(right)
    assert row['accepted'] + row['passes'] - 30 in (0, 1)


def test_short_chains_take_more_passes():
    assert [chain_row('d', [True] * 12, length)['passes'] for length in (1, 2, 3, 12)] == [6, 4, 3, 1]
    assert chain_row('d', [False] * 5)['passes'] == 5


def test_pool_offers_what_followed_a_token_the_newest_first_and_is_bounded():
    pool = NgramPool(size=3, kept=2, max_tokens=3)
    for caption in ((1, 2, 3), (1, 4, 5), (1, 6)):
        pool.finish(caption)
    state = pool.start((9, 1))
    assert [step[0] for step in pool.step(state)] == [6, 4] and pool.start((9,)) is None
    after = pool.step(state)[1][2]
    assert [step[0] for step in pool.step(after)] == [5]
    pool.finish(range(20, 30))
    assert pool.sizes() == {'ngram_pool_tokens': 3}


def test_jacobi_guesses_what_the_target_said_to_its_own_guesses():
    source = Jacobi(length=3)
    tree = TokenTree.chain((7, 8, 9))
    assert source.start((1,)) is None
    source.observe(PassOutcome(tree, (0,), (7, 4), topk=((7,), (4,), (5,), (6,))))
    state, guessed = source.start((7, 4)), []
    while state is not None:
        (token, _, state), = source.step(state)
        guessed.append(token)
    assert guessed == [5, 6, 6]
    source.observe(PassOutcome(tree, (), (1,), complete=True, topk=((1,),)))
    assert source.start((1,)) is None


def test_ridge_finds_a_linear_map():
    draw = torch.Generator().manual_seed(0)
    inputs, weights = torch.randn(200, 4, generator=draw), torch.randn(5, 3, generator=draw)
    outputs = torch.cat((inputs, torch.ones(200, 1)), 1) @ weights
    assert torch.allclose(apply_ridge(ridge(inputs, outputs, 1e-6), inputs), outputs, atol=1e-3)


def test_windows_that_come_too_fast_are_overtaken_and_the_age_stays_bounded():
    times = [{'age_ms': 30.0, 'before_ms': 70.0}]
    slow, none = streaming.played(times, 1000.0, 50, 0)
    assert none == 0 and slow.tolist() == [100.0, *[30.0] * 49]
    fast, overtaken = streaming.played(times, 50.0, 200, 0)
    assert overtaken == 99 and fast.max() <= 150.0


@pytest.mark.parametrize('name', THRESHOLDS)
def test_lossy_rules_accept_more_as_their_threshold_says(name):
    logits = torch.tensor([[2.0, -1.5, 0.0], [0.0, 0.0, 0.0]])             # 2.6% for the draft
    tree = TokenTree.chain((1,))
    strict, loose = (1.0, 0.0) if name == 'typical' else (0.0, 1.0)
    accepted = [lossy_rule(name, threshold).accept(tree, logits, 0, 0) for threshold in (strict, loose)]
    assert [each.nodes for each in accepted] == [(), (0,)] and not accepted[1].lossless
    assert lossy_rule(name).keeps == 'nothing'
