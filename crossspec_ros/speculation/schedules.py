"""How rows reach the target: `Free`, as fast as may be, or `Certified`, in forwards of fixed shapes only.

Floating-point sums depend on their order, and the order on the shape of a forward: in 16 bits a token may be decided
otherwise by a forward of 17 rows than by one of 1. `Free` is exact where such differences are far below the distance
between two tokens' logits (float32). `Certified` is exact by construction: every forward that leaves keys and values
behind or decides a token has a shape, and every row a place in it, that follow from prompt and position alone, never
from drafts. What a row computes then depends on the rows before it and nothing else, so decoding with drafts and
without gives the same bits.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from crossspec_ros.speculation.target import Judged, Target
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.speculation.window import WindowState

_GROWN = 4                       # nodes grown for each row of a block: its likeliest path is the draft


@dataclass(frozen=True)
class Free:
    """Trees verified in the forward that also takes the last group and the question (``fused``), and in later ones.

    ``max_nodes`` bounds the tree of a pass, ``first_nodes`` that of the fused one; ``trees`` False: chains only.
    """

    target: Target
    max_nodes: int
    first_nodes: int
    fused: bool = True
    trees: bool = True

    def prefill(self, state: WindowState, stop: int) -> None:
        """Put the groups that are known, up to ``stop``, into the cache, in one forward."""
        ready = state.ready(stop)
        if ready > state.prefilled:
            with state.times.stage('prefill'):
                self.target.extend(state.cache, torch.cat(state.pieces(state.prefilled, ready)))
            state.prefilled = ready

    def room(self, state: WindowState) -> tuple[int, int]:
        if state.committed:
            return self.max_nodes, 0
        if not self.fused:
            return 0, 0
        return self.first_nodes, state.layout.length - state.cache.length - 1

    def fit(self, state: WindowState, tree: TokenTree) -> TokenTree:
        return tree if self.trees else tree.trunk()

    def forward(self, state: WindowState, tree: TokenTree) -> tuple[Judged, int]:
        if state.committed:
            rows = self.target.embed((state.last, *tree.token_ids))
        else:
            rows = self._prompt(state)
            rows = torch.cat([rows, self.target.embed(tree.token_ids)]) if len(tree) else rows
        judged = self.target.verify(state.cache, rows, tree, state.committed)
        return judged, rows.shape[0]

    def _prompt(self, state: WindowState) -> torch.Tensor:
        """What of the prompt is not in the cache yet."""
        groups = len(state.rows)
        if not self.fused:
            self.prefill(state, groups)
        rest = state.pieces(state.prefilled, groups)
        return torch.cat([*rest, state.layout.tail]) if rest else state.layout.tail

    def keep(self, state: WindowState, nodes: Sequence[int]) -> None:
        if not state.committed:
            state.prefilled = len(state.rows)
        state.cache.keep(state.layout.length + len(state.committed), nodes)


@dataclass(frozen=True)
class Certified:
    """Forwards of fixed shapes: a group with the text before it, then blocks of ``block`` answer tokens, the question
    with the first of them.

    Block b holds the answer's tokens b * block and on; its forward always has the same rows: the committed tokens
    first, then a chain of drafts, then filling. Its keys and values are made again by each pass until the block is
    full. Each token is decided by the row before it, in its own block's forward or as the last of the block before.
    """

    target: Target
    block: int

    def prefill(self, state: WindowState, stop: int) -> None:
        """Put the groups that are known, up to ``stop``, into the cache, each in a forward of its own."""
        ready = state.ready(stop)
        with state.times.stage('prefill'):
            while state.prefilled < ready:
                rows = torch.cat(state.pieces(state.prefilled, state.prefilled + 1))
                self.target.extend(state.cache, rows)
                state.prefilled += 1

    def room(self, state: WindowState) -> tuple[int, int]:
        return _GROWN * self.block, 0

    def fit(self, state: WindowState, tree: TokenTree) -> TokenTree:
        return tree.trunk(self.block - len(state.committed) + self._start(state))

    def forward(self, state: WindowState, tree: TokenTree) -> tuple[Judged, int]:
        self.prefill(state, len(state.rows))
        layout, committed, start = state.layout, state.committed, self._start(state)
        known = committed[start:]
        tokens = [*known, *tree.token_ids]
        tokens += [tokens[-1] if tokens else self.target.eos_ids[0]] * (self.block - len(tokens))
        rows = self.target.embed(tokens)
        if start:                                       # the block's first token is the row before its chain
            state.cache.truncate(layout.length + start)
            judged = self.target.verify(state.cache, rows, TokenTree.chain(tokens[1:]), committed[:start + 1])
            first = len(known) - 1
        else:
            state.cache.truncate(layout.length - len(layout.tail))
            rows = torch.cat([layout.tail, rows])
            judged = self.target.verify(state.cache, rows, TokenTree.chain(tokens), ())
            first = len(known)
        return judged.rows(slice(first, first + len(tree) + 1)), len(rows)

    def keep(self, state: WindowState, nodes: Sequence[int]) -> None:
        """Nothing to do: the next pass makes its block again, and a full block holds accepted tokens only."""

    def _start(self, state: WindowState) -> int:
        """The first token of the block that decides next: the one with the last committed token in it."""
        return max(len(state.committed) - 1, 0) // self.block * self.block
