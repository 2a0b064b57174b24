"""Heads on the target's states as draft sources: they draft once the target has spoken.

A head is a small network that reads, for each token of the answer, the states from which the target said it, and
drafts what comes next. States come with the passes, so this costs the target nothing. What a head says is checked as a
stranger's draft is: a broken one is dropped and counted, and no caption ever depends on it.

Letters: T tokens of an answer, K states of a token, D their width, n nodes of a tree.
"""
from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, Protocol

import torch

from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.sources.base import Beliefs, DraftSource, Opening, Step
from crossspec_ros.speculation.tree import PREFIX, tree_fault, vocabulary_fault
from crossspec_ros.speculation.worth import Worth

FINAL = -1
"""Stands among layers for the states that the target's own head reads, after its final norm."""

_log = logging.getLogger(__name__)
_MAX_WINDOWS = 16
_MAX_NODES = 256
_LEAST = 0.02                    # expected tokens that a further forward of a head must promise at the least
_RANKS = 4


@dataclass(frozen=True)
class HeadDraft:
    """A tree below the committed text: as in `TokenTree`, parents first; ``probs`` of each node given its parent.

    ``forwards`` of the head were needed for it.
    """

    token_ids: Sequence[int]
    parents: Sequence[int]
    probs: Sequence[float]
    forwards: int = 1


class Head(Protocol):
    """A drafting network over states; contexts are values of its own choosing."""

    name: str
    layers: tuple[int, ...]

    def read(self, context: Any, states: torch.Tensor, token_ids: Sequence[int]) -> Any:
        """The context after these further tokens of an answer; ``states`` (T, K, D) are what the target said them from,
        in the order of ``layers``. A context of None is the start of an answer."""
        ...

    def draft(self, context: Any, depth: int, least: float) -> HeadDraft:
        """What comes next, up to ``depth`` tokens; no forward is made that promises fewer than ``least`` tokens."""
        ...


Reading = Callable[[PassOutcome, Sequence[int]], tuple[torch.Tensor, ...]]
"""What is kept of some rows of a pass: tensors whose first axis is the rows."""


def reading_states(layers: Sequence[int]) -> Reading:
    """Keeps the states (rows, K, D) of these layers, in their order."""
    def read(outcome: PassOutcome, rows: Sequence[int]) -> tuple[torch.Tensor, ...]:
        parts = [outcome.states if layer == FINAL else outcome.layers[layer] for layer in layers]
        return (torch.stack([part[rows] for part in parts], 1),)
    return read


@dataclass
class StateLog:
    """Of one answer: its tokens, and what was read of the rows from which the target said each; newest may wait."""

    tokens: list[int] = field(default_factory=list)
    waiting: list[tuple[tuple[int, ...], tuple[torch.Tensor, ...]]] = field(default_factory=list)
    context: Any = None
    broken: bool = False

    def add(self, outcome: PassOutcome, reading: Reading) -> None:
        """Take the rows of a pass that decided its tokens: the one before the tree, then the accepted nodes."""
        rows = [0, *(node + 1 for node in outcome.nodes)][:len(outcome.emitted)]
        self.waiting.append((tuple(outcome.emitted), reading(outcome, rows)))
        self.tokens += outcome.emitted

    def take(self) -> tuple[tuple[int, ...], tuple[torch.Tensor, ...]] | None:
        """Tokens since the last call and what was read of their rows; None where there are none."""
        if not self.waiting:
            return None
        tokens, parts = zip(*self.waiting)
        self.waiting = []
        return (tuple(token for part in tokens for token in part),
                parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts))))


class StateLogs:
    """Logs of the windows that are being answered; the one begun longest ago goes."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.clear()

    def __len__(self) -> int:
        return len(self._logs)

    def clear(self) -> None:
        """Forget all."""
        self._logs: dict[int, StateLog] = {}
        self.window_id, self.now = 0, StateLog()

    def begin(self, window_id: int) -> None:
        """Go on with a window's log."""
        self.window_id, self.now = window_id, self._logs.pop(window_id, None) or StateLog()
        self._logs[window_id] = self.now
        while len(self._logs) > _MAX_WINDOWS:
            del self._logs[next(iter(self._logs))]

    def add(self, outcome: PassOutcome) -> None:
        """Take a pass of the window; a first pass begins its answer anew."""
        if outcome.first:
            self.now = self._logs[self.window_id] = StateLog()
        self.now.add(outcome, self._reading)

    def finish(self) -> StateLog:
        """The answer is complete: its log, which is not kept here any longer."""
        self._logs.pop(self.window_id, None)
        done, self.now = self.now, StateLog()
        return done


class HeadSource(DraftSource):
    """Drafts of a head, made when a pass begins, asked for only while they pay.

    State: a node of the draft (`PREFIX`: the committed text). What the head believes of a token is replaced by the
    share of tokens it believed so of that the target said.
    """

    needs = frozenset({'hidden'})

    def __init__(self, head: Head, vocab_size: int, *, depth: int = 16, worth: Worth | None = None,
                 clock: Callable[[], int] = perf_counter_ns) -> None:
        self.name, self.layers = head.name, tuple(head.layers)
        self._head, self._vocab_size, self._depth = head, vocab_size, depth
        self._worth, self._clock = worth or Worth(), clock
        self._logs, self._hits = StateLogs(reading_states(head.layers)), Beliefs()
        self._counts: Counter[str] = Counter()
        self._forget()

    def _forget(self) -> None:
        self._children: dict[int, list[tuple[int, float, int, int]]] = {}    # node -> (token, prob, bin, child)
        self._steps: dict[int, list[Step]] = {}
        self._drafted = False
        self._forward_ms: float | None = None

    def begin(self, opening: Opening) -> None:
        """Go on with what is known of this window's answer."""
        self._logs.begin(opening.window_id)
        self._children, self._steps, self._drafted = {}, {}, False

    def start(self, committed: Sequence[int]) -> int | None:
        """Draft after the committed tokens, where all of their states are known and a draft is expected to pay."""
        self._children, self._steps, self._drafted = {}, {}, False
        log = self._logs.now
        if not committed or log.broken or log.tokens != list(committed):
            return None
        if not self._worth.asks():
            self._counts['not_asked'] += 1
            return None
        start_ns = self._clock()
        draft = self._draft(log)
        draft_ms = (self._clock() - start_ns) / 1e6
        self.spent_ms += draft_ms
        self._worth.spent(draft_ms)
        if draft is None:
            self._worth.gained(0)
            return None
        self._drafted = True
        self._forward_ms = draft_ms / max(draft.forwards, 1)
        return PREFIX if self._follow(draft) else None

    def _draft(self, log: StateLog) -> HeadDraft | None:
        """A draft that may be used, else None, and why is counted."""
        try:
            with torch.inference_mode():
                news = log.take()
                if news is not None:
                    tokens, (states,) = news
                    log.context = self._head.read(log.context, states, tokens)
                draft = self._head.draft(log.context, self._depth, self._least())
            cause = self._fault(draft)
        except Exception as error:                     # a head may be anyone's; the caption goes on without it
            log.broken, cause = True, 'failed'
            _log.warning('the head %s failed (%s: %s) and drafts no more for this window', self.name,
                         type(error).__name__, error)
        self._counts['drafts' if cause is None else cause] += 1
        return draft if cause is None else None

    def _least(self) -> float:
        """Tokens that one more forward must promise: what it costs, in tokens of the target's passes."""
        token_ms = self._worth.token_ms
        if token_ms is None or self._forward_ms is None or token_ms <= 0:
            return _LEAST
        return min(max(self._forward_ms / token_ms, _LEAST), 0.5)

    def _fault(self, draft: HeadDraft) -> str | None:
        if len(draft.probs) != len(draft.token_ids) or len(draft.parents) != len(draft.token_ids) \
                or tree_fault(draft.token_ids, draft.parents, max_nodes=_MAX_NODES) is not None:
            return 'malformed'
        if vocabulary_fault(draft.token_ids, self._vocab_size, ()) is not None:
            return 'vocabulary'
        if not all(math.isfinite(prob) and 0.0 <= prob <= 1.0 for prob in draft.probs):
            return 'not_finite'
        return None

    def _follow(self, draft: HeadDraft) -> bool:
        """Put the draft's nodes under their parents; of siblings that say the same the first stays."""
        said: set[tuple[int, int]] = set()
        for node, (token, parent, prob) in enumerate(zip(draft.token_ids, draft.parents, draft.probs)):
            if prob > 0.0 and (parent, token) not in said:
                said.add((parent, token))
                place = self._hits.bin(prob)
                self._children.setdefault(parent, []).append((token, self._hits.share(place), place, node))
        for parent, children in self._children.items():
            ordered = sorted(children, key=lambda child: -child[1])
            self._steps[parent] = [(token, prob, node if node in self._children else None)
                                   for token, prob, _, node in ordered]
        return bool(self._steps.get(PREFIX))

    def step(self, state: int) -> Sequence[Step]:
        """The node's children."""
        return self._steps.get(state, ())

    def feedback(self, state: int, token: int) -> None:
        """Count how often tokens are said that were believed so likely."""
        for candidate, _, place, _ in self._children.get(state, ())[:_RANKS]:
            self._hits.add(place, candidate == token)

    def observe(self, outcome: PassOutcome) -> None:
        """Keep the states of the pass, and what the draft gained in it."""
        if self._drafted:
            self._worth.gained(outcome.alone(self.name))
        if not outcome.first and outcome.verify_ms > 0:
            self._worth.passed(len(outcome.emitted), outcome.verify_ms)
        self._drafted = False
        self._logs.add(outcome)

    def finish(self, token_ids: Sequence[int]) -> None:
        """The answer's states are not needed any longer."""
        self._logs.finish()

    def reset(self) -> None:
        """Forget states and what was measured; counts of dropped drafts stay."""
        self._logs.clear()
        self._hits.clear()
        self._worth.clear()
        self._forget()

    def sizes(self) -> dict[str, int]:
        """Windows whose states are held."""
        return {f'{self.name}_windows': len(self._logs)}

    def counts(self) -> dict[str, int]:
        """Drafts, those that were not asked for, and those dropped by cause."""
        return {cause: self._counts[cause]
                for cause in ('drafts', 'not_asked', 'not_finite', 'malformed', 'vocabulary', 'failed')}
