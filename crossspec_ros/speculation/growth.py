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


def grow(
    sources: Sequence[DraftSource], states: States, max_nodes: int, *, banned_ids: Collection[int] = (),
    min_survival: float = MIN_SURVIVAL, max_depth: int | None = None,
) -> TokenTree:
    """The nodes most likely to be accepted, at most ``max_nodes`` of them and ``max_depth`` deep, parents first.

    A node's survival is its parent's times the highest probability that a source gives it there (facts: product of
    b(source, match, depth)). Growth ends where the best next node is below ``min_survival``.
    """
    tokens: list[int] = []
    parents: list[int] = []
    masks: list[int] = []
    probs: list[float] = []
    depths: list[int] = []
    order = 0  # breaks ties in the heap, so that what stands behind it is never compared
    heap: list[tuple] = []
    push, pop = heapq.heappush, heapq.heappop
    if max_nodes > 0:
        for family, source, skip in _families(sources, states):
            order += 1
            push(heap, (-family[0][1], order, PREFIX, family, 0, 1.0, source, skip))
    while heap:
        negative, _, parent, family, place, above, source, skip = pop(heap)
        survival = -negative
        if survival < min_survival:
            break
        entry = family[place]
        place += 1
        if place < len(family):
            order += 1
            push(heap, (-above * family[place][1], order, parent, family, place, above, source, skip))
        token = entry[0]
        if token in skip or token in banned_ids:
            continue
        node = len(tokens)
        tokens.append(token)
        parents.append(parent)
        probs.append(survival)
        depths.append(depths[parent] + 1 if parent >= 0 else 1)
        masks.append(1 << source if source >= 0 else entry[3])
        if node + 1 >= max_nodes:
            break
        following = entry[2]
        if following is None or depths[node] == max_depth:
            continue
        following = ((source, following),) if source >= 0 else following
        for family, source, skip in _families(sources, following):
            order += 1
            push(heap, (-survival * family[0][1], order, node, family, 0, survival, source, skip))
    names = tuple(source.name for source in sources)
    return TokenTree(tuple(tokens), tuple(parents), tuple(masks), tuple(probs), names)


def _families(sources: Sequence[DraftSource], states: States) -> list[tuple[Sequence[Step], int, Collection[int]]]:
    """Families of followers of one node: (followers, source or _MERGED, tokens to skip).

    The longest list (the memory's, as a rule) is used as it stands, not copied. The tokens of all others form a merged
    family that holds, per token, the highest probability, the states of all sources that go on, and their bits.
    """
    if len(states) == 1:
        index, state = states[0]
        steps = sources[index].step(state)
        return [(steps, index, ())] if steps else []
    lists = [(index, sources[index].step(state)) for index, state in states]
    lists = [(index, steps) for index, steps in lists if steps]
    if len(lists) < 2:
        return [(steps, index, ()) for index, steps in lists]
    longest = max(range(len(lists)), key=lambda place: len(lists[place][1]))
    merged: dict[int, list] = {}
    for place, (index, steps) in enumerate(lists):
        if place != longest:
            for step in steps:
                _merge(merged, index, step)
    index, steps = lists[longest]
    for step in steps:
        if step[0] in merged:
            _merge(merged, index, step)
    family = sorted(merged.values(), key=lambda entry: -entry[1])
    return [(family, _MERGED, ()), (steps, index, merged)]


def _merge(merged: dict[int, list], index: int, step: Step) -> None:
    token, prob, following = step
    entry = merged.setdefault(token, [token, prob, None, 0])
    entry[1] = max(entry[1], prob)
    entry[3] |= 1 << index
    if following is not None:
        entry[2] = ((index, following),) + (entry[2] or ())
