"""Draft sources compared on the same windows, alone and merged."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from crossspec_ros.experiments.experiment import (
    ENOUGH_STEPS, FAILS, HOLDS, IN_PART, OPEN, QUICK, Experiment, Outcome, Plot, Settings, Table, Value,
    row_parts)
from crossspec_ros.experiments.intervals import over, point, ratio, statistic
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.ngram_pool import NgramPool
from crossspec_ros.experiments.seven_b import NO_TRACES, recorded_7b
from crossspec_ros.experiments.trained_heads import FIELD, field_source, given_or_trained
from crossspec_ros.models.heads.config import KINDS

MERGED = ('memory', 'previous', 'drafts', 'rehearsal', 'recycling', 'prompt')
_POOL = 'ngram_pool'
_PLAIN = 'no drafts'
_ALONE = {_PLAIN: (), 'previous caption': ('previous',), 'caption memory': ('memory',),
          'prompt lookup': ('prompt',), 'token recycling': ('recycling',), 'n-gram pool': (_POOL,),
          'event drafter': ('drafts',), 'rehearsal': ('rehearsal',)}
_HEADS = (*KINDS, *FIELD)
_ROWS = {**_ALONE, **{f'head {kind}': (kind,) for kind in _HEADS}, 'merged': MERGED,
         **{f'merged and {kind}': (*MERGED, kind) for kind in _HEADS}, 'merged and n-gram pool': (*MERGED, _POOL)}
_POSITIONS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class SourcesSettings(Settings):
    """``live`` windows of each drive are decoded by the verifier itself with all sources at once."""

    live: int = 4


@dataclass(frozen=True)
class Sources(Experiment):
    """Every source alone, all merged, and each head and the pool beside them."""

    def parts(self, settings: SourcesSettings) -> tuple[str, ...]:
        return row_parts(settings, _ROWS, self._seeded(settings), 'live')

    def _seeded(self, settings: SourcesSettings) -> set[str]:
        """Rows that depend on a training here."""
        trained = set(FIELD if settings.heads else _HEADS)
        return {name for name, sources in _ROWS.items() if set(sources) & trained}

    def measure(self, settings: SourcesSettings, part: str, lab: Lab) -> dict[str, Any]:
        pace, name, *seed = part.split('/')
        if name == 'live':
            heads, seen = given_or_trained(lab, 0).values(), lab.windows(pace)
            more = [field_source(lab, kind, form, 0, seen, False) for kind, form in FIELD.items()]
            told = lab.live(pace, settings.live, MERGED, list(heads), [NgramPool(), *more])
            return {'equal': len(told)}
        sources, seed = _ROWS[name], int(seed[0]) if seed else 0
        kinds = [kind for kind in KINDS if kind in sources]
        heads = given_or_trained(lab, seed, kinds) if kinds else {}
        if any(kind not in heads for kind in kinds):
            return {'left_out': f'{name}: none of --heads is of this kind'}
        named = [source for source in sources if source not in (*_HEADS, _POOL)]
        more = [field_source(lab, kind, form, seed, lab.windows(pace), not named)
                for kind, form in FIELD.items() if kind in sources] + [NgramPool()] * (_POOL in sources)
        rows, statistics = lab.decoded(pace, named, [heads[kind] for kind in kinds], more)
        seven = recorded_7b(settings.traces)
        for row in rows:
            row['seven_ms'] = seven and seven.age_ms(row.pop('trees'))
        keys = ('acceptance_rate_per_pos', 'num_drafts', 'sources')
        return {'rows': rows, 'statistics': {key: statistics[key] for key in keys}}

    def conclude(self, settings: SourcesSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, skipped = [], {}, [] if settings.traces else [NO_TRACES]
        skipped += sorted({part['left_out'] for part in found.values() if 'left_out' in part})
        for pace in settings.paces:
            told = self._told(pace, found)
            tables += [_taus(pace, told), positions_table(pace, told), _by_source(pace, told['merged'][1])]
            series[pace] = [point(name, ratio(rows, 'tokens', 'passes')) for name, (rows, _) in told.items()]
        told = self._told(settings.paces[0], found)
        taus = {name: ratio(rows, 'tokens', 'passes') for name, (rows, _) in told.items()}
        heads = {name: tau for name, tau in taus.items() if name.startswith('head ')}
        live = sum(part['equal'] for part in found.values() if 'equal' in part)
        measured, verdict, advice = self._judged(taus, heads, told, live)
        if heads and not settings.heads:
            measured += f' The heads learned {settings.taught} windows in {settings.steps} steps.'
            verdict = OPEN if settings.steps < ENOUGH_STEPS else verdict
        return Outcome(tuple(tables), measured, verdict, advice,
                       Plot('bars', 'Tokens a pass by source', 'tokens a pass, 95% over drives', '', series, 1.0),
                       tuple(skipped))

    @staticmethod
    def _told(pace: str, found: Mapping[str, dict[str, Any]]) -> dict[str, tuple[list, list]]:
        """Rows of all trainings and statistics of each, by name."""
        told: dict[str, tuple[list, list]] = {}
        for part, each in found.items():
            if part.startswith(f'{pace}/') and 'rows' in each:
                rows, statistics = told.setdefault(part.split('/')[1], ([], []))
                rows += each['rows']
                statistics.append(each['statistics'])
        return told

    @staticmethod
    def _judged(taus: Mapping[str, Value], heads: Mapping[str, Value], told: Mapping[str, tuple[list, list]], live: int
                ) -> tuple[str, str, str]:
        best = max(heads, key=lambda name: heads[name].value) if heads else None
        alone = max((name for name in _ALONE if name != _PLAIN), key=lambda name: taus[name].value)
        text = f'alone the best source is {alone} at {taus[alone]} tokens a pass; all merged reach {taus["merged"]}; '
        if best is None:
            return text + 'no head was given.', IN_PART, 'Leave all sources on: merged they are at least as good.'
        beside = f'merged and {best.removeprefix("head ")}'
        gain = over(told[beside][0], told['merged'][0], 'tokens', 'passes')
        text += (f'the best head alone, {best.removeprefix("head ")}, {heads[best]}; beside all others it adds {gain}. '
                 f'{live} windows decoded by the verifier itself with all of them at once said its own tokens.')
        wins = heads[best].value > taus[alone].value
        advised = max((kind for kind in KINDS if f'head {kind}' in heads), default=KINDS[0],
                      key=lambda kind: heads[f'head {kind}'].value)
        verdict = HOLDS if wins and (gain.low or 0.0) > 0 else IN_PART if wins else FAILS
        advice = ('Captions of a drive repeat themselves: what costs no forward (memory, the event drafter, rehearsal) '
                  + (f'is behind a head on the verifier\'s states here; try `--sources drafter,{advised}` of '
                     '`crossspec learn`.' if wins else
                     'beats heads on the verifier\'s states; leave heads out unless `crossspec learn` says that one '
                     'pays.'))
        return text, verdict, advice


def _taus(pace: str, told: Mapping[str, tuple[list, list]]) -> Table:
    rows = []
    for name, (each, _) in told.items():
        seven = statistic(each, 'seven_ms', digits=0) if each[0]['seven_ms'] is not None else None
        rows.append((name, ratio(each, 'tokens', 'passes'),
                     None if name == _PLAIN else over(each, told[_PLAIN][0], 'tokens', 'passes'),
                     ratio(each, 'accepted', 'drafted', 3), Value(fmean(row['drafted'] / row['passes'] for row in each),
                                                                  digits=1),
                     statistic(each, 'age_ms', digits=0), seven))
    return Table(f'Tokens a pass, {pace}: {len(next(iter(told.values()))[0])} windows',
                 ('source', 'tau, with the bonus', 'over no drafts', 'accepted / drafted nodes', 'nodes a pass',
                  'age here, ms', 'age 7B, ms'), tuple(rows),
                 'Age: median time from the newest frame to the whole caption; here from forwards timed on this '
                 'machine, 7B modelled, without the time that drafting would take there.')


def positions_table(pace: str, told: Mapping[str, tuple[list, list]]) -> Table:
    """Share of drafts accepted up to a position, of sources by name: rows and statistics of each; the first is left
    out."""
    rows = []
    for name, (_, statistics) in told.items():
        shares = statistics[0]['acceptance_rate_per_pos']
        rows.append((name, *(Value(100 * shares[place - 1], digits=0) if place <= len(shares) else Value(0.0, digits=0)
                             for place in _POSITIONS)))
    return Table(f'Accepted at a position of the draft, % of passes with a draft, {pace}',
                 ('source', *map(str, _POSITIONS)), tuple(rows[1:]))


def _by_source(pace: str, statistics: list) -> Table:
    rows = []
    for name, counts in statistics[0]['sources'].items():
        drafted, accepted = counts['num_draft_tokens'], counts['num_accepted_tokens']
        rows.append((name, str(drafted), str(accepted), Value(accepted / drafted, digits=3) if drafted else None,
                     str(counts['exclusive_accepted_tokens'])))
    return Table(f'Merged: whose nodes are accepted, {pace}', (
        'source', 'nodes drafted', 'accepted', 'accepted / drafted', 'accepted, of no other source'), tuple(rows))


EXPERIMENT = Sources(
    name='sources', title='Who should draft',
    source='2401.15077, 2503.01840, 2401.10774, 2402.05109, 2402.02082, 2411.04975',
    claim='heads on the target\'s states are the drafters to beat (EAGLE-3: up to 6.5x)',
    measures='Every draft source decodes the same windows of unseen drives, alone and merged: tokens a pass with the '
             'bonus token, accepted of drafted nodes, by position and by source, and modelled ages.',
    full=SourcesSettings(), quick=SourcesSettings(**QUICK, live=1))
