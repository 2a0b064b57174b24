"""Runs experiments, each in a process of its own, and goes on where one was stopped."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossspec_ros import children
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.experiment import Experiment, Settings
from crossspec_ros.experiments.folder import RESULT, ResultFolder, read_json
from crossspec_ros.experiments.provenance import commit
from crossspec_ros.resources import python_path

LOG = 'log.txt'
_END_S = 6.0
_TAIL = 600

Bars = Callable[[str, float | None, str], AbstractContextManager[Callable[[float], None]]]
"""(text, total, unit) -> a context that gives a call which advances the bar."""


def run_experiment(experiment: Experiment, settings: Settings, out: Path, *, quick: bool, command: Sequence[str],
                   bars: Bars) -> dict[str, Any]:
    """The result; measured only where it is not there yet.

    Raises CrossSpecError for a folder of other results, for what the experiment refuses, and where its process fails.
    """
    folder = ResultFolder(out, experiment, settings, commit())
    folder.claim()
    if not folder.done:
        missing = folder.missing()
        with bars(experiment.name, len(missing) + 1, 'parts') as advance:
            for said in _child(folder, quick, command):
                if 'done' in said:
                    advance(1)
    return read_json(folder.path / RESULT)


def _child(folder: ResultFolder, quick: bool, command: Sequence[str]) -> Iterator[dict[str, str]]:
    """What the experiment's process says, until it has ended well."""
    name, log = folder.experiment.name, folder.path / LOG
    spec = {'name': name, 'settings': asdict(folder.settings), 'out': str(folder.path.parent.resolve()),
            'quick': quick, 'command': list(command), 'commit': commit()}
    environment = {**os.environ, 'PYTHONPATH': python_path(os.environ.get('PYTHONPATH', '')), 'COLUMNS': '100'}
    with log.open('w', encoding='utf-8') as errors:
        process = children.start([sys.executable, '-m', 'crossspec_ros.experiments.process'], environment,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        error = ''
        try:
            process.stdin.write(json.dumps(spec))
            process.stdin.close()
            for line in process.stdout:
                said = _said(line)
                error = said.get('error', error)
                yield said
            process.wait()
        finally:
            children.end([process], _END_S)
            process.stdout.close()
    if error:
        raise CrossSpecError(f'{name}: {error}')
    if process.returncode:
        tail = log.read_text(encoding='utf-8', errors='replace')[-_TAIL:].strip().splitlines()
        raise CrossSpecError(f'the process of the experiment {name} ended with {process.returncode}: '
                             f'{tail[-1] if tail else "it said nothing"} (all of it in {log}); finished parts are '
                             'kept, run it again to go on')


def _said(line: str) -> dict[str, str]:
    """A line of the protocol; what a library prints is nothing to us."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
