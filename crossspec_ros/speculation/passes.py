"""The passes of one answer: draft a tree, verify it in one forward, commit what the target says; until it is complete.

`passes` is the one loop: an answer, a rehearsal and an audit drive it with different trees and may stop it in between.
How rows go through the target is the business of a `Schedule`: `speculation.schedules`.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation import constraint as forms
from crossspec_ros.speculation.constraint import Constraint
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.rules import Rule
from crossspec_ros.speculation.target import Judged, Target
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.speculation.window import WindowState

Propose = Callable[[Sequence[int], int, int, int], TokenTree]
"""(committed, most nodes, greatest depth, prompt tokens in the same forward) -> the tree to check."""


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

    def ends(self, committed: Sequence[int]) -> bool:
        """Whether an answer ends by what it says: with an end token or a text after which it stops."""
        return bool(committed) and (committed[-1] in self.eos_ids
                                    or (bool(self.stop_strings) and self._stops(committed)))

    def _stops(self, tokens: Sequence[int]) -> bool:
        text = self.decode(tokens)
        return any(stop in text for stop in self.stop_strings)


class Schedule(Protocol):
    """How the rows of a pass reach the target, and what stays of them."""

    def room(self, state: WindowState) -> tuple[int, int]:
        """Most nodes of the next pass's tree, and the prompt tokens that go through the same forward."""
        ...

    def fit(self, state: WindowState, tree: TokenTree) -> TokenTree:
        """The tree as this schedule can check it."""
        ...

    def forward(self, state: WindowState, tree: TokenTree) -> tuple[Judged, int]:
        """What the target says to the tree, and the number of new tokens in the forward."""
        ...

    def keep(self, state: WindowState, nodes: Sequence[int]) -> None:
        """Leave the accepted nodes in the cache; the last emitted token enters with the next pass."""
        ...


def passes(state: WindowState, target: Target, schedule: Schedule, propose: Propose, rule: Rule, ending: Ending,
           may_start: Callable[[], bool], constraint: Constraint | None = None) -> Iterator[PassOutcome]:
    """Outcomes of the passes of an answer, each committed when it is given; ends when the answer is complete, or when
    ``may_start()``, asked before each pass, says no. ``constraint``: the form that the answer must have.

    Raises `CrossSpecError` for logits that are not finite and for a form that cannot go on; the state is then as
    before the pass.
    """
    while not state.finished and may_start():
        # Draft: the tree of tokens that the sources expect, no deeper than the answer may still be long.
        most, fused_tokens = schedule.room(state)
        depth = ending.max_new_tokens - len(state.committed) - 1
        with state.times.stage('propose'):
            tree = propose(tuple(state.committed), most if depth else 0, max(depth, 1), fused_tokens)
            if constraint is not None:
                tree = forms.fit(constraint, tree, state.committed, min(most, depth) if depth else 0)
            tree = schedule.fit(state, tree)

        # Verify: all of it in one forward of the target; the rule says which path it agrees with.
        base = state.cache.length
        with state.times.stage('verify') as timer:
            judged, new_tokens = _forward(schedule, state, tree, base)
        with state.times.stage('accept'):
            if constraint is not None:
                judged = forms.masked(constraint, judged, tree, state.committed, ending.eos_ids)
            accepted = rule.decide(tree, judged, state.window_id, len(state.committed))
            count, complete = ending.cut(state.committed, accepted.emitted)
            emitted, nodes = accepted.emitted[:count], accepted.nodes[:count]

        # Commit: the accepted path stays in the cache, its tokens and one more in the answer.
        with state.times.stage('commit'):
            schedule.keep(state, nodes)
            outcome = PassOutcome(tree, nodes, emitted, complete, accepted.lossless, judged.logits, judged.states,
                                  new_tokens, timer.ms, (state.last, *tree.token_ids), first=not state.committed,
                                  layers=judged.layers, best=judged.best)
            state.commit(outcome)
        yield outcome


def _forward(schedule: Schedule, state: WindowState, tree: TokenTree, base: int) -> tuple[Judged, int]:
    """The forward of a pass; where it fails the cache is as before."""
    try:
        return schedule.forward(state, tree)
    except torch.OutOfMemoryError as error:
        state.cache.truncate(min(base, state.cache.length))
        raise CrossSpecError('the device ran out of memory in a forward of the target: use a smaller dtype, fewer '
                             'max_windows or smaller first_nodes') from error
    except Exception:
        state.cache.truncate(min(base, state.cache.length))
        raise


def plain(committed: Sequence[int], most: int, depth: int, fused_tokens: int) -> TokenTree:
    """No draft at all: token by token, as an audit decodes."""
    return TokenTree()


def rehearsal_of(state: WindowState) -> WindowState:
    """A window as it would be if its newest frames stood still: what is missing repeats the newest group known.

    It shares the cache, which has to be cut back when it has been decoded. Its tokens are a draft: where the scene does
    not change in the last moment, the answer is one forward away.
    """
    newest = state.rows[state.prefilled - 1]
    rows = [newest if rows is None else rows for rows in state.rows]
    return replace(state, rows=rows, committed=[], drafted={}, accepted={}, times=type(state.times)(), passes=0)


def until(should_stop: Callable[[], bool] | None, deadline_ns: int | None, now_ns: Callable[[], int],
          expected_ms: Callable[[], float] = lambda: 0.0) -> Callable[[], bool]:
    """May another pass start? Not once ``should_stop()``, nor when it would likely end after ``deadline_ns``."""
    def may_start() -> bool:
        if should_stop is not None and should_stop():
            return False
        return deadline_ns is None or now_ns() + int(expected_ms() * 1e6) <= deadline_ns
    return may_start


