"""The passes of one answer: propose a tree, verify it in one forward, accept, commit; until the caption is complete."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.acceptance import Accepted
from crossspec_ros.speculation.session import WindowSession
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.speculation.verifier import Verifier

Rule = Callable[[TokenTree, torch.Tensor, int, int], Accepted]
"""Acceptance: tree, logits (n + 1, V), window id, position of the next token -> accepted nodes and emitted tokens."""


class TreeSource(Protocol):
    """What the loop asks of a proposer."""

    def propose(self, committed: Sequence[int], max_nodes: int, *, fused_tokens: int = 0) -> TokenTree:
        """The tree to check next; ``fused_tokens`` go through the same forward anyway."""
        ...


@dataclass(frozen=True)
class Ending:
    """When an answer is complete."""

    eos_ids: frozenset[int]
    max_new_tokens: int
    stop_strings: tuple[str, ...]
    decode: Callable[[Sequence[int]], str]

    def cut(self, committed: Sequence[int], emitted: Sequence[int]) -> tuple[int, bool]:
        """How many of ``emitted`` belong to the answer (end token included), and whether it is complete with them."""
        for count, token in enumerate(emitted, start=1):
            if token in self.eos_ids or len(committed) + count >= self.max_new_tokens:
                return count, True
            if self.stop_strings and self._stops([*committed, *emitted[:count]]):
                return count, True
        return len(emitted), False

    def _stops(self, tokens: Sequence[int]) -> bool:
        text = self.decode(tokens)
        return any(stop in text for stop in self.stop_strings)


@dataclass(frozen=True)
class Pass:
    """Outcome of one target pass: the tree checked, the nodes and tokens that count, the logits of all rows."""

    tree: TokenTree
    nodes: tuple[int, ...]
    emitted: tuple[int, ...]
    complete: bool
    lossless: bool
    logits: torch.Tensor
    new_tokens: int
    verify_ms: float


def run_pass(session: WindowSession, verifier: Verifier, tree: TokenTree, chunk: torch.Tensor, rule: Rule,
             ending: Ending) -> Pass:
    """Verify ``tree`` behind ``chunk`` (T, D) in one forward and commit what the target agrees with.

    The cache then ends with the last accepted node; the last emitted token is pending, it enters with the next pass.
    Raises `CrossSpecError` for logits that are not finite; the session is then as before the pass.
    """
    base = session.cache.length
    with session.times.stage('verify') as timer:
        embeds = torch.cat([chunk, verifier.embed(tree.token_ids)]) if len(tree) else chunk
        try:
            logits = verifier.verify(session.cache, embeds, tree.parents, len(tree) + 1)
        except torch.OutOfMemoryError as error:
            session.cache.truncate(base)
            raise CrossSpecError(f'the device ran out of memory at {embeds.shape[0]} new tokens: use a smaller dtype, '
                                 'fewer max_windows or smaller first_nodes') from error
        except Exception:
            session.cache.truncate(base)
            raise
    with session.times.stage('accept'):
        accepted = rule(tree, logits, session.window_id, len(session.committed))
        count, complete = ending.cut(session.committed, accepted.emitted)
        emitted, nodes = accepted.emitted[:count], accepted.nodes[:count]
    with session.times.stage('commit'):
        session.cache.keep(base + chunk.shape[0], nodes)
        session.committed.extend(emitted)
        session.pending = emitted[-1]
        session.passes += 1
        _count_sources(session, tree, nodes)
    return Pass(tree, nodes, emitted, complete, accepted.lossless, logits, embeds.shape[0], timer.ms)


def _count_sources(session: WindowSession, tree: TokenTree, nodes: Sequence[int]) -> None:
    """A node proposed by several sources counts for each of them, and once for the window."""
    session.nodes_checked += len(tree)
    session.nodes_accepted += len(nodes)
    for bits in tree.sources:
        _add(session.drafted, tree.source_names, bits)
    for node in nodes:
        _add(session.accepted, tree.source_names, tree.sources[node])


def _add(counts: dict[str, int], names: Sequence[str], bits: int) -> None:
    for index, name in enumerate(names):
        if bits >> index & 1:
            counts[name] = counts.get(name, 0) + 1
