"""``crossspec bench exactness``: what it costs to be certain in 16 bits.

One checkpoint three times, on the same windows: in float32, in 16 bits as it comes, and in 16 bits certified. Each
caption is decoded again plainly in the same mode, and compared with that of float32 too.
"""
from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from crossspec_ros.bench.decode import drafter_for, hardware, make_windows
from crossspec_ros.bench.decode_schemes import Outcome, Speculation, Window
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.world import DESCRIBE, EVALUATION_SEED


@dataclass
class _Mode:
    """A way to compute, and what came of it."""

    scheme: Speculation
    outcomes: list[Outcome] = field(default_factory=list)
    as_plain: int = 0

    def run(self, window: Window) -> None:
        """Caption a window, and decode it again without drafts."""
        outcome = self.scheme.run(window)
        self.outcomes.append(outcome)
        self.as_plain += self.scheme.engine.audit(window.frames, window.prompt, window.window_id) == outcome.tokens


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the options of `crossspec bench exactness`."""
    parser = subparsers.add_parser('exactness', help='the price of certified decoding in 16 bits')
    parser.add_argument('--model', default='builtin', help='checkpoint folder, hub id or builtin (default)')
    parser.add_argument('--drafter', default='builtin', help='event drafter folder, builtin (default) or none')
    parser.add_argument('--windows', type=int, default=60, help='windows to decode, default 60')
    parser.add_argument('--warm', type=int, default=20, help='windows of another drive before, not counted, default 20')
    parser.add_argument('--prompt', default=DESCRIBE, help='the question')
    parser.add_argument('--seed', type=int, default=EVALUATION_SEED, help='first seed of the driving world')
    parser.add_argument('--device', default='cpu', help='torch device, default cpu')
    parser.add_argument('--dtype', default='bfloat16', choices=('bfloat16', 'float16'), help='of 16 bits (bfloat16)')
    parser.add_argument('--block', type=int, default=EngineConfig.block, help='answer tokens of a certified forward')
    parser.add_argument('--threads', type=int, default=0, help='torch threads, default as torch decides')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the bench and print a table or JSON."""
    if args.windows < 1:
        raise CrossSpecError(f'--windows must be >= 1, got {args.windows}')
    if args.threads:
        torch.set_num_threads(args.threads)
    report = compare(args)
    print(json.dumps(report, indent=2)) if args.json else show(report)
    return 0


def compare(args: argparse.Namespace) -> dict:
    """All modes on the same windows, window by window, so that the machine's load is the same for each."""
    exact = load_target(args.model, args.device)
    short = load_target(args.model, args.device, args.dtype)
    drafter = None if args.drafter == 'none' else drafter_for(args.drafter, exact)
    sources = tuple(EngineConfig().sources)
    options = dict(rehearse=True, drafts=drafter is not None)
    modes = {'float32': _Mode(Speculation(exact, EngineConfig(), sources, **options)),
             args.dtype: _Mode(Speculation(short, EngineConfig(), sources, **options)),
             f'{args.dtype} certified': _Mode(Speculation(
                 short, EngineConfig(exactness='certified', block=args.block), sources, **options))}
    warm = make_windows(args.warm, args.seed + 10_000, 1, args.prompt, drafter)
    for mode in modes.values():
        mode.scheme.engine.warm_up(args.prompt)
        for window in track(warm, description='warm up', console=Console(stderr=True), transient=True):
            mode.scheme.run(window)
    windows = make_windows(args.windows, args.seed, args.warm + 1, args.prompt, drafter)
    for window in track(windows, description='decode', console=Console(stderr=True), transient=True):
        for mode in modes.values():
            mode.run(window)
    reference = modes['float32'].outcomes
    return {'windows': len(windows), 'model': str(args.model), 'hardware': hardware(args.device), 'block': args.block,
            'modes': {name: _summary(mode, reference) for name, mode in modes.items()}}


def _summary(mode: _Mode, reference: list[Outcome]) -> dict:
    rows = mode.outcomes
    return {'age_ms_p50': float(np.median([row.age_ms for row in rows])),
            'compute_ms': float(np.mean([row.compute_ms for row in rows])),
            'tau': sum(row.emitted for row in rows) / sum(row.passes for row in rows),
            'as_plain': mode.as_plain,
            'as_float32': sum(row.tokens == other.tokens for row, other in zip(rows, reference)),
            'near_ties': mode.scheme.engine.counters.near_ties, 'exact': mode.scheme.engine.judgeable}


def show(report: dict) -> None:
    """The report as a table for people."""
    table = Table(title=f'{report["windows"]} windows, {report["hardware"]}')
    for column in ('mode', 'age p50, ms', 'compute, ms', 'tau', 'as plain decoding', 'as float32', 'near ties',
                   'lossless'):
        table.add_column(column, justify='left' if column == 'mode' else 'right')
    for name, row in report['modes'].items():
        table.add_row(name, f'{row["age_ms_p50"]:.1f}', f'{row["compute_ms"]:.1f}', f'{row["tau"]:.2f}',
                      str(row['as_plain']), str(row['as_float32']), str(row['near_ties']),
                      'yes' if row['exact'] else 'no')
    Console().print(table)
