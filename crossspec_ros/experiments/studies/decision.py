"""Which method wins where: ages foretold from measured times and tokens a pass, beside ages of the same windows."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from time import perf_counter_ns
from typing import Any

import numpy as np

from crossspec_ros.experiments.experiment import FAILS, HOLDS, QUICK, Experiment, Outcome, Plot, Settings, Table, Value
from crossspec_ros.experiments.intervals import Rows, ratio, statistic
from crossspec_ros.experiments.lab import SIZE, Lab
from crossspec_ros.speculation.age import Timing
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.costs import measure_stages
from crossspec_ros.speculation.decision import (
    LABELS, Drafts, Row, chosen, decide, method_of, methods_of, prefill_share, with_share)
from crossspec_ros.speculation.settings import EngineConfig

_TIMES, _PLAIN, _AHEAD, _FUSED = 'times', 'generate', 'ahead', 'fused'
_RUN = {_AHEAD: (), 'memory': ('memory',), 'drafter_early': ('drafts',), _FUSED: ('memory', 'previous', 'drafts')}
_SHARES = (0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class DecisionSettings(Settings):
    """``live`` windows of each drive are decoded by each method; answers of ``lengths`` tokens are foretold."""

    live: int = 10
    lengths: tuple[int, ...] = (12, 36, 120)


@dataclass(frozen=True)
class Decision(Experiment):
    """The verifier's times, then a method a part."""

    def parts(self, settings: DecisionSettings) -> tuple[str, ...]:
        return (_TIMES, *(f'{pace}/{name}' for pace in settings.paces for name in (_PLAIN, *_RUN)))

    def measure(self, settings: DecisionSettings, part: str, lab: Lab) -> dict[str, Any]:
        if part == _TIMES:
            return _times(lab)
        pace, name = part.split('/')
        shown = lab.shown(pace, settings.live)
        if name == _PLAIN:
            return {'rows': [_generated(lab, each.frames.frames, each.window.drive) for each in shown]}
        told = lab.live(pace, settings.live, _RUN[name])
        return {'rows': [{'drive': each.window.drive, 'age_ms': outcome.age_ms, 'passes': outcome.passes,
                          'tokens': outcome.emitted} for each, outcome in zip(shown, told, strict=True)]}

    def conclude(self, settings: DecisionSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        timing, tables, wins = _timing(found[_TIMES]), [], []
        for pace in settings.paces:
            rows = {name: found[f'{pace}/{name}']['rows'] for name in (_PLAIN, *_RUN)}
            tokens = fmean(row['tokens'] for row in rows[_AHEAD])
            foretold = decide(timing, methods_of(_drafts(rows), _step_ms(rows[_PLAIN], timing, tokens)), tokens)
            wins.append(chosen(foretold))
            tables.append(_compared(pace, foretold, rows, prefill_share(timing, tokens)))
        drafts = _drafts({name: found[f'{settings.paces[0]}/{name}']['rows'] for name in _RUN})[_FUSED]
        gains = {share: _gains(timing, share, drafts, settings.lengths[1]) for share in _SHARES}
        tables += [_by_share(gains, drafts, settings.lengths[1]), _by_length(timing, drafts, settings.lengths)]
        low, high = gains[_SHARES[0]][0], gains[_SHARES[-1]][0]
        winner = wins[0].method
        return Outcome(
            tuple(tables), f'of the methods that were run, {winner.name} wins, foretold {wins[0].age_ms:.0f} ms and '
            f'{wins[0].speedup:.1f} times sooner than generate. Verified after a prefill that is a tenth of '
            f'generate\'s time the same drafts give {low:.1f} times, after one that is four fifths of it {high:.2f}.',
            HOLDS if high > low else FAILS,
            'The longer the prefill, the less drafts alone give; prefill frames as they come, and verify the drafts in '
            'the last of it. `crossspec advise --model PATH` measures these numbers on your own verifier.',
            Plot('lines', 'What the same drafts give, by share of prefill', 'share of prefill in the time of generate',
                 'times sooner than generate', {
                     name: [(share, each[place], None, None) for share, each in gains.items()]
                     for place, name in enumerate(('after the whole prefill', 'in the last prefill, frames as they '
                                                   'come'))}, 1.0))


def _times(lab: Lab) -> dict[str, Any]:
    layout = lab.target.layout(lab.settings.prompt, EngineConfig().window_frames, *SIZE)
    return {'costs_ms': {str(count): cost_ms for count, cost_ms in lab.costs.items()},
            'stages_ms': asdict(measure_stages(lab.target, layout, *SIZE)), 'last_tokens': layout.last_tokens,
            'frames': len(layout.groups), 'ahead': lab.target.abilities.anticipatory}


def _timing(told: Mapping[str, Any]) -> Timing:
    stages = told['stages_ms']
    return Timing(CostCurve({int(count): cost_ms for count, cost_ms in told['costs_ms'].items()}),
                  stages['encode_all_ms'] + stages['prefill_all_ms'], stages['encode_ms'], told['last_tokens'],
                  frame_ms=stages['encode_ms'] + stages['prefill_ms'], frames=told['frames'], ahead=told['ahead'])


def _generated(lab: Lab, frames: Sequence[np.ndarray], drive: str) -> dict[str, Any]:
    begun_ns = perf_counter_ns()
    tokens = lab.target.generate(frames, lab.settings.prompt, EngineConfig().max_new_tokens)
    return {'drive': drive, 'age_ms': (perf_counter_ns() - begun_ns) / 1e6, 'passes': len(tokens),
            'tokens': len(tokens)}


def _step_ms(rows: Rows, timing: Timing, tokens: float) -> float:
    """What a token of generate takes more than a forward."""
    left_ms = fmean(row['age_ms'] for row in rows) - timing.whole_ms
    return max(0.0, left_ms / max(1.0, tokens - 1) - timing.cost(1))


def _drafts(rows: Mapping[str, Rows]) -> dict[str, Drafts]:
    return {name: Drafts(max(1.0, ratio(rows[name], 'tokens', 'passes').value)) for name in _RUN if name != _AHEAD}


def _compared(pace: str, foretold: Sequence[Row], rows: Mapping[str, Rows], share: float) -> Table:
    lines = []
    for row in foretold:
        name = row.method.name
        lines.append((LABELS[name], Value(row.method.tau), Value(row.age_ms, digits=0),
                      statistic(rows[name], 'age_ms', np.mean, 0), Value(row.speedup), Value(row.bound),
                      None if row.pays_from_tau is None else Value(row.pays_from_tau)))
    return Table(f'Foretold and measured, {pace}: {len(rows[_PLAIN])} windows, prefill {share:.2f} of generate\'s time',
                 ('method', 'tau', 'age foretold, ms', 'age measured, ms, mean', 'times sooner', 'at most',
                  'pays from tau'), tuple(lines),
                 'Foretold by `crossspec_ros.speculation.age` from forwards and stages timed before; at most: whatever '
                 'is drafted. Drafts of the event drafter are there before the newest frame.')


def _gains(timing: Timing, share: float, drafts: Drafts, tokens: int) -> tuple[float, float, float]:
    """Times sooner than generate: drafts after the whole prefill and in the last of it; the former at most."""
    scaled = with_share(timing, share, tokens)
    after, fused = decide(scaled, [method_of('lookup', drafts)], tokens)[0], decide(
        scaled, [method_of(_FUSED, drafts)], tokens)[0]
    return after.speedup, fused.speedup, after.bound


def _by_share(gains: Mapping[float, tuple[float, float, float]], drafts: Drafts, tokens: int) -> Table:
    return Table(f'What drafts of {drafts.tau:.1f} tokens a pass give at answers of {tokens} tokens, foretold',
                 ('share of prefill', 'after the whole prefill', 'at most', 'in the last prefill, frames as they come'),
                 tuple((f'{share:g}', Value(after), Value(most), Value(fused))
                       for share, (after, fused, most) in gains.items()),
                 'At most: 1 over the share that stays, whatever is drafted.')


def _by_length(timing: Timing, drafts: Drafts, lengths: Sequence[int]) -> Table:
    rows = []
    for tokens in lengths:
        best = {ahead: chosen(decide(replace(timing, ahead=ahead), methods_of({'lookup': drafts, _FUSED: drafts}),
                                     tokens)) for ahead in (True, False)}
        rows.append((str(tokens), *(cell for row in best.values()
                                    for cell in (row.method.name, Value(row.age_ms, digits=0), Value(row.speedup)))))
    return Table('What wins by length of the answer, foretold',
                 ('tokens', 'frames as they come', 'age, ms', 'times sooner', 'all frames at the end', 'age there, ms',
                  'times sooner there'), tuple(rows))


EXPERIMENT = Decision(
    name='decision', title='Which method wins where', source='cross-modal drafting hidden behind the prefill',
    claim='where prefill takes over 40% of the time, drafting behind it wins most',
    measures='Ages foretold from the measured cost of a forward, stages, length of answers and tokens a pass, beside '
             'the ages of the same windows decoded by each method, and over shares of prefill.',
    full=DecisionSettings(), quick=DecisionSettings(**QUICK, live=2))
