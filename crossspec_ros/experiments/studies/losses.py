"""Ways to learn the verifier's words: divergences, weights of places, states, on the drafter's decoder."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossspec_ros.experiments.experiment import (
    ENOUGH_STEPS, FAILS, HOLDS, IN_PART, OPEN, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.intervals import over, point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.pupil_methods import HARD, METHODS, Method, trained
from crossspec_ros.experiments.pupils import judged_lessons, rows_of, taught_lessons

_NOTE = ('The decoder learns from nothing, the eyes stay; forward KL where nothing else is said. '
         + ' '.join(f'{name[0].upper()}{name[1:]}: {method.note}.' for name, method in METHODS.items() if method.note)
         + ' Off policy: along the verifier\'s text; on policy needs forwards of the verifier along the drafter\'s.')


@dataclass(frozen=True)
class Losses(Experiment):
    """A method and seed a part."""

    def parts(self, settings: Settings) -> tuple[str, ...]:
        return tuple(f'{method}/{seed}' for method in METHODS for seed in range(settings.seeds))

    def measure(self, settings: Settings, part: str, lab: Lab) -> dict[str, Any]:
        name, seed = part.rsplit('/', 1)
        method = METHODS[name]
        pupil = trained(lab, taught_lessons(lab, method.view), method, settings.steps, int(seed))
        return {pace: rows_of(pupil, judged_lessons(lab, pace, method.view)) for pace in settings.paces}

    def conclude(self, settings: Settings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, gains = [], {}, {}
        for pace in settings.paces:
            rows: dict[str, list] = {}
            for part, each in found.items():
                rows.setdefault(part.rsplit('/', 1)[0], []).extend(each[pace])
            gains[pace] = {method: over(each, rows[HARD], 'right', 'tokens', 3) for method, each in rows.items()
                           if method != HARD}
            tables.append(Table(
                f'{settings.taught} windows, {settings.steps} steps, {settings.seeds} trainings, judged on '
                f'{len(next(iter(found.values()))[pace])} {pace} ones',
                ('learned by', 'right a token', 'over hard labels', 'tau, with the bonus'),
                tuple((method, ratio(each, 'right', 'tokens', 3), gains[pace].get(method),
                       ratio(each, 'tokens', 'passes')) for method, each in rows.items()),
                _NOTE))
            series[pace] = [point(method, ratio(each, 'right', 'tokens', 3)) for method, each in rows.items()]
        mine = gains[settings.paces[0]]
        best = max(mine, key=lambda method: mine[method].value)
        hard = ratio([row for part, each in found.items() if part.startswith(HARD) for row in each[settings.paces[0]]],
                     'right', 'tokens', 3)
        share = 100 * mine[best].value / hard.value if hard.value else 0.0
        sure = (mine[best].low or 0.0) > 0
        return Outcome(
            tuple(tables), f'the best way, {best}, is right at {mine[best]} more of the places than hard labels '
            f'({hard}), {share:+.0f}%{"" if sure else ", which chance explains"}, after {settings.steps} steps on '
            f'{settings.taught} windows.',
            OPEN if settings.steps < ENOUGH_STEPS else HOLDS if sure and share >= 10 else IN_PART if sure else FAILS,
            _advice(mine, best, sure), Plot('bars', 'Right tokens by way of learning', 'share of places', '', series))


def _advice(gains: Mapping[str, Value], best: str, sure: bool) -> str:
    """Of gains over hard labels; ``sure``: that of the best is none of chance."""
    if not sure:
        return 'None of them is surely better than the verifier\'s tokens alone: any of them will do.'
    offered = max((name for name in gains if METHODS[name] == Method(METHODS[name].loss)),
                  key=lambda name: gains[name].value)
    if best == offered:
        return f'Learn by {best} (`--loss {METHODS[best].loss}` of `crossspec learn`).'
    more = gains[best].value - gains[offered].value
    return (f'`crossspec learn` offers {offered} (`--loss {METHODS[offered].loss}`); {best} is right at {more:.3f} '
            'more of the places.')


EXPERIMENT = Losses(
    name='losses', title='What a drafter should learn by', source='2310.08461, 2510.19779, 2510.24021, 2502.11018',
    claim='drafters that were distilled are 10-45% faster; a filter (AdaSPEC) raises acceptance by up to 15%, a mask '
          '(GRIFFIN) the accepted length by 8%',
    measures=f'The drafter\'s decoder learns the same windows from nothing in {len(METHODS)} ways: divergences, '
             'filters and weights of places, states of the verifier beside the words, and two spans of events. Share '
             'of right tokens and tokens a pass on unseen drives.', quick=Settings(**QUICK))
