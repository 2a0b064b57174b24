"""Best-first growth of one token tree from several sources."""
from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence
from typing import Any

from crossspec_ros.speculation.sources.base import DraftSource, Step
from crossspec_ros.speculation.tree import PREFIX, TokenTree

States = list[tuple[int, Any]]
"""(index of the source, its state) of every source that goes on from a node."""

MIN_SURVIVAL = 1e-4

Stop = Callable[[int, float, float], bool]
"""(nodes so far, expected tokens so far, survival of the next node) -> whether the tree is big enough."""


def grow(
    sources: Sequence[DraftSource], states: States, max_nodes: int, *, banned_ids: Collection[int] = (),
    stop: Stop | None = None, max_depth: int | None = None,
) -> TokenTree:
    """The ``max_nodes`` nodes most likely to be accepted, parents first.

    A node's survival is its parent's times the probability given by the best of the sources that propose it. Siblings
    enter the heap one by one, so that a node costs two pushes however many followers it has.
    """
    tokens: list[int] = []
    parents: list[int] = []
    masks: list[int] = []
    probs: list[float] = []
    depths: list[int] = []
    expected = 1.0
    order = 0  # breaks ties, so that the heap never compares the entries behind it
    heap: list[tuple] = []
    family, single = _followers(sources, states)
    if family and max_nodes > 0:
        heap.append((-family[0][1], order, PREFIX, family, 0, 1.0, single))
    while heap:
        negative, _, parent, family, place, above, single = heapq.heappop(heap)
        survival = -negative
        if survival < MIN_SURVIVAL or (stop is not None and stop(len(tokens), expected, survival)):
            break
        token, _, following = family[place][:3]
        place += 1
        if place < len(family):
            order += 1
            heapq.heappush(heap, (-above * family[place][1], order, parent, family, place, above, single))
        if token in banned_ids:
            continue
        node = len(tokens)
        tokens.append(token)
        parents.append(parent)
        masks.append(1 << single if single >= 0 else family[place - 1][3])
        probs.append(survival)
        depths.append(depths[parent] + 1 if parent >= 0 else 1)
        expected += survival
        if node + 1 >= max_nodes:
            break
        if following is None or depths[node] == max_depth:
            continue
        family, single = _followers(sources, [(single, following)] if single >= 0 else following)
        if family:
            order += 1
            heapq.heappush(heap, (-survival * family[0][1], order, node, family, 0, survival, single))
    names = tuple(source.name for source in sources)
    return TokenTree(tuple(tokens), tuple(parents), tuple(masks), tuple(probs), names)


def _followers(sources: Sequence[DraftSource], states: States) -> tuple[Sequence[Step], int]:
    """Followers of a node, most probable first, and the source they are from; -1: merged from several.

    One source's own list is used as it is. Merged entries carry the states of all sources that go on, and their bits.
    """
    if len(states) == 1:
        index, state = states[0]
        return sources[index].step(state), index
    merged: dict[int, list] = {}
    for index, state in states:
        for token, prob, following in sources[index].step(state):
            entry = merged.get(token)
            if entry is None:
                entry = merged[token] = [token, prob, [], 0]
            elif prob > entry[1]:
                entry[1] = prob
            entry[3] |= 1 << index
            if following is not None:
                entry[2].append((index, following))
    for entry in merged.values():
        entry[2] = entry[2] or None
    return sorted(merged.values(), key=lambda entry: -entry[1]), -1
