"""Answers of a given form: what the engine asks of a grammar, and how a pass obeys it.

A constraint says after which tokens which may follow. The engine masks each row of a verified tree by it before the
acceptance rule looks at the row, so an answer is token for token that of plain decoding with the same mask. Drafts
that break the form are left out before the forward, and what the form leaves no choice in is drafted.

Letters: ``n`` nodes of the tree, ``V`` width of the logits.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.target import Judged
from crossspec_ros.speculation.tree import PREFIX, TokenTree

FORM = 'form'
"""Name of the source of nodes in which the form leaves no choice."""


class Constraint(Protocol):
    """A form, and a place in it. Used by one session, by one thread at a time."""

    key: str                     # names the form: answers of different forms are remembered apart

    def follow(self, token_ids: Sequence[int]) -> bool:
        """Go to the place after these tokens of an answer, from wherever it was; False where they break the form."""
        ...

    def step(self, token: int) -> bool:
        """Go on by a token; False, and no step, where it may not follow here."""
        ...

    def back(self) -> None:
        """Undo the last step."""
        ...

    def allowed(self, width: int) -> np.ndarray:
        """bool (V,): the tokens that may follow here, the end token where the answer may end; V is ``width``."""
        ...

    def forced(self) -> Sequence[int]:
        """The tokens that must follow here, as they would be written; empty where there is a choice."""
        ...


def fit(constraint: Constraint, tree: TokenTree, committed: Sequence[int], most: int) -> TokenTree:
    """The tree without nodes that break the form, after what must follow; ``most`` nodes at most."""
    if not constraint.follow(committed):
        return TokenTree()
    forced = list(constraint.forced())[:most]
    kept = _kept(constraint, tree)
    trunk = tree.along(forced)
    if len(trunk) < len(forced):
        kept = [node for node in kept if node not in trunk][:most - len(forced)]
        return _grafted(tree, kept, trunk, forced)
    return _grafted(tree, kept[:most], (), ())


def _kept(constraint: Constraint, tree: TokenTree) -> list[int]:
    """Nodes that the form allows, in the order of the tree. The constraint stands where it stood."""
    kept: list[int] = []

    def visit(node: int) -> None:
        for child in tree.children(node):
            if constraint.step(tree.token_ids[child]):
                kept.append(child)
                visit(child)
                constraint.back()

    visit(PREFIX)
    return sorted(kept)


def _grafted(tree: TokenTree, kept: Sequence[int], trunk: Sequence[int], forced: Sequence[int]) -> TokenTree:
    """``forced`` as a chain, then the nodes of ``kept`` below it and beside it; ``trunk`` are its nodes in the tree."""
    places = {PREFIX: PREFIX} | {node: place for place, node in enumerate(trunk)}
    tokens, parents, names = list(forced), list(range(PREFIX, len(forced) - 1)), tree.source_names
    bit = 1 << (names.index(FORM) if FORM in names else len(names))
    sources, probs = [bit] * len(forced), [1.0] * len(forced)
    for place, node in enumerate(trunk):
        sources[place] |= tree.sources[node]
    for node in kept:
        if tree.parents[node] not in places:
            continue                                            # its parent found no room
        places[node] = len(tokens)
        tokens.append(tree.token_ids[node])
        parents.append(places[tree.parents[node]])
        sources.append(tree.sources[node])
        probs.append(tree.probs[node])
    if forced and FORM not in names:
        names = (*names, FORM)
    return TokenTree(tuple(tokens), tuple(parents), tuple(sources), tuple(probs), names)


def masked(constraint: Constraint, judged: Judged, tree: TokenTree, committed: Sequence[int],
           eos_ids: frozenset[int]) -> Judged:
    """What was judged with all that breaks the form at minus infinity.

    Raises `CrossSpecError` where nothing of the vocabulary may follow.
    """
    allowed = np.ones(judged.logits.shape, bool)
    if not constraint.follow(committed):
        raise CrossSpecError('the answer so far must be of the form that was asked for; it is not')

    def visit(node: int) -> None:
        allowed[node + 1] = constraint.allowed(allowed.shape[1])
        for child in tree.children(node):
            token = tree.token_ids[child]
            if token not in eos_ids and constraint.step(token):      # after an end token nothing is asked
                visit(child)
                constraint.back()

    visit(PREFIX)
    logits = judged.logits.masked_fill(~torch.from_numpy(allowed).to(judged.logits.device), float('-inf'))
    if not torch.isfinite(logits[0].max()):
        raise CrossSpecError('the form cannot be written on with this model\'s vocabulary after '
                             f'{len(committed)} tokens; ask for another form, or without one')
    return replace(judged, logits=logits, best=None)
