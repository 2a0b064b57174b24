"""Drafts that come from outside: checked on arrival, re-rooted at the committed prefix when they are used."""
from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from crossspec_ros.speculation.sources.base import HitTable, Step
from crossspec_ros.speculation.sources.chain import align
from crossspec_ros.speculation.tree import PREFIX, tree_fault, vocabulary_fault
from crossspec_ros.speculation.types import Draft, prefix_hash

_RANKS = 4
_PRIORS = (0.5, 0.2, 0.1, 0.05)

Tokenize = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Hypothesis:
    """A draft that passed: its tree with the children of each node in the order of their weights."""

    token_ids: tuple[int, ...]
    base_length: int
    base_hash: int
    children: dict[int, tuple[tuple[int, float], ...]]
    """Node (or -1) -> (child, weight / sum of its siblings' weights), heaviest first."""

    def trunk(self) -> list[int]:
        """Nodes of the heaviest path from the base."""
        nodes: list[int] = []
        node = PREFIX
        while self.children.get(node):
            node = self.children[node][0][0]
            nodes.append(node)
        return nodes


def _hypothesis(draft: Draft) -> Hypothesis:
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
    return Hypothesis(draft.token_ids, draft.base_length, draft.base_hash, children)


class ForeignDraft:
    """The newest draft of the current window, e.g. the event drafter's.

    State: (node, matched, exact). Where the draft's tree contains the committed text the state is the node reached;
    where it does not, its heaviest path is aligned again after the last place that agrees.
    """

    def __init__(
        self, name: str = 'event_drafter', *, vocab_size: int | None = None, banned_ids: Collection[int] = (),
        tokenizer_key: str | None = None, tokenize: Tokenize | None = None, max_nodes: int = 512,
    ) -> None:
        self.name = name
        self._vocab_size = vocab_size
        self._banned_ids = frozenset(banned_ids)
        self._tokenizer_key = tokenizer_key
        self._tokenize = tokenize
        self._max_nodes = max_nodes
        self._hypothesis: Hypothesis | None = None
        self._exact = HitTable(_PRIORS)
        self._realigned = HitTable(_PRIORS)

    def admit(self, draft: Draft) -> Hypothesis | str:
        """Check a draft: what may be used of it, or the cause of refusal. Changes nothing; safe from any thread."""
        if self._tokenizer_key is not None and draft.tokenizer_key != self._tokenizer_key:
            if self._tokenize is None:
                return 'tokenizer'
            tokens = tuple(int(token) for token in self._tokenize(draft.text))[:self._max_nodes]
            draft = Draft(draft.window_id, draft.window_end_ns, draft.revision, draft.prompt_key, '', '', tokens)
        if tree_fault(draft.token_ids, draft.parents, draft.weights, max_nodes=self._max_nodes) is not None:
            return 'malformed'
        if draft.base_length < 0 or (draft.base_length == 0 and draft.base_hash != prefix_hash(())):
            return 'malformed'
        if vocabulary_fault(draft.token_ids, self._vocab_size, self._banned_ids) is not None:
            return 'vocabulary'
        return _hypothesis(draft)

    def use(self, hypothesis: Hypothesis | None) -> None:
        """Propose from this draft from now on."""
        self._hypothesis = hypothesis

    def begin(self, window_id: int, prompt_key: str) -> None:
        """Drafts of the last window are worth nothing now."""
        self._hypothesis = None

    def start(self, committed: Sequence[int]) -> tuple[int, bool] | None:
        """Node of the draft that stands for the committed prefix, and whether the whole text led to it."""
        draft = self._hypothesis
        if draft is None or draft.base_length > len(committed):
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
        return {'draft_nodes': len(self._hypothesis.token_ids) if self._hypothesis else 0}
