"""Settings of seconds for any experiment."""
from __future__ import annotations

from dataclasses import fields, replace

from crossspec_ros.experiments.experiment import Experiment, Settings

TINY = dict(paces=('brisk',), drives=2, windows=2, taught=2, steps=2, seeds=1, live=1, pairs=2, rounds=1, warm=0,
            frames=(1, 2), answer=6, side=28, live_temperatures=(1.0,), kept=(4,))


def tiny(experiment: Experiment, pair) -> Settings:
    """Its quick settings, smaller still, with the tiny pair."""
    own = {item.name for item in fields(experiment.quick)}
    return replace(experiment.quick, model=str(pair[0]), drafter=str(pair[1]),
                   **{name: value for name, value in TINY.items() if name in own})
