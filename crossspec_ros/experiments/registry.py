"""Which experiments there are: every module of `studies` has one."""
from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Sequence

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments import studies
from crossspec_ros.experiments.experiment import Experiment

ALL = 'all'


def experiments() -> dict[str, Experiment]:
    """All experiments by name, in the order of their modules' names."""
    found = {}
    for module in sorted(pkgutil.iter_modules(studies.__path__), key=lambda each: each.name):
        experiment = importlib.import_module(f'{studies.__name__}.{module.name}').EXPERIMENT
        assert experiment.name not in found, f'two experiments are named {experiment.name}'
        found[experiment.name] = experiment
    return found


def chosen(names: Sequence[str]) -> dict[str, Experiment]:
    """Those of these names; all for none or 'all'. Raises CrossSpecError for an unknown one, with the nearest."""
    known = experiments()
    if not names or ALL in names:
        return known
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f'; did you mean {" or ".join(near)}?' if near else f': one of {", ".join(known)}'
            raise CrossSpecError(f'there is no experiment {name!r}{hint}')
    return {name: known[name] for name in dict.fromkeys(names)}
