"""Acceptance rules: which path of a token tree the target says, and what it says next.

Pure functions of the tree and the target's logits. Letters: ``n`` nodes of the tree, ``V`` vocabulary. ``logits`` are
``(n + 1, V)``: row 0 is the target's prediction after the committed prefix, row ``i + 1`` the one after node ``i``.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.randomness import gumbels
from crossspec_ros.speculation.ranking import Ranking, likeliest
from crossspec_ros.speculation.tree import PREFIX, TokenTree


_NAN = 'logits must not be NaN; the target overflowed: try another dtype'


@dataclass(frozen=True)
class Accepted:
    """Outcome of a target pass.

    ``nodes``: accepted nodes in order, a path from the prefix. ``emitted``: their tokens and one more, recovered (the
    target's own token where every draft failed) or bonus (after the last node of the path). ``lossless`` is False for
    the rules that may change the target's distribution.
    """

    nodes: tuple[int, ...]
    emitted: tuple[int, ...]
    lossless: bool = True


def check_logits(tree: TokenTree, logits: torch.Tensor) -> None:
    """Raise :class:`CrossSpecError` unless ``logits`` are ``(n + 1, V)`` and hold no NaN."""
    _check_shape(tree, logits)
    if torch.isnan(logits).any():
        raise CrossSpecError(_NAN)


def _check_shape(tree: TokenTree, logits: torch.Tensor) -> None:
    if logits.ndim != 2 or logits.shape[0] != len(tree) + 1:
        raise CrossSpecError(f'logits must be ({len(tree) + 1}, V) for {len(tree)} nodes, got {tuple(logits.shape)}')


def descend(tree: TokenTree, choose: Callable[[int], int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Follow the target's choices down the tree: nodes accepted, tokens emitted.

    ``choose(row)`` gives the target's token at a row of the logits. All lossless rules but rejection are this walk:
    the token chosen never depends on the draft, only how many choices one pass can use does.
    """
    nodes: list[int] = []
    emitted: list[int] = []
    node: int | None = PREFIX
    while node is not None:
        token = choose(node + 1)
        emitted.append(token)
        node = tree.child(node, token)
        if node is not None:
            nodes.append(node)
    return tuple(nodes), tuple(emitted)


def accept_greedy(tree: TokenTree, logits: torch.Tensor) -> Accepted:
    """The target's argmax, followed as far as the tree goes.

    tree: n nodes; logits: (n + 1, V), any float type, any device.
    Returns the accepted path and its tokens plus one. Raises CrossSpecError for a wrong shape or NaN.
    Ties go to the lowest id, as in ``torch.argmax`` on the CPU and in ``generate``.
    """
    _check_shape(tree, logits)
    best, numbers = likeliest(logits)
    if not numbers:
        raise CrossSpecError(_NAN)
    return Accepted(*descend(tree, best.__getitem__))  # one transfer a pass, not one a node


def accept_ranked(tree: TokenTree, best: Ranking) -> Accepted:
    """As `accept_greedy`, from a ranking (n + 1, k) that the target made; its logits are numbers."""
    return Accepted(*descend(tree, best.ids[:, 0].tolist().__getitem__))


def target_log_probs(
    logits: torch.Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
) -> torch.Tensor:
    """Log of the distribution that the target samples from: temperature, then top-k, then top-p, as transformers
    applies them.

    logits: (m, V); returns float64 (m, V), -inf where a token cannot be drawn. ``top_k=0`` and ``top_p=1`` cut nothing.
    Raises CrossSpecError for values out of range.
    """
    if not temperature > 0:
        raise CrossSpecError(f'temperature must be > 0 for sampling, got {temperature}; 0 means the greedy rule')
    if top_k < 0:
        raise CrossSpecError(f'top_k must be >= 0, got {top_k}')
    if not 0 < top_p <= 1:
        raise CrossSpecError(f'top_p must be in (0, 1], got {top_p}')
    scores = logits.double() / temperature
    if 0 < top_k < scores.shape[-1]:
        least = scores.topk(top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if top_p < 1:
        ordered, places = scores.sort(dim=-1)
        unlikely = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        unlikely[..., -1] = False  # the likeliest token always stays
        scores = scores.masked_fill(unlikely.scatter(-1, places, unlikely), -torch.inf)
    return scores.log_softmax(dim=-1)


def accept_gumbel(
    tree: TokenTree, logits: torch.Tensor, *, seed: int, window_id: int, position: int, temperature: float = 1.0,
    top_k: int = 0, top_p: float = 1.0,
) -> Accepted:
    """Sampling by seeded Gumbel coupling (2408.07978): the target's own seeded sample, whatever drafts came.

    tree: n nodes; logits: (n + 1, V); position: index in the caption of the first token emitted here.
    Returns the path that y_t = argmax(log target_t + G(seed, window_id, t)) takes, and its tokens plus one.
    Raises CrossSpecError for a wrong shape, NaN, or sampling values out of range. Temperature 0 is the greedy rule.

    Noise is counter-based, so token t depends on (seed, window_id, t) and the tokens before it and nothing else.
    """
    if temperature == 0:
        return accept_greedy(tree, logits)
    check_logits(tree, logits)
    drawn = 0

    def choose(row: int) -> int:
        nonlocal drawn
        # (V,)
        distribution = target_log_probs(logits[row:row + 1], temperature=temperature, top_k=top_k, top_p=top_p)[0].cpu()
        noise = torch.from_numpy(gumbels(distribution.shape[0], seed, window_id, position + drawn))
        drawn += 1
        return int((distribution + noise).argmax())

    return Accepted(*descend(tree, choose))
