"""Lossy rules at several thresholds: what they cost in words beside what they gain in tokens a pass."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, IN_PART, QUICK, Experiment, Outcome, Plot, Settings, Table)
from crossspec_ros.experiments.intervals import over, point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.lossy_rules import lossy_rule
from crossspec_ros.world import SLOTS, parse_slots

_LOSSLESS = 'lossless'
_SOURCES = ('memory', 'previous', 'drafts')
_CLAIM = 1.91


@dataclass(frozen=True)
class CascadesSettings(Settings):
    """``live`` windows of each drive are decoded by the verifier itself; (rule, threshold) each."""

    live: int = 10
    rules: tuple[tuple[str, float], ...] = (
        ('deferral', 0.1), ('deferral', 0.3), ('deferral', 0.5), ('deferral', 0.9), ('fuzzy', 0.3), ('fuzzy', 0.6),
        ('fuzzy', 0.9), ('typical', 0.3), ('typical', 0.1))


@dataclass(frozen=True)
class Cascades(Experiment):
    """A rule and threshold a part."""

    def parts(self, settings: CascadesSettings) -> tuple[str, ...]:
        rules = (_LOSSLESS, *(f'{rule} {threshold:g}' for rule, threshold in settings.rules))
        return tuple(f'{pace}/{rule}' for pace in settings.paces for rule in rules)

    def measure(self, settings: CascadesSettings, part: str, lab: Lab) -> dict[str, Any]:
        pace, name = part.split('/')
        rule = None if name == _LOSSLESS else lossy_rule(name.split()[0], float(name.split()[1]))
        rows = []
        for outcome, shown in zip(lab.live(pace, settings.live, _SOURCES, rule=rule), lab.shown(pace, settings.live)):
            true, slots = lab.without_end(shown.window.token_ids), parse_slots(lab.target.decode(outcome.tokens))
            rows.append({'drive': shown.window.drive, 'passes': outcome.passes, 'tokens': outcome.emitted, 'windows': 1,
                         'equal': int(outcome.tokens == true), 'slots': len(SLOTS),
                         'slots_right': sum(slots.get(name) == shown.slots[name] for name in SLOTS)})
        return {'rows': rows}

    def conclude(self, settings: CascadesSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, judged = [], {}, {}
        for pace in settings.paces:
            rows = {part.split('/')[1]: each['rows'] for part, each in found.items() if part.startswith(f'{pace}/')}
            told = {name: (ratio(each, 'tokens', 'passes'), ratio(each, 'equal', 'windows'),
                           ratio(each, 'slots_right', 'slots', 3)) for name, each in rows.items()}
            judged[pace] = told
            tables.append(Table(
                f'Rules, {pace}: {len(next(iter(rows.values())))} windows decoded by the verifier',
                ('rule and threshold', 'tau, with the bonus', 'captions as the verifier says them', 'facts right'),
                tuple((name, *values) for name, values in told.items()),
                'Facts: object, colour, place, motion and the car\'s own motion against the truth of the world.'))
            series[pace] = [point(name, values[0]) for name, values in told.items()]
        told = judged[settings.paces[0]]
        plain, lossy = told[_LOSSLESS], {name: values for name, values in told.items() if name != _LOSSLESS}
        fastest = max(lossy, key=lambda name: lossy[name][0].value)
        gain, pace = lossy[fastest][0].value / plain[0].value, settings.paces[0]
        more = over(found[f'{pace}/{fastest}']['rows'], found[f'{pace}/{_LOSSLESS}']['rows'], 'tokens', 'passes')
        lost = [name for name, values in lossy.items() if values[1].value < 1]
        verdict = HOLDS if gain >= _CLAIM else IN_PART if (more.low or 0.0) > 0 else FAILS
        return Outcome(
            tuple(tables), f'the fastest rule, {fastest}, emits {gain:.2f} times the tokens a pass of lossless '
            f'decoding ({lossy[fastest][0]} against {plain[0]}, {more} more) and says '
            f'{100 * (1 - lossy[fastest][1].value):.0f}% of the captions otherwise, with '
            f'{100 * lossy[fastest][2].value:.0f}% of the facts right against {100 * plain[2].value:.0f}%; {len(lost)} '
            f'of {len(lossy)} rules changed captions.', verdict,
            'Leave `decode.acceptance` at greedy: where drafts are mostly right already, a lossy rule has little left '
            'to gain and what it changes is no longer what the verifier says.',
            Plot('bars', 'Tokens a pass by rule', 'tokens a pass, 95% over drives', '', series))


EXPERIMENT = Cascades(
    name='cascades', title='Rules that trade words for speed',
    source='PyramidSD 2510.12966, Faster Cascades 2405.19261',
    claim='1.91x over lossless speculation (fuzzy), 2.9x (deferral), at little loss of quality',
    measures='Fuzzy acceptance, deferral and typical acceptance at several thresholds, decoded by the verifier itself '
             'with the same drafts: tokens a pass beside how many captions and facts change.', lossless=False,
    full=CascadesSettings(), quick=CascadesSettings(
        **QUICK, live=2, rules=(
            ('deferral', 0.3), ('deferral', 0.9), ('fuzzy', 0.9), ('fuzzy', 0.99), ('typical', 0.3))))
