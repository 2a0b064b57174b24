"""The process of one experiment: measures the parts that are missing, then concludes.

Started by `running` with one JSON object on its standard input; tells a JSON object a line on its standard output:
``{"part": name}`` begun, ``{"done": name}``, ``{"error": sentence}``. Interrupted, it leaves whole parts only.
"""
from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.drawing import draw
from crossspec_ros.experiments.experiment import Experiment, Settings
from crossspec_ros.experiments.folder import PLOT, RESULT, ResultFolder, write_json
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.provenance import provenance
from crossspec_ros.experiments.registry import experiments

SPENT = 'spent'


def settings_from(experiment: Experiment, told: dict[str, Any]) -> Settings:
    """Settings as JSON has them; lists are tuples again."""
    made = type(experiment.full)
    return made(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})


def measure(spec: dict[str, Any], tell: Any) -> None:
    """All parts that are missing, then the result. Raises CrossSpecError as the experiment does."""
    torch.set_num_threads(1)
    experiment = experiments()[spec['name']]
    settings = settings_from(experiment, spec['settings'])
    out = Path(spec['out'])
    folder = ResultFolder(out, experiment, settings, spec['commit'])
    lab = Lab(settings, out)
    for part in folder.missing():
        tell({'part': part})
        begun, begun_cpu = time.perf_counter(), time.process_time()
        found = experiment.measure(settings, part, lab)
        folder.keep(part, found | {SPENT: (round(time.perf_counter() - begun, 2),
                                           round(time.process_time() - begun_cpu, 2))})
        tell({'done': part})
    found = folder.found()
    seconds, cpu_s = map(sum, zip(*(part.pop(SPENT) for part in found.values())))
    outcome = experiment.conclude(settings, found)
    if outcome.plot is not None:
        draw(outcome.plot, folder.path / PLOT)
    write_json(folder.path / RESULT, {
        'name': experiment.name, 'title': experiment.title, 'source': experiment.source, 'claim': experiment.claim,
        'measures': experiment.measures, 'lossless': experiment.lossless, 'quick': spec['quick'],
        'settings': asdict(settings), 'seconds': round(seconds, 1), 'cpu_s': round(cpu_s, 1),
        'provenance': provenance(spec['command']),
        'outcome': asdict(outcome), 'parts': found})


def main() -> int:
    """Measure what standard input names; 0, or 2 after an error that a user can mend."""
    def tell(said: dict[str, str]) -> None:
        print(json.dumps(said), file=sys.__stdout__, flush=True)
    try:
        measure(json.loads(sys.stdin.read()), tell)
    except CrossSpecError as error:
        tell({'error': str(error)})
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
