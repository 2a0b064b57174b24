"""`crossspec bench heads`: heads on the verifier's states against the other draft sources, alone and merged.

Each window of unseen drives is answered once by the verifier; each mixture of sources decodes it again from the record
(`bench.heads_replay`). Ages are modelled by the cost curve measured on this machine; the time of the heads' own
forwards is measured as they draft. Intervals are of a bootstrap over drives, the same drives for every row.
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from crossspec_ros.bench.decode import drafter_for, hardware
from crossspec_ros.bench.heads_replay import Recorded, Replay, Told, load_drive, record_drive, save_drive
from crossspec_ros.bench.plugged import add_sources, sources_of
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads import StateHead, load_heads
from crossspec_ros.models.targets import TransformersTarget, load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.intervals import drawn_groups, interval_95, resampled
from crossspec_ros.speculation.sources.heads import FINAL
from crossspec_ros.world import DESCRIBE, EVALUATION_SEED

if TYPE_CHECKING:
    from crossspec_ros.models.drafter import EventDrafter

_PACES = ('brisk', 'calm')
_SIZE = (240, 320)
_MERGED = ('memory', 'previous', 'drafts', 'rehearsal', 'recycling', 'prompt')


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the options of `crossspec bench heads`."""
    parser = subparsers.add_parser('heads', help='heads on the verifier\'s states against the other draft sources')
    parser.add_argument('--model', default='builtin', help='checkpoint folder, hub id or builtin (default)')
    parser.add_argument('--drafter', default='builtin', help='event drafter folder, builtin (default) or none')
    parser.add_argument('--heads', nargs='*', default=[], metavar='DIR', help='folders of heads')
    add_sources(parser)
    parser.add_argument('--windows', type=int, default=200, help='windows of each pace, default 200')
    parser.add_argument('--drive-windows', type=int, default=20, metavar='N', help='windows of a drive, default 20')
    parser.add_argument('--paces', default=','.join(_PACES), help='paces of the drives, default brisk,calm')
    parser.add_argument('--prompt', default=DESCRIBE, help='the question')
    parser.add_argument('--seed', type=int, default=EVALUATION_SEED + 2000, help='first seed of the driving world')
    parser.add_argument('--record', type=Path, metavar='DIR', help='keep the answered windows here and use them again')
    parser.add_argument('--resamples', type=int, default=2000, help='of the bootstrap over drives, default 2000')
    parser.add_argument('--device', default='cpu', help='torch device, default cpu')
    parser.add_argument('--dtype', default='float32', help='float32 (default), bfloat16 or float16')
    parser.add_argument('--threads', type=int, default=0, help='torch threads, default as torch decides')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the bench and print a table or JSON."""
    for name in ('windows', 'drive_windows', 'resamples'):
        if getattr(args, name) < 1:
            raise CrossSpecError(f'--{name.replace("_", "-")} must be >= 1, got {getattr(args, name)}')
    paces = [pace.strip() for pace in args.paces.split(',')]
    if not set(paces) <= set(_PACES):
        raise CrossSpecError(f'--paces must be among {", ".join(_PACES)}, got {args.paces}')
    sources_of(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    target = load_target(args.model, args.device, args.dtype)
    report = compare(args, target, load_heads(args.heads, target), paces)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 0


def mixtures(heads: Sequence[StateHead], with_drafter: bool, plugged: Sequence[str] = ()
             ) -> dict[str, tuple[tuple[str, ...], list[StateHead]]]:
    """Rows of the table: sources and heads of each; ``plugged``: sources of other packages."""
    alone = {'memory': ('memory',), 'rehearsal': ('rehearsal',)}
    if with_drafter:
        alone = {'event_drafter': ('drafts',)} | alone
    rows: dict[str, tuple[tuple[str, ...], list[StateHead]]] = {'none': ((), [])}
    rows |= {name: (sources, []) for name, sources in alone.items()}
    rows |= {head.name: ((), [head]) for head in heads} | {name: ((name,), []) for name in plugged}
    rows['merged'] = (_MERGED, [])
    rows |= {f'merged + {head.name}': (_MERGED, [head]) for head in heads}
    rows |= {f'merged + {name}': ((*_MERGED, name), []) for name in plugged}
    if len(heads) > 1:
        rows['merged + all heads'] = (_MERGED, list(heads))
    return rows


def compare(args: argparse.Namespace, target: TransformersTarget, heads: Sequence[StateHead],
            paces: Sequence[str]) -> dict[str, object]:
    """All rows on the same windows of each pace."""
    drafter = None if args.drafter == 'none' else drafter_for(args.drafter, target)
    layers = (*sorted({layer for head in heads for layer in head.layers} - {FINAL}), FINAL)
    engine = CaptionEngine(target)
    costs = engine.warm_up(args.prompt, *_SIZE)
    replay = Replay(target, layers, costs, encode_ms(target, args.prompt), args.prompt, *_SIZE)
    report: dict[str, object] = {
        'model': str(args.model), 'prompt': args.prompt, 'hardware': hardware(args.device), 'costs_ms': costs,
        'heads': {head.name: {'parameters': sum(weight.numel() for weight in head.parameters()),
                              'layers': list(head.layers), 'words': head.config.words} for head in heads}, 'paces': {}}
    for pace in paces:
        windows = recorded(args, target, drafter, layers, pace)
        told = {name: replay.run(sources, mixed, windows)
                for name, (sources, mixed) in mixtures(heads, drafter is not None, sources_of(args)).items()}
        report['paces'][pace] = {'windows': len(windows), 'drives': len({window.drive for window in windows}),
                                 'rows': summary(told, args.resamples)}
    return report


def encode_ms(target: TransformersTarget, prompt: str) -> float:
    """Median time of encoding what the newest frame completes; 0 where a window is encoded as a whole."""
    layout = target.layout(prompt, 8, *_SIZE)
    if not target.abilities.anticipatory:
        return 0.0
    group, times = len(layout.groups) - 1, []
    frame = np.random.default_rng(0).integers(0, 256, (*_SIZE, 3), dtype=np.uint8)
    for _ in range(5):
        start_ns = perf_counter_ns()
        target.encode(layout, group, [frame] * layout.groups[group].frames)
        times.append((perf_counter_ns() - start_ns) / 1e6)
    return median(times)


def recorded(args: argparse.Namespace, target: TransformersTarget, drafter: EventDrafter | None,
             layers: Sequence[int], pace: str) -> list[Recorded]:
    """The windows of a pace, drive after drive; from the folder of records where they are there."""
    windows: list[Recorded] = []
    key = f'{target.model_key} {",".join(map(str, layers))} {args.drafter} {args.prompt}'
    for drive in range(-(-args.windows // args.drive_windows)):
        seed, first_id = args.seed + drive, len(windows) + 1
        count = min(args.drive_windows, args.windows - len(windows))
        path = args.record / f'{pace}_{seed}_{count}.npz' if args.record else None
        if path is not None and path.is_file():
            windows += load_drive(path, key, first_id, args.prompt, target.tokenizer_key)
            continue
        found = record_drive(target, drafter, layers, seed=seed, pace=pace, windows=count, first_id=first_id,
                             prompt=args.prompt)
        if path is not None:
            save_drive(path, key, found)
        windows += found
    return windows


# -- figures -----------------------------------------------------------------------------------------------------------

def summary(told: dict[str, list[Told]], resamples: int, bases: Sequence[str] = ('merged',)
            ) -> dict[str, dict[str, object]]:
    """Tau and ages by row, with 95% intervals of a bootstrap over drives, and how far a row ``BASE + ...`` is above the
    row of its base.

    The memory fills on the first drive, which is not counted where there are others.
    """
    names = list(dict.fromkeys(one.drive for one in next(iter(told.values()))))
    drives = names[1:] or names
    draws = drawn_groups(len(drives), resamples)
    sampled = {name: resampled([[row for row in rows if row.drive == drive] for drive in drives], _figures, draws)
               for name, rows in told.items()}
    table: dict[str, dict[str, object]] = {}
    for name, rows in told.items():
        figures, drawn = _figures([row for row in rows if row.drive in drives]), sampled[name]
        table[name] = {key: {'value': round(value, 3), 'interval': _interval(drawn[key])}
                       for key, value in figures.items()}
        below = next((base for base in bases if name.startswith(f'{base} +')), None)
        if below is not None:
            base, own = _figures([row for row in told[below] if row.drive in drives]), sampled[below]
            table[name][f'over_{below}'] = {key: {'value': round(value - base[key], 3), 'interval': _interval(
                drawn[key] - own[key])} for key, value in figures.items()}
    return table


def _figures(rows: Sequence[Told]) -> dict[str, float]:
    ages = np.array([row.age_ms for row in rows])
    passes = sum(row.passes for row in rows)
    return {'tau': sum(row.tokens for row in rows) / passes, 'passes': passes / len(rows),
            'age_p50_ms': float(np.median(ages)), 'age_p99_ms': float(np.percentile(ages, 99)),
            'age_mean_ms': float(ages.mean()), 'head_ms': float(np.mean([row.head_ms for row in rows]))}


def _interval(values: np.ndarray) -> list[float]:
    return [round(value, 3) for value in interval_95(values)]


def show(report: dict[str, object]) -> None:
    """The report as tables for people."""
    console = Console()
    console.width = max(console.width, 110)
    for pace, part in report['paces'].items():
        table = Table(title=f'{pace}: {part["windows"]} windows of {part["drives"]} drives, {report["hardware"]}')
        for column in ('sources', 'tau', 'age p50, ms', 'age p99, ms', 'age over merged, ms'):
            table.add_column(column, justify='left' if column == 'sources' else 'right', no_wrap=True)
        for name, row in part['rows'].items():
            over = row.get('over_merged')
            cells = [cell(row[key], digits) for key, digits in (('tau', 2), ('age_p50_ms', 1), ('age_p99_ms', 1))]
            table.add_row(name, *cells, '' if over is None else cell(over['age_mean_ms'], 1))
        console.print(table)


def cell(figure: dict[str, object], digits: int) -> str:
    """A figure with its interval."""
    low, high = figure['interval']
    return f'{figure["value"]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})'
