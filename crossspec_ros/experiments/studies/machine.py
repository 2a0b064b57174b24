"""How busy the processes of the graph are, and what lies idle between forwards."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.experiment import FAILS, HOLDS, QUICK, Outcome, Plot, Table, Value
from crossspec_ros.experiments.intervals import point, ratio, statistic
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.live_graph import timeline_of
from crossspec_ros.experiments.studies.breakdown import Breakdown, BreakdownSettings
from crossspec_ros.tracing.timeline import Timeline

_FORWARDS = {'verifier': ('encode', 'prefill', 'verify'), 'drafter': ('draft forward', 'draft prefill')}
_SECOND_US = 1e6
_CLAIM = 0.9
Span = tuple[float, float]


def spans(timeline: Timeline, process: str, names: Iterable[str]) -> list[Span]:
    """When a process was in one of these slices, us; joined where they meet or overlap."""
    pids = {event['pid'] for event in timeline.events if event['ph'] == 'M' and event['name'] == 'process_name'
            and event['args']['name'].rsplit('/', 1)[-1] == process}
    found = sorted((event['ts'], event['ts'] + event['dur']) for name in names for event in timeline.slices(name)
                   if event['pid'] in pids)
    joined: list[Span] = []
    for start, end in found:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def within(busy: Sequence[Span], start: float, end: float) -> float:
    """How much of a stretch they take, us."""
    return sum(max(0.0, min(end, stop) - max(start, begin)) for begin, stop in busy)


@dataclass(frozen=True)
class Machine(Breakdown):
    """As `Breakdown`, whose timelines it shares."""

    def measure(self, settings: BreakdownSettings, part: str, lab: Lab) -> dict[str, Any]:
        timeline = timeline_of(lab, part, settings.demo_s)
        busy = {process: spans(timeline, process, names) for process, names in _FORWARDS.items()}
        if not busy['verifier']:
            raise CrossSpecError('the timeline must hold forwards of the verifier, it has none: run the graph for '
                                 'longer')
        first, last = busy['verifier'][0][0], busy['verifier'][-1][1]
        both = [(max(a, c), min(b, d)) for a, b in busy['verifier'] for c, d in busy['drafter']
                if max(a, c) < min(b, d)]
        seconds = np.arange(first, max(last, first + _SECOND_US), _SECOND_US)
        return {'seconds': [{'wall': _SECOND_US / 1000, 'both': within(both, at, at + _SECOND_US) / 1000,
                             **{process: within(each, at, at + _SECOND_US) / 1000 for process, each in busy.items()}}
                            for at in seconds[:-1] if len(seconds) > 1] or [
                                {'wall': (last - first) / 1000, 'both': within(both, first, last) / 1000,
                                 **{process: within(each, first, last) / 1000 for process, each in busy.items()}}],
                'gaps_ms': {process: [(after[0] - before[1]) / 1000 for before, after in pairwise(each)]
                            for process, each in busy.items()}}

    def conclude(self, settings: BreakdownSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, shares = [], {}, {}
        for part, each in found.items():
            rows = [{'drive': str(place // 2), **second} for place, second in enumerate(each['seconds'])]
            told = []
            for process in _FORWARDS:
                gaps = each['gaps_ms'][process]
                shares[part, process] = ratio(rows, process, 'wall')
                told.append((process, shares[part, process], Value(float(len(gaps) + 1), digits=0),
                             *(Value(float(np.percentile(gaps, share)), digits=1) if gaps else None
                               for share in (50, 95))))
            told.append(('both at once', ratio(rows, 'both', 'wall'), None, None, None))
            tables.append(Table(f'Forwards, {part}: {len(rows)} seconds', (
                'process', 'share of time in forwards', 'stretches of forwards', 'idle between them p50, ms',
                'p95, ms'),
                tuple(told)))
            series[part] = [point(process, shares[part, process]) for process in _FORWARDS]
        part = next(iter(found))
        verifier = shares[part, 'verifier']
        gap = statistic([{'drive': str(place // 8), 'gap': gap} for place, gap in enumerate(
            found[part]['gaps_ms']['verifier'])] or [{'drive': '0', 'gap': 0.0}], 'gap')
        return Outcome(
            tuple(tables), f'the verifier is in forwards {verifier} of the time and the drafter '
            f'{shares[part, "drafter"]} ({part}); between two stretches of forwards the verifier is idle for {gap} ms '
            '(median).', HOLDS if verifier.value >= _CLAIM else FAILS,
            'A live stream leaves the verifier idle between windows: that is where prefilling ahead and rehearsals '
            'fit; a busier machine needs a larger stride, not more drafts.',
            Plot('bars', 'Share of time in forwards', 'share, 95% over seconds', '', series))


EXPERIMENT = Machine(
    name='machine', title='Use of the machine', source='pipelined speculation, PipeSpec 2505.01572',
    claim='the verifier is kept busy: hardly anything is idle between forwards',
    measures='From the timeline of the live graph: share of time in forwards of each process, idle time between them, '
             'and how much both do at once.', lossless=False,
    full=BreakdownSettings(), quick=BreakdownSettings(**QUICK, demo_s=10.0, cores=('all cores',)))
