"""Passes of a target that is known already: what it says, and the states from which it says each token.

Decoding is lossless, so both depend on the frames and the tokens before, on no draft: sources can be compared without
a forward of the target. Letters: T tokens of an answer, K states of a token, D their width, n nodes of a tree.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.sources.heads import FINAL
from crossspec_ros.speculation.tree import TokenTree


@dataclass(frozen=True, eq=False)
class KnownAnswer:
    """``token_ids`` (T,) with the end token; ``states`` (T, K, D) of ``layers``, where a source reads them."""

    token_ids: tuple[int, ...]
    states: torch.Tensor | None = None
    layers: tuple[int, ...] = ()

    def outcome(self, tree: TokenTree, done: int, **more: object) -> PassOutcome:
        """The pass that checks ``tree`` after the first ``done`` tokens; ``more``: fields that only its time or its
        logits would tell."""
        rest = self.token_ids[done:]
        nodes = tree.along(rest)
        emitted = rest[:len(nodes) + 1]
        nodes = tuple(nodes[:len(emitted)])
        final, layers = self._rows(tree, nodes, emitted, done)
        return PassOutcome(tree, nodes, emitted, done + len(emitted) == len(self.token_ids), first=not done,
                           states=final, layers=layers, **more)

    def _rows(self, tree: TokenTree, nodes: Sequence[int], emitted: Sequence[int], done: int
              ) -> tuple[torch.Tensor | None, dict[int, torch.Tensor]]:
        """States of the pass's rows: known of those that decided a token, zero elsewhere."""
        if self.states is None:
            return None, {}
        rows = [0, *(node + 1 for node in nodes)][:len(emitted)]
        said = self.states[done:done + len(emitted)]                                  # (k, K, D)
        states = said.new_zeros(len(tree) + 1, *said.shape[1:])
        states[rows] = said
        layers = dict(zip(self.layers, states.unbind(1), strict=True))
        return layers.pop(FINAL, None), layers
