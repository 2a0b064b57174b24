"""Early exits: the verifier's own first layers draft, with its own output matrix or a trained exit."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, IN_PART, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.intervals import point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.states import FINAL, apply_ridge, places, ridge, said_right

_CLAIM, _NORM = 1.28, 'norm'


def _figures(rows: Mapping[str, list]) -> dict[str, tuple[Value, Value, Value]]:
    """Right a token, tau and modelled speed of each exit and length, the earliest exit first."""
    return {name: (ratio(each, 'right', 'tokens', 3), ratio(each, 'tokens', 'passes'), ratio(each, 'tokens', 'cost'))
            for name, each in rows.items()}


@dataclass(frozen=True)
class EarlyExitSettings(Settings):
    """``lengths``: draft tokens of a pass."""

    lengths: tuple[int, ...] = (2, 4, 8)


@dataclass(frozen=True)
class EarlyExit(Experiment):
    """Exits after the layers whose states are kept."""

    def parts(self, settings: EarlyExitSettings) -> tuple[str, ...]:
        return settings.paces

    def measure(self, settings: EarlyExitSettings, part: str, lab: Lab) -> dict[str, Any]:
        taught, judged = places(lab, lab.taught()), places(lab, lab.windows(part))
        count = int(lab.target.adapter.text_config.num_hidden_layers)
        norm = getattr(lab.target.adapter.language_model, _NORM, torch.nn.Identity())
        rows: dict[str, list] = {}
        for layer in (each for each in lab.layers if each != FINAL):
            with torch.inference_mode():
                own = norm(judged.states[layer])
            weights = ridge(taught.states[layer], taught.states[FINAL])
            for name, states in (('as it is', own), ('trained', apply_ridge(weights, judged.states[layer]))):
                right = judged.by_window(said_right(lab, states, judged.token_ids))
                for length in settings.lengths:
                    rows[f'{layer + 1} of {count} layers, {name}, {length}'] = [
                        chain_row(drive, each.tolist(), length) | {'share': (layer + 1) / count}
                        for drive, each in zip(judged.drives, right)]
        for each in (row for found in rows.values() for row in found):
            each['cost'] = each['passes'] + each['drafted'] * each['share']
        return rows

    def conclude(self, settings: EarlyExitSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series = [], {}
        for pace, rows in found.items():
            told = _figures(rows)
            tables.append(Table(
                f'Exits, {pace}: {len(next(iter(rows.values())))} windows',
                ('exit, draft tokens a pass', 'right a token', 'tau, with the bonus', 'speed over plain decoding'),
                tuple((name, *values) for name, values in told.items()),
                'Speed: modelled; a drafted token costs the share of the layers it runs through, a pass as much as a '
                'token. As it is: the verifier\'s own norm and output matrix on the early states; trained: a linear '
                'map to the last states, by least squares, before them.'))
            series[pace] = [point(name, values[2]) for name, values in told.items()]
        told = _figures(found[settings.paces[0]])
        first = next(iter(told)).split(',')[0]
        best = {early: max((each for each in told.items() if each[0].startswith(first) == early),
                           key=lambda each: each[1][2].value) for early in (True, False)}
        (name, (_, tau, speed)), (later, (share, _, later_speed)) = best[True], best[False]
        gain = later_speed.value / speed.value
        return Outcome(tuple(tables), f'the earliest exit ({name} draft tokens) gives {tau} tokens a pass and {speed} '
                       f'times the speed of plain decoding; the best later one ({later}) is right at {share} of the '
                       f'places and {gain:.2f} times as fast as the earliest.',
                       HOLDS if gain >= _CLAIM else IN_PART if gain > 1 else FAILS,
                       'An exit drafts token by token through the verifier\'s own layers, so each drafted token costs '
                       'a share of a pass; sources that cost no forward come first.',
                       Plot('bars', 'Speed over plain decoding (modelled)', 'times', '', series, 1.0))


EXPERIMENT = EarlyExit(
    name='early_exit', title='Drafting with the verifier\'s first layers', source='HiSpec, 2510.01336',
    claim='exits at later layers are 1.28x as fast on the mean as speculation with the first layer, 2.01x at best',
    measures='Whether an early layer\'s state already says the verifier\'s token, place by place on unseen drives, and '
             'what drafting through these layers would give.',
    full=EarlyExitSettings(), quick=EarlyExitSettings(**QUICK))
