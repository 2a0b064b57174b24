"""Acceptance rules that change what the target says. Used only when asked for by name, and marked in every result.

Letters: ``n`` nodes, ``V`` vocabulary; logits (n + 1, V) as in :mod:`crossspec_ros.speculation.acceptance`.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.acceptance import Accepted, check_logits
from crossspec_ros.speculation.tree import PREFIX, TokenTree

_Test = Callable[[torch.Tensor, int, torch.Tensor | None], bool]


def accept_typical(
    tree: TokenTree, logits: torch.Tensor, *, temperature: float = 1.0, epsilon: float = 0.3, delta: float = 0.09,
) -> Accepted:
    """Typical acceptance (Medusa, 2401.10774, section 3.3.1): target(x) > min(epsilon, delta * exp(-entropy)).

    tree: n nodes; logits: (n + 1, V). The target's argmax is always taken, so at epsilon = 1, delta = inf it is greedy.
    """
    def test(distribution: torch.Tensor, token: int, _: torch.Tensor | None) -> bool:
        entropy = float(-(distribution * distribution.clamp(min=1e-30).log()).sum())
        return float(distribution[token]) > min(epsilon, delta * float(torch.tensor(-entropy).exp()))

    return _accept(tree, logits, temperature, None, test)


def accept_fuzzy(
    tree: TokenTree, logits: torch.Tensor, *, temperature: float = 1.0, tolerance: float = 0.3,
    draft_probs: Sequence[torch.Tensor | None] | None = None,
) -> Accepted:
    """Fuzzy acceptance (PyramidSD): the draft's and the target's distributions are within ``tolerance``.

    tree: n nodes; logits: (n + 1, V); draft_probs: n distributions (V,), None for a certain draft. Distance: total
    variation.
    """
    def test(distribution: torch.Tensor, token: int, drawn_from: torch.Tensor | None) -> bool:
        if drawn_from is None:
            return 1.0 - float(distribution[token]) <= tolerance
        return 0.5 * float((distribution - drawn_from.to(distribution)).abs().sum()) <= tolerance

    return _accept(tree, logits, temperature, draft_probs, test)


def accept_deferral(
    tree: TokenTree, logits: torch.Tensor, *, temperature: float = 1.0, alpha: float = 0.3,
) -> Accepted:
    """Token-specific deferral (Faster Cascades, 2405.19261): target(x) >= (1 - alpha) * max target.

    tree: n nodes; logits: (n + 1, V). alpha = 0 is the greedy rule.
    """
    def test(distribution: torch.Tensor, token: int, _: torch.Tensor | None) -> bool:
        return float(distribution[token]) >= (1.0 - alpha) * float(distribution.max())

    return _accept(tree, logits, temperature, None, test)


def _accept(
    tree: TokenTree, logits: torch.Tensor, temperature: float, draft_probs: Sequence[torch.Tensor | None] | None,
    test: _Test,
) -> Accepted:
    """Descend to the likeliest child that passes (or is the argmax); say the target's argmax where none does."""
    check_logits(tree, logits)
    if not temperature > 0:
        raise CrossSpecError(f'temperature must be > 0, got {temperature}')
    drawn_from = [None] * len(tree) if draft_probs is None else draft_probs
    if len(drawn_from) != len(tree):
        raise CrossSpecError(f'draft_probs must have {len(tree)} rows, got {len(drawn_from)}')
    distributions = (logits.double() / temperature).softmax(dim=-1)  # (n + 1, V)
    node, nodes, emitted = PREFIX, [], []
    while True:
        distribution = distributions[node + 1]
        best = int(distribution.argmax())
        passing = [
            child for child in tree.children(node)
            if tree.token_ids[child] == best or test(distribution, tree.token_ids[child], drawn_from[child])]
        if not passing:
            return Accepted(tuple(nodes), (*emitted, best), lossless=False)
        node = max(passing, key=lambda child: float(distribution[tree.token_ids[child]]))
        nodes.append(node)
        emitted.append(tree.token_ids[node])


LOSSY_RULES = {'typical': accept_typical, 'fuzzy': accept_fuzzy, 'deferral': accept_deferral}
"""By name, because nobody gets one by default."""
