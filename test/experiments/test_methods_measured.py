"""What experiments add to the package's own algorithms: rules enumerated, chains counted, pools, queues."""
from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np
import pytest
import torch
from tiny_settings import tiny

from crossspec_ros.experiments import sampled_rules
from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.drawn_drafts import Asked, Sampler, looked_at
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.lossy_rules import THRESHOLDS, lossy_rule
from crossspec_ros.experiments.ngram_pool import Jacobi, NgramPool
from crossspec_ros.experiments.sampled_rules import by_own_sample, by_spectr, by_token, by_traversal, least_rho
from crossspec_ros.experiments.states import apply_ridge, ridge
from crossspec_ros.experiments.studies import sampling, streaming
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.train.tau import TauCount, as_draft, count_window, make_proposer

EXACT = [name for name, way in sampling.WAYS.items() if not way.mistake]


@pytest.mark.parametrize('name', EXACT)
def test_exact_rules_keep_the_joint_law_and_a_mistake_does_not(name):
    laws = sampling.random_laws(3, 0.7, 3, 2, 1.0)
    tokens, away = sampling.judged(sampling.WAYS[name], *laws, 2)
    assert away < 1e-12 and 1 < tokens <= 3
    assert sampling.judged(sampling.WAYS['mistake: greedy draft scored as drawn'], *laws, 2)[1] > 0.05


@pytest.mark.parametrize('less, more, chains', [
    pytest.param(by_token, by_traversal, 1, id='block verification'),
    pytest.param(by_token, by_traversal, 2, id='traversal'),
    pytest.param(by_token, by_spectr, 2, id='spectr'),
])
def test_rules_for_more_never_emit_fewer_tokens_than_token_by_token(less, more, chains):
    for seed in range(4):
        laws = sampling.random_laws(seed, 1.0, 3, 2, 1.0)
        assert sampling.judged(sampling.Way(more, chains), *laws, 2)[0] \
            >= sampling.judged(sampling.Way(less, chains), *laws, 2)[0] - 1e-12


def test_traversal_of_a_chain_is_block_verification():
    """Against the formula of 2403.10444, written out for a chain."""
    target, draft = sampling.random_laws(5, 1.0, 3, 3, 1.0)
    said = defaultdict(float)
    for tokens in product(range(3), repeat=3):
        drawn, keeps, rates, lefts = 1.0, [1.0], [1.0], []
        for place, token in enumerate(tokens):
            drawn *= draft[tokens[:place]][token]
            lefts.append(np.maximum(rates[-1] * target[tokens[:place]] - draft[tokens[:place]], 0.0))
            rates.append(min(1.0, rates[-1] * target[tokens[:place]][token] / draft[tokens[:place]][token]))
        keeps += [left.sum() / (left.sum() + 1.0 - rate) for left, rate in zip(lefts[1:], rates[1:])] + [rates[-1]]
        for stands in range(4):
            law = target[tokens] if stands == 3 else lefts[stands] / max(lefts[stands].sum(), 1e-300)
            for last, part in enumerate(law):
                said[(*tokens[:stands], last)] += drawn * keeps[stands] * part * float(
                    np.prod([1.0 - keep for keep in keeps[stands + 1:]]))
    found = defaultdict(float)
    for probability, emitted in sampling.Way(by_traversal).outcomes(target, draft, 3):
        found[emitted] += probability
    assert all(found[path] == pytest.approx(said[path], abs=1e-12) for path in {*found, *said})


def test_least_rho_is_one_for_one_try_and_the_count_for_certain_tries():
    sure, other = np.array([1.0, 0.0]), np.array([0.25, 0.75])
    assert least_rho(sure, other, 1) == 1.0
    rho, hit = least_rho(sure, other, 2), 0.25 / least_rho(sure, other, 2)
    assert 1 - (1 - hit) ** 2 == pytest.approx(rho * hit)            # as often as the target says it
    assert least_rho(other, other[::-1].copy(), 2) < 2.0


@pytest.mark.parametrize('broken, name', [
    pytest.param('by_token', 'block verification', id='traversal'),
    pytest.param('least_rho', 'two chains, SpecTr', id='rho'),
])
def test_a_broken_rule_is_found_by_the_experiment(monkeypatch, broken, name):
    if broken == 'least_rho':
        monkeypatch.setattr(sampled_rules, 'least_rho', lambda *_: 1.0)
    else:
        monkeypatch.setattr(sampled_rules.Traversal, 'accept', _without_residual)
    with pytest.raises(AssertionError, match=f'{name} must keep the law'):
        sampling.EXPERIMENT.measure(sampling.EXPERIMENT.quick, '1', None)


def _without_residual(traversal):
    """The last token drawn as if nothing had been rejected."""
    rows = dict(traversal._left)
    node, said = traversal._visit(-1, 1.0), []
    last = traversal._chance.sample(torch.from_numpy(rows[node]))
    while node >= 0:
        said.append(traversal._tokens[node])
        node = traversal._parents[node]
    return *reversed(said), last


def test_a_sampled_caption_is_the_greedy_one_where_the_verifier_is_sure(pair, tmp_path):
    lab = Lab(tiny(sampling.EXPERIMENT, pair), tmp_path)
    (window, look), = looked_at(lab, 'brisk', 0, 1)
    plain = lab.target.generate(window.frames, window.prompt, 20)
    sampler = Sampler(lab, window, look)
    for rule, chains in ((by_token, 1), (by_traversal, 2), (by_spectr, 2), (by_own_sample, 2)):
        said = sampler.caption(Asked(rule, chains, 3, 1e-4), 7)
        assert tuple(said.token_ids[:len(plain)]) == plain and len(said.likeliest) <= len(said.token_ids)
    again = [sampler.caption(Asked(by_spectr, 2, 3, 1.0), 8) for _ in range(2)]
    assert again[0] == again[1]
    sampler.close()


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
