"""Where the age of a caption goes, read from one timeline of all processes."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.experiment import HOLDS, FAILS, QUICK, Experiment, Outcome, Plot, Settings, Table, Value
from crossspec_ros.experiments.intervals import point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.live_graph import ALL_CORES, GIVEN, ONE_CORE, timeline_of
from crossspec_ros.tracing.path import STAGES, critical_paths

_BLOCK = 4                       # neighbouring windows, drawn together


@dataclass(frozen=True)
class BreakdownSettings(Settings):
    """A demo of so many ``seconds`` on each of ``cores``."""

    demo_s: float = 60.0
    cores: tuple[str, ...] = (ALL_CORES, ONE_CORE)


@dataclass(frozen=True)
class Breakdown(Experiment):
    """A placement a part."""

    def parts(self, settings: BreakdownSettings) -> tuple[str, ...]:
        return (GIVEN,) if settings.timeline else settings.cores

    def measure(self, settings: BreakdownSettings, part: str, lab: Lab) -> dict[str, Any]:
        paths = critical_paths(timeline_of(lab, part, settings.demo_s))
        if not paths:
            raise CrossSpecError('the timeline must hold a window with a caption, it has none: run the graph for '
                                 'longer')
        return {'windows': [{'age_ms': path.age_ms, 'passes': path.passes, 'stage_ms': path.stage_ms()}
                            for path in paths]}

    def conclude(self, settings: BreakdownSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, told = [], {}, {}
        for part, each in found.items():
            rows = [{'drive': str(place // _BLOCK), 'windows': 1, 'age': window['age_ms'],
                     'longest': max(window['stage_ms'].values()), **window['stage_ms']}
                    for place, window in enumerate(each['windows'])]
            told[part] = {name: ratio(rows, name, 'windows', 1) for name in ('age', 'longest')}
            stages = {stage: (ratio(rows, stage, 'windows', 1), ratio(rows, stage, 'age', 3)) for stage in STAGES
                      if sum(row[stage] for row in rows) > 0.001 * sum(row['age'] for row in rows)}
            tables.append(Table(
                f'Critical path, {part}: {len(rows)} windows', ('stage', 'ms on the mean', 'share of the age'),
                (*((f'{stage}: {STAGES[stage]}', *values) for stage, values in stages.items()),
                 ('the caption\'s age, their sum', told[part]['age'], Value(1.0, digits=3)),
                 ('the longest stage of each window', told[part]['longest'], ratio(rows, 'longest', 'age', 3)))))
            series[part] = [point(stage, values[0]) for stage, values in stages.items()]
        part = next(iter(found))
        age, longest = told[part]['age'], told[part]['longest']
        top = sorted(series[part], key=lambda each: -each[1])[:2]
        return Outcome(
            tuple(tables), f'captions are {age} ms old on the mean ({part}); their longest stage takes {longest} ms, '
            f'so max() of the stages is {100 * (1 - longest.value / age.value):.0f}% too low.',
            HOLDS if longest.value > 0.95 * age.value else FAILS,
            f'Most of the age goes to "{top[0][0]}"' + (f' and "{top[1][0]}"' if len(top) > 1 else '') + '; `crossspec '
            'demo --trace FILE` shows it for your own machine.',
            Plot('bars', 'Where the age of a caption goes', 'ms on the mean, 95% over blocks of windows', '', series))


EXPERIMENT = Breakdown(
    name='breakdown', title='Where the time goes', source='overlapped pipelines',
    claim='what runs beside each other costs the longest stage only: age = max of the stages',
    measures='One timeline with monotonic stamps of all processes of the live graph; the critical path of each window '
             'is read from it.', lossless=False,
    full=BreakdownSettings(), quick=BreakdownSettings(**QUICK, demo_s=10.0, cores=(ALL_CORES,)))
