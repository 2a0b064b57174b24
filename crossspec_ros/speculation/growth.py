"""Best-first growth of one token tree from several sources.

At every node each source that goes on gives a *family*: its followers there, most probable first. The heap holds one
entry a family, its best follower not yet taken, so a node costs two pushes however many followers there are.
"""
from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from typing import Any

from crossspec_ros.speculation.sources.base import DraftSource, Step
from crossspec_ros.speculation.tree import PREFIX, TokenTree

States = Sequence[tuple[int, Any]]
"""(index of the source, its state) of every source that goes on from a node."""

MIN_SURVIVAL = 1e-4

_MERGED = -1


class Growth:
    """A tree that grows by the nodes most likely to be accepted, parents first, for as long as it is asked to.

    A node's survival is its parent's times the highest probability that a source gives it there (facts: product of
    b(source, match, depth)). Growth ends where the best next node is below ``min_survival``.
    """

    def __init__(
        self, sources: Sequence[DraftSource], states: States, *, banned_ids: Collection[int] = (),
        min_survival: float = MIN_SURVIVAL, max_depth: int | None = None,
    ) -> None:
        self._sources, self._banned_ids = sources, banned_ids
        self._min_survival, self._max_depth = min_survival, max_depth
        self._names = tuple(source.name for source in sources)
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._depths: list[int] = []
        self.masks: list[int] = []
        self.probs: list[float] = []
        # the newest node, still to be followed
        self._opened: tuple[int, float, States] | None = (PREFIX, 1.0, states)
        self._order = 0                  # breaks ties in the heap, so that what stands after it is never compared
        self._heap: list[tuple] = []

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, max_nodes: int) -> None:
        """Grow to ``max_nodes`` nodes, or as far as the sources go."""
        tokens, heap, push, pop = self._tokens, self._heap, heapq.heappush, heapq.heappop
        order = self._order
        while len(tokens) < max_nodes:
            if self._opened is not None:
                parent, above, states = self._opened
                self._opened = None
                for family, source, skip in _families(self._sources, states):
                    order += 1
                    push(heap, (-above * family[0][1], order, parent, family, 0, above, source, skip))
            if not heap or -heap[0][0] < self._min_survival:
                break
            negative, _, parent, family, place, above, source, skip = pop(heap)
            entry = family[place]
            place += 1
            if place < len(family):
                order += 1
                push(heap, (-above * family[place][1], order, parent, family, place, above, source, skip))
            token = entry[0]
            if token not in skip and token not in self._banned_ids:
                self._take(token, parent, -negative, source, entry)
        self._order = order

    def _take(self, token: int, parent: int, survival: float, source: int, entry: Sequence[Any]) -> None:
        node, depth = len(self._tokens), self._depths[parent] + 1 if parent >= 0 else 1
        self._tokens.append(token)
        self._parents.append(parent)
        self._depths.append(depth)
        self.probs.append(survival)
        self.masks.append(1 << source if source >= 0 else entry[3])
        following = entry[2]
        if following is not None and depth != self._max_depth:
            self._opened = node, survival, ((source, following),) if source >= 0 else following

    def tree(self, nodes: int) -> TokenTree:
        """The first so many nodes."""
        return TokenTree(tuple(self._tokens[:nodes]), tuple(self._parents[:nodes]), tuple(self.masks[:nodes]),
                         tuple(self.probs[:nodes]), self._names)


def grow(
    sources: Sequence[DraftSource], states: States, max_nodes: int, *, banned_ids: Collection[int] = (),
    min_survival: float = MIN_SURVIVAL, max_depth: int | None = None,
) -> TokenTree:
    """At most ``max_nodes`` nodes and ``max_depth`` deep; see :class:`Growth`."""
    growth = Growth(sources, states, banned_ids=banned_ids, min_survival=min_survival, max_depth=max_depth)
    growth.extend(max_nodes)
    return growth.tree(len(growth))


def _families(sources: Sequence[DraftSource], states: States) -> list[tuple[Sequence[Step], int, Collection[int]]]:
    """Families of followers of one node: (followers, source or _MERGED, tokens to skip).

    The longest list (the memory's, as a rule) is used as it stands, not copied. The tokens of all others form a merged
    family that holds, per token, the highest probability, the states of all sources that go on, and their bits.
    """
    if len(states) == 1:
        index, state = states[0]
        steps = sources[index].step(state)
        return [(steps, index, ())] if steps else []
    lists = [(index, steps) for index, state in states if (steps := sources[index].step(state))]
    if len(lists) < 2:
        return [(steps, index, ()) for index, steps in lists]
    longest = max(lists, key=_length)
    merged: dict[int, list] = {}
    for each in lists:
        if each is not longest:
            for step in each[1]:
                _merge(merged, each[0], step)
    index, steps = longest
    for step in steps:
        if step[0] in merged:
            _merge(merged, index, step)
    family = sorted(merged.values(), key=_prob, reverse=True) if len(merged) > 1 else list(merged.values())
    return [(family, _MERGED, ()), (steps, index, merged)]


def _length(listed: tuple[int, Sequence[Step]]) -> int:
    return len(listed[1])


def _prob(entry: Sequence[Any]) -> float:
    return entry[1]


def _merge(merged: dict[int, list], index: int, step: Step) -> None:
    token, prob, following = step
    entry = merged.get(token)
    states = ((index, following),) if following is not None else ()
    if entry is None:
        merged[token] = [token, prob, states or None, 1 << index]
        return
    if prob > entry[1]:
        entry[1] = prob
    entry[3] |= 1 << index
    if states:
        entry[2] = states + (entry[2] or ())
