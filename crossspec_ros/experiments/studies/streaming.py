"""Rising rates of windows until some are overtaken, from measured times of each window."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, IN_PART, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.lab import Lab

_SCHEMES = {'no drafts': (), 'all sources': ('memory', 'previous', 'drafts', 'recycling')}
_LOST = 0.01


@dataclass(frozen=True)
class StreamingSettings(Settings):
    """``live`` windows of each drive are decoded; ``strides`` frames between windows of ``interval_ms`` a frame;
    ``length`` windows are played."""

    live: int = 10
    strides: tuple[int, ...] = (8, 6, 4, 3, 2, 1)
    interval_ms: float = 125.0
    length: int = 400


def played(times: Sequence[Mapping[str, float]], period_ms: float, length: int, seed: int) -> tuple[np.ndarray, int]:
    """Ages of captions and how many windows were overtaken, of windows ``period_ms`` apart on one core.

    Each takes the times of one that was measured; what may be done before its newest frame is there is done while
    nothing else is; the newest window that is there goes first, older ones are overtaken.
    """
    draw = np.random.default_rng(seed).integers(len(times), size=length)
    ages, overtaken, free_ms, number = [], 0, 0.0, 0
    while number < length:
        there = min(length - 1, int(free_ms // period_ms))
        if there > number:
            overtaken += there - number
            number = there
        due_ms, taken = number * period_ms, times[draw[number]]
        ahead = min(taken['before_ms'], max(0.0, due_ms - free_ms))
        free_ms = max(due_ms, free_ms) + taken['before_ms'] - ahead + taken['age_ms']
        ages.append(free_ms - due_ms)
        number += 1
    return np.array(ages), overtaken


@dataclass(frozen=True)
class Streaming(Experiment):
    """A scheme a part."""

    def parts(self, settings: StreamingSettings) -> tuple[str, ...]:
        return tuple(f'{pace}/{name}' for pace in settings.paces for name in _SCHEMES)

    def measure(self, settings: StreamingSettings, part: str, lab: Lab) -> dict[str, Any]:
        pace, name = part.split('/')
        told = lab.live(pace, settings.live, _SCHEMES[name], at_hand=False)
        return {'times': [{'age_ms': each.age_ms, 'before_ms': each.compute_ms - each.age_ms} for each in told]}

    def conclude(self, settings: StreamingSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, best = [], {}, {}
        for pace in settings.paces:
            rows = []
            for stride in settings.strides:
                cells = []
                for name in _SCHEMES:
                    ages, overtaken = played(found[f'{pace}/{name}']['times'], stride * settings.interval_ms,
                                             settings.length, settings.seed)
                    share = overtaken / settings.length
                    cells += [Value(float(np.median(ages)), digits=0), Value(float(np.percentile(ages, 99)), digits=0),
                              Value(100 * share, digits=0)]
                    series.setdefault(f'{name}, {pace}', []).append((stride, float(np.median(ages)), None, None))
                    if share <= _LOST:
                        best[pace, name] = 1000 / (stride * settings.interval_ms)
                rows.append((str(stride), *cells))
            tables.append(Table(f'Windows on one core, {pace}', (
                'stride, frames', *(f'{name}: {what}' for name in _SCHEMES for what in (
                    'age p50, ms', 'p99', 'overtaken, %'))), tuple(rows),
                'Times of each window are measured here, frame by frame; that windows meet on one core is modelled '
                'from them, with the newest window first.'))
        plain, ours = (best.get((settings.paces[0], name), 0.0) for name in _SCHEMES)
        said = [f'{rate:.1f} windows a second' if rate else 'none of these rates' for rate in (ours, plain)]
        return Outcome(tuple(tables), f'with all sources one core holds {said[0]} with under 1% overtaken, without '
                       f'drafts {said[1]}.', HOLDS if ours > plain else IN_PART if ours == plain else FAILS,
                       'Choose `window.stride_frames` where fewer than 1% are overtaken; the newest window always '
                       'wins, so age stays bounded beyond that.',
                       Plot('lines', 'Age of captions as windows come faster', 'frames between windows', 'age p50, ms',
                            series))


EXPERIMENT = Streaming(
    name='streaming', title='How often windows may come', source='asynchronous speculation, PipeSpec 2505.01572',
    claim='speculation sustains a higher rate at a bounded age',
    measures='The same windows with and without drafts, ever closer together: age and how many are overtaken.',
    full=StreamingSettings(), quick=StreamingSettings(**QUICK, live=2))
