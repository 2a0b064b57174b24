"""Ablations: what each choice of the live path is worth, on recorded windows."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from crossspec_ros.bench.drafts import Drawer, Shape
from crossspec_ros.bench.heads_replay import Recorded, Replay
from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, IN_PART, QUICK, Experiment, Outcome, Plot, Settings, Table)
from crossspec_ros.experiments.intervals import over, point, ratio, statistic
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.speculation.settings import EngineConfig

_ALL = ('memory', 'previous', 'drafts', 'rehearsal', 'recycling')
_DRAFTS = ('drafts',)
_SIZES = (2, 4, 8, 16, 32, 64)
_CUTS = (0.5, 0.7, 0.9)
_BASE, _ALONE = 'as shipped', 'drafts alone: as shipped'

Run = Callable[[Lab, str], list[dict[str, Any]]]


def _with(lab: Lab, pace: str, names: Sequence[str], windows: Sequence[Recorded] | None = None,
          drawer: Drawer | None = None, replay: Replay | None = None, redrafts: bool = True) -> list[dict[str, Any]]:
    """Rows of a mixture; windows, drafter and engine as given, else as shipped."""
    shipped, recorded = lab.drawer(pace)
    replay, drawer = replay or lab.replay, drawer or shipped
    told = replay.run(names, (), recorded if windows is None else windows, drawer.again().redraft if redrafts else None)
    first = told[0].drive
    return [asdict(one) | {'drafted': sum(one.trees)} for one in told if one.drive != first] or list(map(asdict, told))


def _sized(nodes: int) -> Run:
    return lambda lab, pace: _with(lab, pace, _ALL, replay=lab.replay_as(EngineConfig(max_nodes=nodes,
                                                                                     first_nodes=nodes)))


def _without(name: str) -> Run:
    return lambda lab, pace: _with(lab, pace, tuple(source for source in _ALL if source != name))


def _cut(share: float) -> Run:
    """Drafts that end where the drafter believes less than this in the whole path."""
    def run(lab: Lab, pace: str) -> list[dict[str, Any]]:
        seen = lab.windows(pace)
        drawer = Drawer(lab.drafter, Shape(cut=share), lab.settings.prompt,
                        {each.window.window_id: each.looks for each in seen})
        return _with(lab, pace, _DRAFTS, [drawer.window(each.window) for each in seen], drawer)
    return run


def _changed(change: Callable[[Recorded], Recorded], redrafts: bool = True) -> Run:
    return lambda lab, pace: _with(lab, pace, _DRAFTS, [change(window) for window in lab.drawer(pace)[1]],
                                   redrafts=redrafts)


def _one_core(lab: Lab, pace: str) -> list[dict[str, Any]]:
    """Drafter and verifier on one core: the whole draft is made before the verifier goes on."""
    windows = {window.window_id: window for window in lab.drawer(pace)[1]}
    rows = _with(lab, pace, _DRAFTS, [replace(window, early=window.late) for window in windows.values()])
    spent = [windows[number].late.compute_ms for number in sorted(windows)][-len(rows):]
    return [row | {'age_ms': row['age_ms'] + spent_ms} for row, spent_ms in zip(rows, spent)]


_LATE = 1e9                             # a draft that comes after everything
GROUPS: dict[str, dict[str, Run]] = {
    'what is left out': {_BASE: lambda lab, pace: _with(lab, pace, _ALL), **{
        f'without {name}': _without(name) for name in _ALL}},
    'nodes of a pass at most': {f'{nodes} nodes': _sized(nodes) for nodes in _SIZES},
    'when drafts come': {
        _ALONE: lambda lab, pace: _with(lab, pace, _DRAFTS),
        'drafts alone: the early draft only': _changed(lambda window: replace(
            window, late=replace(window.late, compute_ms=_LATE)), redrafts=False),
        'drafts alone: the late draft only': _changed(lambda window: replace(window, early=replace(
            window.early, token_ids=(), weights=()))),
        'drafts alone: none after a verdict': _changed(lambda window: window, redrafts=False),
        'drafts alone: before, on the verifier\'s core': _one_core},
    'where a draft ends': {f'drafts alone: cut at {share:g}': _cut(share) for share in _CUTS}}


@dataclass(frozen=True)
class Ablations(Experiment):
    """A variation a part."""

    def parts(self, settings: Settings) -> tuple[str, ...]:
        return tuple(f'{pace}/{name}' for pace in settings.paces for group in GROUPS.values() for name in group)

    def measure(self, settings: Settings, part: str, lab: Lab) -> dict[str, Any]:
        pace, name = part.split('/')
        run = next(group[name] for group in GROUPS.values() if name in group)
        return {'rows': [{key: value for key, value in row.items() if key != 'trees'} for row in run(lab, pace)]}

    def conclude(self, settings: Settings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series = [], {}
        for pace in settings.paces:
            series[pace] = []
            for title, group in GROUPS.items():
                rows = {name: found[f'{pace}/{name}']['rows'] for name in group}
                alone = next(iter(group)).startswith('drafts alone')
                base = found[f'{pace}/{_ALONE if alone else _BASE}']['rows']
                told = {name: (ratio(each, 'tokens', 'passes'), over(each, base, 'tokens', 'passes'),
                               statistic(each, 'age_ms', digits=0)) for name, each in rows.items()}
                tables.append(Table(f'{title[0].upper()}{title[1:]}, {pace}',
                                    ('variation', 'tau, with the bonus', f'over {_ALONE if alone else _BASE}',
                                     'age here, ms'), tuple((name, *values) for name, values in told.items())))
                series[pace] += [point(name, values[0]) for name, values in told.items()]
        pace = settings.paces[0]
        rows = {name: found[f'{pace}/{name}']['rows'] for group in GROUPS.values() for name in group}
        losses = {name: over(rows[f'without {name}'], rows[_BASE], 'tokens', 'passes') for name in _ALL}
        most = min(losses, key=lambda name: losses[name].value)
        cut = [over(rows[f'drafts alone: cut at {share:g}'], rows[_ALONE], 'tokens', 'passes') for share in _CUTS]
        larger = ratio(rows['64 nodes'], 'tokens', 'passes').value > ratio(rows['8 nodes'], 'tokens', 'passes').value
        helps = any((gain.low or gain.value) > 0 for gain in cut)
        return Outcome(
            tuple(tables), f'leaving out {most} costs most ({losses[most]} tokens a pass); '
            f'{"larger trees go on to help up to 64 nodes" if larger else "trees beyond 8 nodes do not help"}; ending '
            f'drafts where the drafter doubts {"helps" if helps else "does not help"} ({cut[0]} at 0.5, {cut[-1]} at '
            f'0.9).', HOLDS if helps else IN_PART if larger else FAILS,
            'Keep the sources and sizes as shipped; the tree is cut by measured cost, so thresholds of one\'s own are '
            'not needed.', Plot('bars', 'Tokens a pass by variation', 'tokens a pass, 95% over drives', '', series))


EXPERIMENT = Ablations(
    name='ablations', title='What each choice is worth',
    source='OPT-Tree 2406.17276, PEARL 2408.11850, thresholds .5-.9',
    claim='longer drafts and confidence thresholds pay; drafts beside the verifier beat drafts before it',
    measures='Sources left out, trees of 2 to 64 nodes, drafts early, late, before and beside the verifier, and drafts '
             'that end where the drafter doubts, on the same recorded windows.', quick=Settings(**QUICK))
