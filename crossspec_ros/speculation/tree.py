"""The token tree: what one target pass checks.

A tree hangs below the committed prefix (index -1). Parents stand before their children, siblings carry different
tokens, so a target's choice leads to at most one child.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crossspec_ros.errors import CrossSpecError

PREFIX = -1
"""Index that stands for the committed prefix in ``parents``."""


@dataclass(frozen=True)
class TokenTree:
    """Draft tokens below a committed prefix, merged from several sources.

    ``token_ids[i]`` follows ``parents[i]`` (:data:`PREFIX` or an earlier node). Bit ``k`` of ``sources[i]`` says that
    ``source_names[k]`` proposed the node; ``probs[i]`` estimates the probability that the target accepts the whole path
    to it. The empty tree is a plain decoding step.
    """

    token_ids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    sources: tuple[int, ...] = ()
    probs: tuple[float, ...] = ()
    source_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.token_ids)

    @classmethod
    def chain(cls, token_ids: Sequence[int], source: str = 'draft') -> TokenTree:
        """A tree that is one chain of tokens, all from one source."""
        count = len(token_ids)
        return cls(tuple(token_ids), tuple(range(-1, count - 1)), (1,) * count, (1.0,) * count, (source,))

    def head(self, count: int) -> TokenTree:
        """The first ``count`` nodes; a tree again, since parents stand first."""
        if count >= len(self):
            return self
        return TokenTree(
            self.token_ids[:count], self.parents[:count], self.sources[:count], self.probs[:count], self.source_names)

    def trunk(self, length: int | None = None) -> TokenTree:
        """The path that takes the likeliest child of each node (the first, where probabilities are equal), as a chain
        of ``length`` nodes at most."""
        nodes: list[int] = []
        node = PREFIX
        while (length is None or len(nodes) < length) and (children := self.children(node)):
            node = max(children, key=self.probs.__getitem__)
            nodes.append(node)
        return TokenTree(tuple(self.token_ids[node] for node in nodes), tuple(range(-1, len(nodes) - 1)),
                         tuple(self.sources[node] for node in nodes), tuple(self.probs[node] for node in nodes),
                         self.source_names)

    @cached_property
    def _children(self) -> dict[int, dict[int, int]]:
        table: dict[int, dict[int, int]] = {}
        for node, (token, parent) in enumerate(zip(self.token_ids, self.parents)):
            table.setdefault(parent, {})[token] = node
        return table

    def children(self, node: int) -> tuple[int, ...]:
        """Children of a node, or of the prefix (-1), in the order in which they stand in the tree."""
        return tuple(self._children.get(node, {}).values())

    def child(self, node: int, token: int) -> int | None:
        """The child of a node (or of the prefix, -1) that carries this token."""
        return self._children.get(node, {}).get(token)

    def path(self, node: int) -> list[int]:
        """Nodes from the first below the prefix down to ``node``; empty for the prefix."""
        nodes: list[int] = []
        while node != PREFIX:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]

    def along(self, token_ids: Sequence[int]) -> list[int]:
        """Nodes from the first below the prefix on that carry these tokens, as far as the tree has them."""
        nodes: list[int] = []
        node = PREFIX
        for token in token_ids:
            following = self.child(node, token)
            if following is None:
                break
            nodes.append(node := following)
        return nodes

    def tokens_to(self, node: int) -> list[int]:
        """Tokens on the path to a node."""
        return [self.token_ids[step] for step in self.path(node)]

    def depths(self) -> np.ndarray:
        """int64 (n,): 0 for a child of the prefix. Its position in the text is ``len(committed) + depth``."""
        depths = np.zeros(len(self), np.int64)
        for node, parent in enumerate(self.parents):
            if parent != PREFIX:
                depths[node] = depths[parent] + 1
        return depths

    def ancestor_mask(self) -> np.ndarray:
        """bool (n, n): row ``i`` is True at ``i`` and its ancestors, what node ``i`` attends to inside the tree."""
        mask = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent != PREFIX:
                mask[node] |= mask[parent]
        return mask

    def names(self, node: int) -> tuple[str, ...]:
        """Names of the sources that proposed a node."""
        bits = self.sources[node]
        return tuple(name for bit, name in enumerate(self.source_names) if bits >> bit & 1)

    def check(self) -> None:
        """Raise :class:`CrossSpecError` unless the arrays make a tree with different tokens among siblings."""
        cause = tree_fault(self.token_ids, self.parents)
        if cause is None and any(len(part) != len(self) for part in (self.parents, self.sources, self.probs)):
            cause = 'parents, sources and probs must be as long as token_ids'
        if cause is None and sum(map(len, self._children.values())) != len(self):
            cause = 'siblings must carry different tokens'
        if cause is not None:
            raise CrossSpecError(f'token tree of {len(self)} nodes: {cause}')


def tree_fault(
    token_ids: Sequence[int], parents: Sequence[int], weights: Sequence[int] = (), *, max_nodes: int | None = None,
) -> str | None:
    """What is wrong with the structure of a (foreign) tree, in words, or None.

    Empty ``parents`` mean a chain and empty ``weights`` a drafter that is certain, as in the Draft message. Since a
    parent must stand before its child, a cycle cannot pass.
    """
    count = len(token_ids)
    if max_nodes is not None and count > max_nodes:
        return f'token_ids must have at most {max_nodes} entries, got {count}'
    if parents and len(parents) != count:
        return f'parents must be empty or {count} long, got {len(parents)}'
    if weights and len(weights) != count:
        return f'weights must be empty or {count} long, got {len(weights)}'
    for node, parent in enumerate(parents):
        if not PREFIX <= parent < node:
            return f'parents[{node}] must be in [-1, {node}), got {parent}'
    for node, weight in enumerate(weights):
        if weight <= 0:
            return f'weights[{node}] must be > 0, got {weight}'
    return None


def vocabulary_fault(token_ids: Sequence[int], vocab_size: int | None, banned_ids: Collection[int]) -> str | None:
    """Which token of a foreign draft may not go through the target, in words, or None."""
    for node, token in enumerate(token_ids):
        if token < 0 or (vocab_size is not None and token >= vocab_size):
            return f'token_ids[{node}] must be in [0, {vocab_size}), got {token}'
        if token in banned_ids:
            return f'token_ids[{node}] must not be a placeholder or padding id, got {token}'
    return None
