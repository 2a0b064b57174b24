"""Drafts that come from outside: checked on arrival, re-rooted at the committed prefix when they are used."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossspec_ros.speculation.sources.base import DraftSource, HitTable, Step
from crossspec_ros.speculation.sources.chain import align
from crossspec_ros.speculation.tree import PREFIX
from crossspec_ros.speculation.types import Draft, prefix_hash

_RANKS = 4
_PRIORS = (0.5, 0.2, 0.1, 0.05)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A draft that passed: its tree with the children of each node in the order of their weights."""

    token_ids: tuple[int, ...]
    base_length: int
    base_hash: int
    children: dict[int, tuple[tuple[int, float], ...]]
    """Node (or -1) -> (child, weight / sum of its siblings' weights), heaviest first."""

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
        return cls(draft.token_ids, draft.base_length, draft.base_hash, children)

    def trunk(self) -> list[int]:
        """Nodes of the heaviest path from the base."""
        nodes: list[int] = []
        node = PREFIX
        while self.children.get(node):
            node = self.children[node][0][0]
            nodes.append(node)
        return nodes

    def extends(self, committed: Sequence[int]) -> bool:
        """Whether the draft continues a prefix of the committed tokens."""
        length = self.base_length
        return length <= len(committed) and prefix_hash(committed[:length]) == self.base_hash


class ForeignDraft(DraftSource):
    """The newest draft of the current window by one drafter.

    State: (node, exact). Where the draft's tree contains the committed text the state is the node reached; where it
    does not, its heaviest path is aligned again after the last place that agrees.
    """

    def __init__(self, name: str, newest: Callable[[Sequence[int]], Hypothesis | None]) -> None:
        """``newest(committed)`` gives the drafter's newest draft that extends the committed tokens, if there is one."""
        self.name = name
        self._newest = newest
        self._hypothesis: Hypothesis | None = None
        self._exact = HitTable(_PRIORS)
        self._realigned = HitTable(_PRIORS)

    def start(self, committed: Sequence[int]) -> tuple[int, bool] | None:
        """Node of the draft that stands for the committed prefix, and whether the whole text led to it."""
        self._hypothesis = draft = self._newest(committed)
        if draft is None:
            return None
        node = PREFIX
        for token in committed[draft.base_length:]:
            children = draft.children.get(node, ())
            node_after = next((child for child, _ in children if draft.token_ids[child] == token), None)
            if node_after is None:
                return self._realign(draft, committed)
            node = node_after
        return (node, True) if draft.children.get(node) else None

    def _realign(self, draft: Hypothesis, committed: Sequence[int]) -> tuple[int, bool] | None:
        trunk = draft.trunk()
        words = list(committed[:draft.base_length]) + [draft.token_ids[node] for node in trunk]
        index, match = align(words, committed)
        if match < 2 or index >= len(words) or index <= draft.base_length:
            return None
        return trunk[index - draft.base_length - 1], False

    def step(self, state: tuple[int, bool]) -> Sequence[Step]:
        """The node's children: their weights among siblings times the measured share of hits of their rank."""
        node, exact = state
        draft, table = self._hypothesis, self._exact if exact else self._realigned
        steps: list[Step] = []
        for rank, (child, weight) in enumerate(draft.children.get(node, ())):
            prob = table.share(rank) if weight == 1.0 else min(table.share(rank), table.share(0) * weight)
            steps.append((draft.token_ids[child], prob, (child, exact) if draft.children.get(child) else None))
        return steps

    def feedback(self, state: tuple[int, bool], token: int) -> None:
        """Count which rank hit."""
        node, exact = state
        table = self._exact if exact else self._realigned
        for rank, (child, _) in enumerate(self._hypothesis.children.get(node, ())[:_RANKS]):
            table.add(rank, self._hypothesis.token_ids[child] == token)

    def finish(self, token_ids: Sequence[int]) -> None:
        """The draft is used up."""
        self._hypothesis = None

    def reset(self) -> None:
        """Forget the draft and what was measured."""
        self._hypothesis = None
        self._exact.clear()
        self._realigned.clear()

    def sizes(self) -> dict[str, int]:
        """Nodes of the draft in use."""
        return {f'{self.name}_nodes': len(self._hypothesis.token_ids) if self._hypothesis else 0}
