"""Timelines of the whole graph for experiments: one that is given, or that of a demo."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from crossspec_ros import children
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.experiment import Settings
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.resources import python_path
from crossspec_ros.tracing.timeline import Timeline, join, read_parts

GIVEN, ALL_CORES, ONE_CORE = 'the timeline given', 'all cores', 'one core'
_STARTING_S = 240.0
_END_S = 8.0


def timeline_of(lab: Lab, kind: str, seconds: float) -> Timeline:
    """``GIVEN``: of --timeline; else of a demo of so many seconds on these cores, kept beside the records.

    Raises CrossSpecError where there is none, or the demo fails.
    """
    if kind == GIVEN:
        return join(read_parts(lab.settings.timeline))
    path = lab.records / f'timeline_{kind.replace(" ", "_")}_{seconds:g}.json'
    if not path.is_file():
        _demo(path, kind, seconds, lab.settings)
    try:
        return Timeline(json.loads(path.read_text(encoding='utf-8'))['traceEvents'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CrossSpecError(f'{path} cannot be read ({error}): delete it, and run the experiment again') from error


def _demo(path: Path, kind: str, seconds: float, settings: Settings) -> None:
    work = path.with_suffix('.demo')
    command = [sys.executable, '-m', 'crossspec_ros.cli', 'demo', '--seconds', f'{seconds:g}', '--out', str(work),
               '--trace', str(path), '--verifier', settings.model, '--drafter', settings.drafter]
    command = [*_pinned(kind), *command]
    environment = {**os.environ, 'PYTHONPATH': python_path(os.environ.get('PYTHONPATH', ''))}
    path.parent.mkdir(parents=True, exist_ok=True)
    process = children.start(command, environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate(timeout=_STARTING_S + 4 * seconds)
    except subprocess.TimeoutExpired:
        raise CrossSpecError(f'the demo was not done within {_STARTING_S + 4 * seconds:.0f} s: run it when the machine '
                             'has time, or name a timeline with --timeline') from None
    finally:
        children.end([process], _END_S)
        shutil.rmtree(work, ignore_errors=True)
    if not path.is_file():
        last = (said or '').strip().splitlines()
        raise CrossSpecError(f'the demo left no timeline: {last[-1] if last else "it said nothing"}')


def _pinned(kind: str) -> Sequence[str]:
    """What confines a command to one core. Raises CrossSpecError where this system has no such command."""
    if kind == ALL_CORES:
        return ()
    if shutil.which('taskset') is None:
        raise CrossSpecError('one core needs the command taskset, which is not here: install util-linux')
    return ('taskset', '-c', str(min(os.sched_getaffinity(0))))
