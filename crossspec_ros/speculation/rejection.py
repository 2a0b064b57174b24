"""Rejection sampling of chains and trees: the target's distribution, with drafts from any that is known.

Leviathan et al. 2211.17192 and Chen et al. 2302.01318 (one draft), SpecInfer 2305.09781 and Sequoia 2402.12374 (several
drafts a node). Letters: ``n`` nodes, ``V`` vocabulary. What keeps the distribution exact, and is easily broken:

* the order of siblings is fixed before any of them is drawn (here: their order in the tree);
* every drawn sibling is tried or ends the tries; none is left out for being a duplicate or improbable;
* ``draft_probs`` is the distribution that the token was really drawn from: all on itself (None) for a lookup or a
  greedy draft, and what is left after zeroing and renormalising for draws without replacement.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.acceptance import Accepted, check_logits, target_log_probs
from crossspec_ros.speculation.tree import PREFIX, TokenTree, tree_fault


class Chance(Protocol):
    """Where random decisions come from. A test enumerates them instead of drawing."""

    def accept(self, probability: float) -> bool:
        """True with this probability."""

    def sample(self, probs: torch.Tensor) -> int:
        """An index, with these probabilities (V,)."""


class SeededChance:
    """Decisions drawn from a torch generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def accept(self, probability: float) -> bool:
        """True with this probability."""
        return torch.rand((), generator=self._generator, dtype=torch.float64).item() < probability

    def sample(self, probs: torch.Tensor) -> int:
        """An index, with these probabilities (V,)."""
        return int(torch.multinomial(probs, 1, generator=self._generator))


def residual(target_probs: torch.Tensor, draft_probs: torch.Tensor | None, token: int) -> torch.Tensor:
    """The distribution left after a rejected draft: norm(max(target - draft, 0)), (V,).

    Where that is zero everywhere the two distributions were equal and the draft could not have been rejected; rounding
    may still lead here, and then the target's distribution is the right one.
    """
    if draft_probs is None:
        left = target_probs.clone()
        left[token] = 0.0
    else:
        left = (target_probs - draft_probs).clamp(min=0.0)
    total = left.sum()
    return left / total if total > 0 else target_probs


def try_siblings(
    tokens: Sequence[int], draft_probs: Sequence[torch.Tensor | None], target_probs: torch.Tensor, chance: Chance,
) -> tuple[int | None, int]:
    """One node's decision: (place of the accepted sibling or None, token said).

    Siblings are tried in the order given, each with min(1, target / draft) under what its elders left of the target's
    distribution (V,). Where all fail the token is drawn from what is left then.
    """
    distribution = target_probs
    for place, (token, drawn_from) in enumerate(zip(tokens, draft_probs)):
        offered = 1.0 if drawn_from is None else float(drawn_from[token])
        if offered <= 0:
            raise CrossSpecError(f'draft_probs must be > 0 at the drafted token {token}, got {offered}')
        if chance.accept(min(1.0, float(distribution[token]) / offered)):
            return place, token
        distribution = residual(distribution, drawn_from, token)
    return None, chance.sample(distribution)


def accept_tree(
    token_ids: Sequence[int], parents: Sequence[int], draft_probs: Sequence[torch.Tensor | None],
    target_probs: torch.Tensor, chance: Chance,
) -> Accepted:
    """Rejection sampling down a tree. Siblings may repeat a token: independent draws do.

    token_ids, parents: n; draft_probs: n distributions (V,), None where the draft is certain; target_probs: (n + 1, V),
    row 0 after the prefix, row i + 1 after node i. Returns the accepted path, its tokens and one more, in the target's
    distribution. Raises CrossSpecError where the arrays make no tree or do not fit each other.
    """
    fault = tree_fault(token_ids, parents)
    if fault is None and not len(draft_probs) == len(token_ids) == target_probs.shape[0] - 1:
        fault = f'draft_probs and target_probs must have {len(token_ids)} and {len(token_ids) + 1} rows'
    if fault is not None:
        raise CrossSpecError(fault)
    parents = parents or range(-1, len(token_ids) - 1)
    families: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        families.setdefault(parent, []).append(node)
    node, nodes, emitted = PREFIX, [], []
    while True:
        siblings = families.get(node, [])
        place, token = try_siblings(
            [token_ids[child] for child in siblings], [draft_probs[child] for child in siblings],
            target_probs[node + 1], chance)
        emitted.append(token)
        if place is None:
            return Accepted(tuple(nodes), tuple(emitted))
        node = siblings[place]
        nodes.append(node)


def accept_rejection(
    tree: TokenTree, logits: torch.Tensor, generator: torch.Generator, *, temperature: float = 1.0, top_k: int = 0,
    top_p: float = 1.0,
) -> Accepted:
    """Rejection sampling of a merged tree, every node taken as certain (draft distribution all on itself).

    tree: n nodes; logits: (n + 1, V); generator: on the CPU. Right for memories, lookups and greedy drafts; a tree of
    tokens that were drawn at random needs their distributions: :func:`accept_tree`. Raises CrossSpecError as that does.
    """
    check_logits(tree, logits)
    distribution = target_log_probs(logits, temperature=temperature, top_k=top_k, top_p=top_p).exp().cpu()
    return accept_tree(tree.token_ids, tree.parents, [None] * len(tree), distribution, SeededChance(generator))


def distribution_of_weights(weights: Sequence[int], token_ids: Sequence[int], vocab_size: int) -> torch.Tensor:
    """The distribution (V,) that integer weights on the wire stand for: w / sum(w), the one drafts must be drawn from
    too.
    """
    distribution = torch.zeros(vocab_size, dtype=torch.float64)
    distribution[torch.tensor(token_ids)] = torch.tensor(weights, dtype=torch.float64)
    return distribution / distribution.sum()
