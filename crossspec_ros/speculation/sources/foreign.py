"""Drafts that come from outside: checked on arrival, re-rooted at the committed prefix when they are used."""
from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossspec_ros.speculation.sources.base import DraftSource, HitTable, Step
from crossspec_ros.speculation.sources.chain import align
from crossspec_ros.speculation.tree import PREFIX
from crossspec_ros.speculation.types import Draft, prefix_hash

_RANKS = 4
_PRIORS = (0.5, 0.2, 0.1, 0.05)
_CERTAINTIES = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
"""Where a weight, by the draft's heaviest, counts as more certain: whatever a drafter's weights are, what such nodes
did is measured."""
_STRENGTH = 8.0
_KEEP = 1.0 - 1.0 / 200.0


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A draft that passed: its tree with the children of each node in the order of their weights."""

    token_ids: tuple[int, ...]
    base_length: int
    base_hash: int
    children: dict[int, tuple[tuple[int, float], ...]]
    """Node (or -1) -> (child, weight / sum of its siblings' weights), heaviest first."""
    certainties: tuple[int, ...] = ()
    """Of each node, by its weight."""

    @classmethod
    def of(cls, draft: Draft) -> Hypothesis:
        """The tree of a draft; of siblings that carry the same token the heaviest stays."""
        parents = draft.parents or tuple(range(-1, len(draft.token_ids) - 1))
        weights = draft.weights or (1,) * len(draft.token_ids)
        families: dict[int, dict[int, int]] = {}
        for node, (parent, token) in enumerate(zip(parents, draft.token_ids)):
            siblings = families.setdefault(parent, {})
            twin = next((other for other in siblings if draft.token_ids[other] == token), None)
            if twin is None or weights[node] > siblings[twin]:
                if twin is not None:
                    del siblings[twin]
                siblings[node] = weights[node]
        children = {}
        for parent, siblings in families.items():
            total = sum(siblings.values())
            ordered = sorted(siblings.items(), key=lambda item: -item[1])
            children[parent] = tuple((node, weight / total) for node, weight in ordered)
        heaviest = max(weights, default=1)
        certainties = tuple(bisect(_CERTAINTIES, weight / heaviest) for weight in weights)
        return cls(draft.token_ids, draft.base_length, draft.base_hash, children, certainties)

    def trunk(self) -> list[int]:
        """Nodes of the heaviest path from the base."""
        nodes: list[int] = []
        node = PREFIX
        while self.children.get(node):
            node = self.children[node][0][0]
            nodes.append(node)
        return nodes

    def along(self, committed: Sequence[int]) -> tuple[int, int]:
        """The last node that the committed text, which the draft extends, leads to, and how many tokens it has more."""
        node = PREFIX
        for place in range(self.base_length, len(committed)):
            token = committed[place]
            child = next((child for child, _ in self.children.get(node, ()) if self.token_ids[child] == token), None)
            if child is None:
                return node, len(committed) - place
            node = child
        return node, 0

    def extends(self, committed: Sequence[int]) -> bool:
        """Whether the draft continues a prefix of the committed tokens."""
        length = self.base_length
        return length <= len(committed) and prefix_hash(committed[:length]) == self.base_hash


class _Shares:
    """Shares of hits by rank among siblings, and by rank and certainty: where few of those are known, the rank's."""

    def __init__(self) -> None:
        self._ranks = HitTable(_PRIORS)
        self._cells: dict[tuple[int, int], list[float]] = {}     # (rank, certainty) -> [hits, offers]

    def clear(self) -> None:
        """Back to the priors."""
        self._ranks.clear()
        self._cells.clear()

    def share(self, rank: int, certainty: int, weight: float) -> float:
        """Probability of a hit; ``weight`` is the node's among its siblings."""
        prior = self._ranks.share(rank)
        if weight < 1.0:
            prior = min(prior, self._ranks.share(0) * weight)
        hits, offers = self._cells.get((min(rank, _RANKS - 1), certainty), (0.0, 0.0))
        return (hits + _STRENGTH * prior) / (offers + _STRENGTH)

    def add(self, rank: int, certainty: int, hit: bool) -> None:
        """Count one offer; older ones fade."""
        self._ranks.add(rank, hit)
        cell = self._cells.setdefault((rank, certainty), [0.0, 0.0])
        cell[0] = cell[0] * _KEEP + hit
        cell[1] = cell[1] * _KEEP + 1.0


_State = tuple[int, int]
_WHOLE, _REPLACED, _ALIGNED = range(3)
"""How a node came to stand for the committed text: all of it led there; all but the newest word, for which the draft
has another; the newest words are the same."""


class ForeignDraft(DraftSource):
    """The newest draft of the current window by one drafter.

    State: (node, how it agrees). Where the draft's tree contains the committed text the state is the node reached;
    where only the newest word differs, the node that stands in its place, for what follows a word rarely hangs on it;
    else the heaviest path is aligned again after the last place that agrees.
    """

    def __init__(self, name: str, newest: Callable[[Sequence[int]], Hypothesis | None]) -> None:
        """``newest(committed)`` gives the drafter's draft to be used after the committed tokens, if there is one."""
        self.name = name
        self._newest = newest
        self._hypothesis: Hypothesis | None = None
        self._shares = tuple(_Shares() for _ in (_WHOLE, _REPLACED, _ALIGNED))

    def start(self, committed: Sequence[int]) -> _State | None:
        """Node of the draft that stands for the committed prefix, and how well."""
        self._hypothesis = draft = self._newest(committed)
        if draft is None:
            return None
        node, missed = draft.along(committed)
        if not missed:
            return (node, _WHOLE) if draft.children.get(node) else None
        children = draft.children.get(node, ())
        if missed == 1 and children and draft.children.get(children[0][0]):
            return children[0][0], _REPLACED
        return self._realign(draft, committed)

    def _realign(self, draft: Hypothesis, committed: Sequence[int]) -> _State | None:
        trunk = draft.trunk()
        words = list(committed[:draft.base_length]) + [draft.token_ids[node] for node in trunk]
        index, match = align(words, committed)
        if match < 2 or index >= len(words) or index <= draft.base_length:
            return None
        return trunk[index - draft.base_length - 1], _ALIGNED

    def step(self, state: _State) -> Sequence[Step]:
        """The node's children, each with the measured share of hits of its rank and weight."""
        node, agreement = state
        draft, shares = self._hypothesis, self._shares[agreement]
        steps: list[Step] = []
        for rank, (child, weight) in enumerate(draft.children.get(node, ())):
            prob = shares.share(rank, draft.certainties[child], weight)
            steps.append((draft.token_ids[child], prob, (child, agreement) if draft.children.get(child) else None))
        return sorted(steps, key=_prob, reverse=True) if len(steps) > 1 else steps

    def feedback(self, state: _State, token: int) -> None:
        """Count which rank hit."""
        node, agreement = state
        draft = self._hypothesis
        for rank, (child, _) in enumerate(draft.children.get(node, ())[:_RANKS]):
            self._shares[agreement].add(rank, draft.certainties[child], draft.token_ids[child] == token)

    def finish(self, token_ids: Sequence[int]) -> None:
        """The draft is used up."""
        self._hypothesis = None

    def reset(self) -> None:
        """Forget the draft and what was measured."""
        self._hypothesis = None
        for shares in self._shares:
            shares.clear()

    def sizes(self) -> dict[str, int]:
        """Nodes of the draft in use."""
        return {f'{self.name}_nodes': len(self._hypothesis.token_ids) if self._hypothesis else 0}


def _prob(step: Step) -> float:
    return step[1]
