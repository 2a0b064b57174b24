"""Should a head see? An EAGLE-1 head with visual tokens in several forms, beside the plain one and GLIDE."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossspec_ros.experiments.experiment import (
    ENOUGH_STEPS, FAILS, HOLDS, IN_PART, OPEN, QUICK, Experiment, Outcome, Plot, Settings, Table, row_parts)
from crossspec_ros.experiments.intervals import over, point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.studies.sources import positions_table
from crossspec_ros.experiments.trained_heads import EYES, FIELD, field_source, given_or_trained
from crossspec_ros.models.heads.config import KINDS

_PLAIN, _KIND, _LIVE = 'no drafts', KINDS[0], 'live'
_TEXT = 'text only: EAGLE-1 (HiViS)'
_GLIDE = 'keys and values (GLIDE)'
_FORMS = {'1 visual vector (ViSpec)': 'vectors1', '4 visual vectors (ViSpec)': 'vectors4',
          'newest frame, own projection (MSD)': 'projected', 'cross-attention (DREAM)': 'crossed',
          _GLIDE: 'glide'}
_ROWS = (_PLAIN, _TEXT, *_FORMS)
_GAIN = 0.4


@dataclass(frozen=True)
class EyesSettings(Settings):
    """``live`` windows of each drive are decoded by the verifier itself with every form."""

    live: int = 2


@dataclass(frozen=True)
class Eyes(Experiment):
    """A form and seed a part."""

    def parts(self, settings: EyesSettings) -> tuple[str, ...]:
        return row_parts(settings, _ROWS, _ROWS[1:], _LIVE)

    def measure(self, settings: EyesSettings, part: str, lab: Lab) -> dict[str, Any]:
        pace, name, *seed = part.split('/')
        forms, seen = FIELD | EYES, lab.windows(pace)
        if name == _LIVE:
            more = [field_source(lab, form, forms[form], 0, seen, True) for form in _FORMS.values()]
            return {'equal': len(lab.live(pace, settings.live, (), more=more))}
        heads, more = [], []
        if name == _TEXT:
            trained = given_or_trained(lab, int(seed[0]), (_KIND,))
            if _KIND not in trained:
                return {'left_out': f'{name}: none of --heads is of the kind {_KIND}'}
            heads = [trained[_KIND]]
        elif name != _PLAIN:
            more = [field_source(lab, _FORMS[name], forms[_FORMS[name]], int(seed[0]), seen, True)]
        rows, statistics = lab.decoded(pace, (), heads, more)
        for row in rows:
            del row['trees']
        return {'rows': rows, 'statistics': {key: statistics[key] for key in ('acceptance_rate_per_pos', 'num_drafts')}}

    def conclude(self, settings: EyesSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series = [], {}
        for pace in settings.paces:
            told = _told(pace, found)
            tables += [_taus(pace, told), positions_table(pace, told)]
            series[pace] = [point(name, ratio(rows, 'tokens', 'passes')) for name, (rows, _) in told.items()]
        skipped = tuple(sorted({part['left_out'] for part in found.values() if 'left_out' in part}))
        live = sum(part['equal'] for part in found.values() if 'equal' in part)
        verdict, measured, advice = self._judged(settings, _told(settings.paces[0], found))
        measured += (f' {live} windows decoded by the verifier itself with all forms at once said its own tokens. The '
                     f'heads learned {settings.taught} windows in {settings.steps} steps.')
        return Outcome(tuple(tables), measured, OPEN if settings.steps < ENOUGH_STEPS else verdict, advice,
                       Plot('bars', 'Tokens a pass by what a head sees', 'tokens a pass, 95% over drives', '', series,
                            1.0), skipped)

    @staticmethod
    def _judged(settings: EyesSettings, told: Mapping[str, tuple[list, list]]) -> tuple[str, str, str]:
        """Verdict, what was measured and what follows."""
        taus = {name: ratio(told[name][0], 'tokens', 'passes') for name in _FORMS}
        best = max((name for name in _FORMS if name != _GLIDE), key=lambda name: taus[name].value)
        if _TEXT not in told:
            return OPEN, f'the best form with visual tokens, {best}, gives {taus[best]} tokens a pass.', 'Leave it out.'
        gains = {name: over(told[name][0], told[_TEXT][0], 'tokens', 'passes') for name in _FORMS}
        measured = (f'the head that sees nothing gives {ratio(told[_TEXT][0], "tokens", "passes")} tokens a pass; the '
                    f'best form with visual tokens, {best}, {gains[best]} more; attention to the verifier\'s keys and '
                    f'values {gains[_GLIDE]} more.')
        sure, keys = (gains[best].low or 0.0) > 0, (gains[_GLIDE].low or 0.0) > max(gains[best].value, 0.0)
        verdict = HOLDS if sure and gains[best].value >= _GAIN else IN_PART if sure else FAILS
        advice = 'The states that a head reads have seen the frames already; ' + (
            'what helps it are the verifier\'s keys and values, not eyes of its own.' if keys else
            f'eyes of its own add {gains[best].value:.2f} tokens a pass at best.')
        return verdict, measured, advice


def _told(pace: str, found: Mapping[str, dict[str, Any]]) -> dict[str, tuple[list, list]]:
    """Rows of all trainings and statistics of each, by name."""
    told: dict[str, tuple[list, list]] = {}
    for part, each in found.items():
        if part.startswith(f'{pace}/') and 'rows' in each:
            rows, statistics = told.setdefault(part.split('/')[1], ([], []))
            rows += each['rows']
            statistics.append(each['statistics'])
    return told


def _taus(pace: str, told: Mapping[str, tuple[list, list]]) -> Table:
    rows = [(name, ratio(each, 'tokens', 'passes'),
             over(each, told[_TEXT][0], 'tokens', 'passes') if _TEXT in told and name not in (_PLAIN, _TEXT) else None,
             ratio(each, 'accepted', 'drafted', 3) if name != _PLAIN else None) for name, (each, _) in told.items()]
    return Table(f'What a head sees, {pace}: {len(told[_PLAIN][0])} windows',
                 ('head', 'tau, with the bonus', 'over text only', 'accepted / drafted nodes'), tuple(rows),
                 'At most a million parameters each, learned from the same answers in as many steps. Text only: states '
                 'and words of the answer, as HiViS leaves a drafter. Vectors are pooled of all frames\' visual tokens '
                 'and one is added to the input; the other forms see the newest frame.')


EXPERIMENT = Eyes(
    name='eyes', title='Should a head see', source='2509.15235, 2505.14260, 2509.23928, 2505.19201, 2402.02082',
    claim='visual tokens given to the head in the right form add 0.4-0.7 accepted tokens (MSD)',
    measures='An EAGLE-1 head that reads states and words alone, and five that look at the frames too: by pooled '
             'vectors, by a projection of the newest frame\'s visual tokens, by attention to them, and by attention to '
             'the verifier\'s own keys and values.', full=EyesSettings(), quick=EyesSettings(**QUICK, live=1))
