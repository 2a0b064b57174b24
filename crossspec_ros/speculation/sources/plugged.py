"""Draft sources of other packages: an entry point of the group ``crossspec.draft_sources`` answers to its name.

Its function is given `Surroundings` and returns an object with ``start`` and ``step``, and any other function of
`DraftSource` that it wants to be told by. Nothing that it says is believed: tokens, probabilities and times are checked
and measured, and no caption depends on them.
"""
from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import index
from time import perf_counter_ns
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.plugged import brought, check_parts, told
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.sources.base import NEEDS, Beliefs, DraftSource, Opening, Step
from crossspec_ros.speculation.worth import Worth

GROUP = 'crossspec.draft_sources'

_log = logging.getLogger(__name__)
_REQUIRED = ('start', 'step')
_CALLED = (*_REQUIRED, 'begin', 'feedback', 'observe', 'rehearsed', 'finish', 'reset')
_COUNTS = ('drafts', 'not_asked', 'not_finite', 'malformed', 'vocabulary', 'failed', 'off')
_MOST_STEPS = 64                 # followers of one state that are looked at
_MOST_FAILED = 8                 # windows in a row
_RANKS = 4
_NO_WINDOW = -1


@dataclass(frozen=True)
class Surroundings:
    """What a source is told of the verifier that it drafts for.

    ``argument``: what stands after the colon of its name. Token ids are in [0, ``vocab_size``) and not among
    ``banned_ids``; ``eos_ids`` end a caption. ``tokenize`` makes ids of a text, without marks of its start.
    """

    argument: str = ''
    vocab_size: int | None = None
    banned_ids: frozenset[int] = frozenset()
    eos_ids: tuple[int, ...] = ()
    tokenizer_key: str | None = None
    tokenize: Callable[[str], Sequence[int]] | None = None


def plugged_source(name: str, surroundings: Surroundings) -> PluggedSource:
    """The source that a package has for ``NAME`` or ``NAME:ARGUMENT``, on a short leash.

    Raises CrossSpecError, in one line, where no package answers to it, and for whatever goes wrong in one that does.
    """
    key, _, argument = name.partition(':')
    what = f'draft source {name}'
    given = replace(surroundings, argument=argument)

    def use(made: Any) -> PluggedSource:
        check_parts(made, _REQUIRED, what, 'crossspec_ros.speculation.sources.base.DraftSource')
        return PluggedSource(key, made, given)
    source = brought(GROUP, key, what, given, use=use)
    if source is None:
        raise CrossSpecError(f'{what}: no installed package has it among its entry points {GROUP}; install it, or '
                             'leave it out')
    return source


class _Place:
    """A state of the source's own, and what it said there: asked once, so that it cannot say two things."""

    __slots__ = ('state', 'steps', 'bins')

    def __init__(self, state: Any) -> None:
        self.state = state
        self.steps: list[Step] | None = None
        self.bins: dict[int, int] = {}


class PluggedSource(DraftSource):
    """A source of another package: checked, timed, asked only while it pays.

    State: a `_Place`. What it believes of a token is replaced by the share of tokens it believed so of that the target
    said. Where it raises it is silent for the rest of the window; after 8 such windows in a row it is off for good.
    """

    def __init__(self, name: str, source: Any, surroundings: Surroundings, *, worth: Worth | None = None,
                 clock: Callable[[], int] = perf_counter_ns) -> None:
        """Raises `CrossSpecError` for needs that are none of `NEEDS`, or layers that are no whole numbers."""
        self.name = name
        self.needs = frozenset(getattr(source, 'needs', ()))
        if not self.needs <= set(NEEDS):
            raise CrossSpecError(f'draft source {name}: needs must be among {", ".join(NEEDS)}, got '
                                 f'{", ".join(map(str, self.needs))}')
        self.layers = tuple(map(index, getattr(source, 'layers', ())))
        self._functions = {called: function for called in _CALLED
                           if callable(function := getattr(source, called, None))}
        self._vocab_size, self._banned_ids = surroundings.vocab_size, surroundings.banned_ids
        self._worth, self._clock, self._beliefs = worth or Worth(), clock, Beliefs()
        self._counts: Counter[str] = Counter()
        self._window_id, self._failed_window = _NO_WINDOW, None
        self._failed_windows = 0                                 # in a row
        self._asked, self._unaccounted_ms = False, 0.0

    @property
    def _silent(self) -> bool:
        return bool(self._counts['off']) or self._failed_window == self._window_id

    def _ask(self, called: str, *given: Any, reading: Callable[[Any], Any] = lambda answer: answer) -> Any:
        """What the source's own function says, as ``reading`` takes it; None where it has none, is silent or fails."""
        function = self._functions.get(called)
        if function is None or self._silent:
            return None
        start_ns = self._clock()
        try:
            return reading(function(*given))
        except (Exception, SystemExit) as error:       # another package's code; the caption goes on without it
            self._fail(called, error)
            return None
        finally:
            self._unaccounted_ms += (self._clock() - start_ns) / 1e6

    def _fail(self, called: str, error: BaseException) -> None:
        self._counts['failed'] += 1
        self._failed_window = self._window_id
        self._failed_windows += 1
        if self._failed_windows >= _MOST_FAILED:
            self._counts['off'] = 1
            _log.warning('the draft source %s failed again (%s in %s) and is off until the next start', self.name,
                         told(error), called)
        elif self._counts['failed'] == 1:
            _log.warning('the draft source %s failed (%s in %s) and drafts no more for this window', self.name,
                         told(error), called)

    def begin(self, opening: Opening) -> None:
        """Another window, in which it may speak again."""
        self._window_id = opening.window_id
        self._ask('begin', opening)

    def start(self, committed: Sequence[int]) -> _Place | None:
        """The source's state after the committed tokens, where its drafts are expected to pay."""
        if self._silent:
            return None
        if not self._worth.asks():
            self._counts['not_asked'] += 1
            return None
        self._asked = True
        state = self._ask('start', tuple(committed))
        if state is None:
            return None
        self._counts['drafts'] += 1
        return _Place(state)

    def step(self, state: _Place) -> Sequence[Step]:
        """What the source says there, as far as it may go through the target."""
        if state.steps is None:
            state.steps = []
            self._ask('step', state.state, reading=lambda answer: self._read(state, answer))
            state.steps.sort(key=lambda step: -step[1])
        return state.steps

    def _read(self, place: _Place, answer: Iterable[Any] | None) -> None:
        """Keep of its followers those that are a token of the vocabulary, not said before, and a probability."""
        for entry in islice(() if answer is None else answer, _MOST_STEPS):
            try:
                token, prob, following = entry
                token, prob = index(token), float(prob)
            except (TypeError, ValueError, OverflowError):
                self._counts['malformed'] += 1
                continue
            if token < 0 or token in self._banned_ids or (self._vocab_size is not None and token >= self._vocab_size):
                self._counts['vocabulary'] += 1
            elif not (math.isfinite(prob) and 0.0 <= prob <= 1.0):
                self._counts['not_finite'] += 1
            elif prob > 0.0 and token not in place.bins:
                place.bins[token] = self._beliefs.bin(prob)
                place.steps.append((token, self._beliefs.share(place.bins[token]),
                                    None if following is None else _Place(following)))

    def feedback(self, state: _Place, token: int) -> None:
        """Count how often tokens are said that were believed so likely."""
        for candidate, _, _ in self.step(state)[:_RANKS]:
            self._beliefs.add(state.bins[candidate], candidate == token)
        self._ask('feedback', state.state, token)

    def observe(self, outcome: PassOutcome) -> None:
        """Show it the pass, and account for what its drafts took and gained in it."""
        hidden = 'hidden' in self.needs
        self._ask('observe', outcome if hidden else replace(outcome, logits=None, states=None, layers={}, best=None))
        if self._asked:
            self._worth.spent(self._unaccounted_ms)
            self._worth.gained(outcome.alone(self.name))
            self.spent_ms += self._unaccounted_ms
            self._asked, self._unaccounted_ms = False, 0.0
        if not outcome.first and outcome.verify_ms > 0:
            self._worth.passed(len(outcome.emitted), outcome.verify_ms)

    def rehearsed(self, token_ids: Sequence[int]) -> None:
        self._ask('rehearsed', tuple(token_ids))

    def finish(self, token_ids: Sequence[int]) -> None:
        self._ask('finish', tuple(token_ids))
        if not self._silent:
            self._failed_windows = 0

    def reset(self) -> None:
        """Forget what was measured; counts, and that it is off, stay."""
        self._ask('reset')
        self._beliefs.clear()
        self._worth.clear()
        self._asked, self._unaccounted_ms = False, 0.0

    def sizes(self) -> dict[str, int]:
        """Nothing is held here beyond a pass; what the source holds is its own affair."""
        return {}

    def counts(self) -> dict[str, int]:
        """Drafts, those that were not asked for, what was dropped by cause, failures, and whether it is off."""
        return {cause: self._counts[cause] for cause in _COUNTS}
