"""Critical paths in numbers: by window, by stage, and of the windows that stand for p50 and p99."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.tracing.path import STAGES, WindowPath, critical_paths, track
from crossspec_ros.tracing.timeline import PARTS, join, read_parts, write


def parts_of(path: str | Path) -> Path:
    """The folder beside a timeline's file in which processes leave their parts."""
    return Path(f'{path}.parts').resolve()


def begin(folder: Path) -> None:
    """Make a folder for parts, without those of an earlier timeline. Raises CrossSpecError where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob(PARTS):
            part.unlink()
    except OSError as error:
        raise CrossSpecError(f'trace must be a file in a folder that can be written, got {folder.parent}: '
                             f'{error.strerror}') from error


def end(folder: Path, path: str | Path) -> list[WindowPath]:
    """`keep` what `begin` has prepared, and remove the parts; they stay where that fails. Raises CrossSpecError."""
    paths = keep(folder, path)
    for part in folder.glob(PARTS):
        part.unlink(missing_ok=True)
    with suppress(OSError):                                     # something else lies in it
        folder.rmdir()
    return paths


def keep(folder: str | Path, path: str | Path) -> list[WindowPath]:
    """Join the parts in a folder to one timeline in a file, with the critical paths on top; returns these.

    Raises CrossSpecError where there are no parts or the file cannot be written.
    """
    timeline = join(read_parts(folder))
    paths = critical_paths(timeline)
    timeline.events += track(timeline, paths)
    write(timeline, path)
    return paths


def summarise(paths: Sequence[WindowPath]) -> dict[str, Any]:
    """``windows``: age, passes and stages (ms) of each. ``by_stage``: p50, p99 and the share of all age.

    ``bars``: mean stages of the windows around a percentile of age: p50, the fifth in the middle; p99, the slowest of a
    hundred, one at least. A percentile of each stage would not add up to an age; these do.
    """
    times = [path.stage_ms() for path in paths]
    windows = [{'window_id': path.window_id, 'age_ms': round(path.age_ms, 2), 'passes': path.passes,
                'monitor_ms': None if path.monitor_ms is None else round(path.monitor_ms, 2),
                'stage_ms': _rounded(stage_ms)} for path, stage_ms in zip(paths, times)]
    if not paths:
        return {'windows': [], 'by_stage': {}, 'bars': {}, 'monitor_ms': None}
    table = np.array([[stage_ms[stage] for stage in STAGES] for stage_ms in times])       # (windows, stages)
    ages = table.sum(1)
    order, count = np.argsort(ages), len(ages)
    middle = order[int(0.4 * count):max(int(0.4 * count) + 1, round(0.6 * count))]
    slowest = order[min(count - 1, int(0.99 * count)):]
    bars = {name: {'windows': len(chosen), 'age_ms': round(float(ages[chosen].mean()), 2),
                   'stage_ms': _rounded(dict(zip(STAGES, table[chosen].mean(0).tolist())))}
            for name, chosen in (('p50', middle), ('p99', slowest))}
    by_stage = {stage: {'p50': round(float(np.percentile(column, 50)), 2),
                        'p99': round(float(np.percentile(column, 99)), 2),
                        'share': round(float(column.sum() / ages.sum()), 4)}
                for stage, column in zip(STAGES, table.T) if column.max() >= 0.005}
    heard = [path.monitor_ms for path in paths if path.monitor_ms is not None]
    return {'windows': windows, 'by_stage': by_stage, 'bars': bars,
            'monitor_ms': round(float(np.median(heard)), 2) if heard else None}


def _rounded(stage_ms: dict[str, float]) -> dict[str, float]:
    return {stage: round(value, 2) for stage, value in stage_ms.items() if value >= 0.005}


def in_words(summary: dict[str, Any]) -> list[str]:
    """Where the age went, in lines for a terminal."""
    if not summary['windows']:
        return ['no window with a caption is in this trace']
    bars = summary['bars']
    lines = [f'{len(summary["windows"])} captions; ms by stage of the window at p50 and at p99',
             f'{"age":<14}' + ''.join(f'{bars[name]["age_ms"]:>9.1f}' for name in ('p50', 'p99'))]
    lines += [f'{stage:<14}' + ''.join(f'{bars[name]["stage_ms"].get(stage, 0.0):>9.1f}' for name in ('p50', 'p99'))
              for stage in summary['by_stage']
              if any(bars[name]['stage_ms'].get(stage, 0.0) >= 0.05 for name in ('p50', 'p99'))]
    return lines
