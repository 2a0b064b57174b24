"""Acceptance rules: which path of a token tree the target says, and what it says next.

Pure functions of the tree and the target's logits. Letters: ``n`` nodes of the tree, ``V`` vocabulary. ``logits`` are
``(n + 1, V)``: row 0 is the target's prediction after the committed prefix, row ``i + 1`` the one after node ``i``.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.tree import PREFIX, TokenTree


@dataclass(frozen=True)
class Accepted:
    """Outcome of a target pass.

    ``nodes``: accepted nodes in order, a path from the prefix. ``emitted``: their tokens and one more, recovered (the
    target's own token where every draft failed) or bonus (after the last node of the path). ``lossless`` is False for
    the rules that may change the target's law.
    """

    nodes: tuple[int, ...]
    emitted: tuple[int, ...]
    lossless: bool = True


def check_logits(tree: TokenTree, logits: torch.Tensor) -> None:
    """Raise :class:`CrossSpecError` unless ``logits`` are ``(n + 1, V)`` and hold no NaN."""
    if logits.ndim != 2 or logits.shape[0] != len(tree) + 1:
        raise CrossSpecError(f'logits must be ({len(tree) + 1}, V) for {len(tree)} nodes, got {tuple(logits.shape)}')
    if torch.isnan(logits).any():
        raise CrossSpecError('logits must not be NaN; the target overflowed: try another dtype')


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
    check_logits(tree, logits)
    best = logits.argmax(dim=-1).tolist()  # (n + 1,): one transfer a pass, not one a node
    return Accepted(*descend(tree, best.__getitem__))
