"""Lookahead decoding: the n-gram pool and Jacobi guesses, decoded by the verifier itself."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, IN_PART, QUICK, Experiment, Outcome, Plot, Settings, Table)
from crossspec_ros.experiments.intervals import point, ratio, statistic
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.ngram_pool import Jacobi, NgramPool

_CLAIM = 1.5
_PLAIN, _BOTH = 'no drafts', 'lookahead: both'
_ROWS = {_PLAIN: ((), ()), 'Jacobi guesses': ((), (Jacobi,)), 'n-gram pool': ((), (NgramPool,)),
         _BOTH: ((), (Jacobi, NgramPool)), 'prompt lookup': (('prompt',), ()), 'caption memory': (('memory',), ())}


@dataclass(frozen=True)
class LookaheadSettings(Settings):
    """``live`` windows of each drive."""

    live: int = 10


@dataclass(frozen=True)
class Lookahead(Experiment):
    """What needs no training and no other model."""

    def parts(self, settings: LookaheadSettings) -> tuple[str, ...]:
        return tuple(f'{pace}/{name}' for pace in settings.paces for name in _ROWS)

    def measure(self, settings: LookaheadSettings, part: str, lab: Lab) -> dict[str, Any]:
        pace, name = part.split('/')
        sources, more = _ROWS[name]
        told = lab.live(pace, settings.live, sources, more=[make() for make in more])
        return {'rows': [{'drive': shown.window.drive, 'passes': outcome.passes, 'tokens': outcome.emitted,
                          'age_ms': outcome.age_ms} for outcome, shown in zip(told, lab.shown(pace, settings.live))]}

    def conclude(self, settings: LookaheadSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, told = [], {}, {}
        for pace in settings.paces:
            rows = {part.split('/')[1]: each['rows'] for part, each in found.items() if part.startswith(f'{pace}/')}
            told[pace] = {name: (ratio(each, 'tokens', 'passes'), statistic(each, 'age_ms', digits=0))
                          for name, each in rows.items()}
            tables.append(Table(f'Without training, {pace}: {len(rows[_PLAIN])} windows decoded by the verifier',
                                ('source', 'tau, with the bonus', 'age here, ms'),
                                tuple((name, *values) for name, values in told[pace].items()),
                                'Tokens equal to those without drafts in all windows, asserted.'))
            series[pace] = [point(name, values[0]) for name, values in told[pace].items()]
        mine = {name: values[0] for name, values in told[settings.paces[0]].items()}
        reached = mine[_BOTH].value
        verdict = HOLDS if reached >= _CLAIM else IN_PART if reached > 1.1 else FAILS
        return Outcome(
            tuple(tables), f'Jacobi guesses alone give {mine["Jacobi guesses"]} tokens a pass, the n-gram pool '
            f'{mine["n-gram pool"]}, both {mine[_BOTH]}; the caption memory {mine["caption memory"]}.', verdict,
            'The caption memory does what lookahead\'s pool does and keeps whole captions; Jacobi guesses are nodes '
            'that a pass pays for and rarely right, so they are not in the live path.',
            Plot('bars', 'Tokens a pass without training', 'tokens a pass, 95% over drives', '', series, 1.0))


EXPERIMENT = Lookahead(
    name='lookahead', title='Drafts from nothing', source='2402.02057, 2305.10427',
    claim='1.5-2.3x without a drafter and without training',
    measures='The two halves of lookahead decoding, guesses that the target refines itself and a pool of its n-grams, '
             'decoded live beside prompt lookup and the caption memory.',
    full=LookaheadSettings(), quick=LookaheadSettings(**QUICK, live=2))
