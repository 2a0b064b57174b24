"""Branches of a draft: at which places the second choice is offered too, and how far it is followed.

A token is worth as much as the drafter believes of the whole path to it, the product of its probabilities. The chain
of likeliest tokens is always there; of all tokens beside it those most likely from the start on are kept.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_SCALE = 1000                    # of weights
LEAST_PATH = 0.02
"""A path that the drafter believes less is not followed."""
MOST_BRANCHES = 8
"""Rows of the forward that follows the branches."""


@dataclass
class Branch:
    """The second choice at ``place`` of the chain and what follows it, with weights and beliefs in the path to each."""

    place: int
    tokens: list[int]
    weights: list[int]
    paths: list[float]
    ended: bool = field(default=False)

    def add(self, found: tuple[int, int] | None, end: int, longest: int) -> None:
        """The next token and its weight; None where there is none. ``longest``: tokens of a draft."""
        if self.ended:
            return
        if found is None or self.paths[-1] * found[1] < LEAST_PATH * _SCALE:
            self.ended = True
            return
        self.tokens.append(found[0])
        self.weights.append(found[1])
        self.paths.append(self.paths[-1] * found[1] / _SCALE)
        self.ended = found[0] == end or self.place + len(self.tokens) >= longest


def open_branches(steps: Sequence[tuple[int, int, int, int]], end: int, longest: int) -> list[Branch]:
    """The likeliest second choices of a chain; a step is (token, weight, second choice, its weight)."""
    branches, path = [], 1.0
    for place, (token, weight, second, second_weight) in enumerate(steps):
        belief = path * second_weight / _SCALE
        if second != token and belief >= LEAST_PATH:
            ended = second == end or place + 1 >= longest
            branches.append(Branch(place, [second], [second_weight], [belief], ended))
        path *= weight / _SCALE
    return sorted(branches, key=lambda branch: -branch.paths[0])[:MOST_BRANCHES]


def more_pays(branches: Sequence[Branch], nodes: int) -> bool:
    """Whether a further token of any branch may be among the ``nodes`` likeliest."""
    open_paths = [branch.paths[-1] for branch in branches if not branch.ended]
    paths = sorted((path for branch in branches for path in branch.paths), reverse=True)
    return bool(open_paths) and (len(paths) < nodes or max(open_paths) > paths[nodes - 1])


def cut(branches: Sequence[Branch], nodes: int) -> list[Branch]:
    """The branches with their ``nodes`` likeliest tokens only; a token is never likelier than the one before."""
    ranked = sorted((-path, depth, number) for number, branch in enumerate(branches)
                    for depth, path in enumerate(branch.paths))[:nodes]
    lengths = [sum(number == kept for _, _, kept in ranked) for number in range(len(branches))]
    return [Branch(branch.place, branch.tokens[:length], branch.weights[:length], branch.paths[:length], branch.ended)
            for branch, length in zip(branches, lengths) if length]


def joined(steps: Sequence[tuple[int, int, int, int]], branches: Sequence[Branch]
           ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(tokens, weights, parents) of the chain with its branches."""
    tokens, weights = [step[0] for step in steps], [step[1] for step in steps]
    parents = list(range(-1, len(steps) - 1))
    for branch in branches:
        first = len(tokens)
        parents += [branch.place - 1, *range(first, first + len(branch.tokens) - 1)]
        tokens += branch.tokens
        weights += branch.weights
    return tuple(tokens), tuple(weights), tuple(parents)
