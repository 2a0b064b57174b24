"""Acceptance on trees: greedy and seeded sampling say the target's own text whatever the tree; lossy rules say so."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.acceptance import accept_greedy, accept_gumbel, target_log_probs
from crossspec_ros.speculation.lossy import LOSSY_RULES, accept_deferral, accept_fuzzy, accept_typical
from crossspec_ros.speculation.randomness import gumbels, philox4x32, uniforms
from crossspec_ros.speculation.tree import TokenTree

VOCAB = 12


def target_row(prefix) -> torch.Tensor:
    """A fixed random target: logits (V,) as a function of the tokens before."""
    seed = 7
    for token in prefix:
        seed = (seed * 1000003 + int(token) + 1) % (1 << 31)
    return torch.from_numpy(np.random.default_rng(seed).normal(size=VOCAB) * 2)


def target_logits(tree: TokenTree, committed=()) -> torch.Tensor:
    rows = [target_row(committed)]
    rows += [target_row([*committed, *tree.tokens_to(node)]) for node in range(len(tree))]
    return torch.stack(rows)


def random_tree(rng, size) -> TokenTree:
    tokens, parents, seen = [], [], set()
    while len(tokens) < size:
        parent, token = int(rng.integers(-1, len(tokens))), int(rng.integers(VOCAB))
        if (parent, token) not in seen:
            seen.add((parent, token))
            tokens.append(token)
            parents.append(parent)
    return TokenTree(tuple(tokens), tuple(parents), (1,) * size, (1.0,) * size, ('random',))


def decode(rule, length, make_tree):
    committed = []
    while len(committed) < length:
        tree = make_tree(committed)
        accepted = rule(tree, target_logits(tree, committed), len(committed))
        assert [tree.token_ids[node] for node in accepted.nodes] == list(accepted.emitted[:-1])
        assert accepted.lossless
        committed += accepted.emitted
    return committed[:length]


RULES = {
    'greedy': lambda tree, logits, position: accept_greedy(tree, logits),
    'gumbel': lambda tree, logits, position: accept_gumbel(tree, logits, seed=3, window_id=5, position=position),
    'gumbel cut': lambda tree, logits, position: accept_gumbel(
        tree, logits, seed=3, window_id=5, position=position, temperature=1.5, top_k=6, top_p=0.9),
}


@pytest.mark.parametrize('name', RULES)
@pytest.mark.parametrize('size', [1, 5, 40])
def test_accept_gives_the_undrafted_text_whatever_the_tree(name, size):
    rng = np.random.default_rng(size)
    alone = decode(RULES[name], 30, lambda committed: TokenTree())
    assert decode(RULES[name], 30, lambda committed: random_tree(rng, size)) == alone
    assert decode(RULES[name], 30, lambda committed: TokenTree.chain(alone[len(committed):][:size])) == alone


def test_accept_greedy_all_none_and_empty():
    row = torch.eye(4)
    tree = TokenTree.chain([1, 2])
    everything = accept_greedy(tree, row[[1, 2, 3]])
    assert everything.nodes == (0, 1) and everything.emitted == (1, 2, 3)
    nothing = accept_greedy(tree, row[[0, 2, 3]])
    assert nothing.nodes == () and nothing.emitted == (0,)
    assert accept_greedy(TokenTree(), row[[2]]).emitted == (2,)


@pytest.mark.parametrize('logits, words', [
    pytest.param(torch.zeros(2, 4), r'\(3, V\)', id='rows'), pytest.param(torch.zeros(3), r'\(3, V\)', id='one axis'),
    pytest.param(torch.full((3, 4), torch.nan), 'NaN', id='nan'),
])
def test_accept_refuses_bad_logits(logits, words):
    for rule in (accept_greedy, lambda t, x: accept_gumbel(t, x, seed=0, window_id=0, position=0), accept_typical):
        with pytest.raises(CrossSpecError, match=words):
            rule(TokenTree.chain([1, 2]), logits)


def test_accept_gumbel_follows_the_distribution():
    """Exact in the limit; here 20,000 positions against a distribution of 4 tokens, 6 standard deviations."""
    distribution = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    count = 20_000
    noise = gumbels(4 * count, seed=1, window_id=2, position=3).reshape(count, 4)
    share = np.bincount((distribution.log().numpy() + noise).argmax(1), minlength=4) / count
    np.testing.assert_allclose(share, distribution, atol=6 * 0.5 / count ** 0.5)


def test_accept_gumbel_depends_on_seed_window_and_position():
    logits = torch.zeros(1, 1000)
    said = {
        accept_gumbel(TokenTree(), logits, seed=seed, window_id=window, position=position).emitted
        for seed in (0, 1, 1 << 40) for window in (0, 1, 1 << 40) for position in (0, 1)}
    assert len(said) >= 16  # of 18: chance may let two meet


def test_philox_known_answers():
    """Vectors of the Random123 distribution (kat_vectors, philox4x32 10)."""
    ones = 0xFFFFFFFF
    zero = philox4x32(np.zeros((1, 4), np.uint32), (0, 0))[0]
    full = philox4x32(np.full((1, 4), ones, np.uint32), (ones, ones))[0]
    assert [hex(word) for word in zero] == ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    assert [hex(word) for word in full] == ['0x408f276d', '0x41c83b0e', '0xa20bc7c6', '0x6d5451fd']


def test_uniforms_stay_inside_and_do_not_depend_on_count():
    few, many = uniforms(10, 1, 2, 3), uniforms(1000, 1, 2, 3)
    np.testing.assert_array_equal(few, many[:10])
    assert 0 < many.min() and many.max() < 1


def test_target_log_probs_cuts_like_transformers():
    logits_process = pytest.importorskip('transformers.generation.logits_process')
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(0)).double()
    expected = logits_process.TemperatureLogitsWarper(0.7)(None, logits)
    expected = logits_process.TopKLogitsWarper(10)(None, expected)
    expected = logits_process.TopPLogitsWarper(0.8)(None, expected).log_softmax(-1)
    torch.testing.assert_close(target_log_probs(logits, temperature=0.7, top_k=10, top_p=0.8), expected)


@pytest.mark.parametrize(
    'setting', [{'temperature': -1.0}, {'temperature': float('nan')}, {'top_k': -1}, {'top_p': 0.0}], ids=str)
def test_target_log_probs_refuses(setting):
    with pytest.raises(CrossSpecError, match=next(iter(setting))):
        target_log_probs(torch.zeros(1, 4), **setting)


DISTRIBUTION = torch.tensor([0.5, 0.4, 0.1]).log()


@pytest.mark.parametrize('rule, emitted', [
    pytest.param(lambda t, x: accept_typical(t, x, epsilon=0.3, delta=10.0), (1, 0), id='typical takes'),
    pytest.param(lambda t, x: accept_typical(t, x, epsilon=0.45, delta=10.0), (0,), id='typical leaves'),
    pytest.param(lambda t, x: accept_fuzzy(t, x, tolerance=0.6), (1, 0), id='fuzzy takes'),
    pytest.param(lambda t, x: accept_fuzzy(t, x, tolerance=0.5), (0,), id='fuzzy leaves'),
    pytest.param(lambda t, x: accept_fuzzy(t, x, tolerance=0.01, draft_probs=[DISTRIBUTION.exp()]), (1, 0),
                 id='fuzzy distribution'),
    pytest.param(lambda t, x: accept_deferral(t, x, alpha=0.3), (1, 0), id='deferral takes'),
    pytest.param(lambda t, x: accept_deferral(t, x, alpha=0.1), (0,), id='deferral leaves'),
])
def test_lossy_rules_take_the_runner_up_within_their_bound(rule, emitted):
    accepted = rule(TokenTree.chain([1]), torch.stack([DISTRIBUTION, DISTRIBUTION]))
    assert accepted.emitted == emitted and not accepted.lossless


def test_lossy_rules_are_always_marked():
    for rule in LOSSY_RULES.values():
        assert not rule(TokenTree(), DISTRIBUTION[None]).lossless
