"""``crossspec eval pair``: what the pair sees, on drives it has never been trained on."""
from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

from crossspec_ros.errors import CrossSpecError

_WINDOWS = 200


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``crossspec eval pair`` with its options."""
    parser = subparsers.add_parser('eval', help='what the built-in pair sees, on scenes it has never seen')
    what = parser.add_subparsers(dest='what', metavar='WHAT', required=True)
    pair = what.add_parser('pair', help='slots, texts, tau, acceptance, sizes and speed on unseen seeds')
    pair.add_argument('--dir', type=Path, metavar='DIR',
                      help='a folder with verifier/ and drafter/; default: the built-in pair')
    pair.add_argument('--windows', type=int, default=_WINDOWS, help=f'windows of one second (default {_WINDOWS})')
    pair.add_argument('--seed', type=int, help='first seed; unseen ones begin at 1,000,000 (the default)')
    pair.add_argument('--pace', choices=('brisk', 'calm'), default='brisk', help='how often the scene changes')
    pair.add_argument('--nodes', type=int, default=48, help='draft tokens a target pass may check (default 48)')
    pair.add_argument('--alternatives', type=int, default=0,
                      help='tokens of second choices that the event drafter offers beside its likeliest words')
    pair.add_argument('--threads', type=int, default=1)
    pair.add_argument('--pictures', type=Path, metavar='DIR', help='draw samples and acceptance into this folder')
    pair.add_argument('--json', action='store_true', help='everything as JSON on stdout')
    pair.set_defaults(func=run)


def format_report(report: Mapping[str, object]) -> str:
    """The figures as tables a person reads."""
    lines = [f'{report["windows"]} windows of seeds {report["seeds"][0]} to {report["seeds"][-1]}', '',
             f'{"slot":<10}{"verifier":>10}{"drafter":>10}{"commonest":>11}{"previous":>10}']
    for name, row in [*report['slots'].items(), ('mean', report['slot_accuracy'])]:
        lines.append(f'{name:<10}' + ''.join(f'{100 * row[who]:>{width}.1f}' for who, width in (
            ('verifier', 10), ('drafter', 10), ('commonest', 11), ('previous', 10))))
    lines += ['', f'{"tau":<16}{"all":>8}{"scene changes":>16}']
    for name, value in report['tau'].items():
        lines.append(f'{name:<16}{value:>8.2f}{report["tau_at_scene_changes"][name] or float("nan"):>16.2f}')
    for title in ('blind_colour', 'text', 'changes', 'parameters', 'speed'):
        lines += ['', title] + [f'  {name:<28}{value}' for name, value in report[title].items()]
    return '\n'.join(lines)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; returns the exit code."""
    if args.threads < 1 or args.nodes < 1 or args.alternatives < 0:
        raise CrossSpecError('--threads and --nodes must be >= 1 and --alternatives >= 0, '
                             f'got {args.threads}, {args.nodes} and {args.alternatives}')
    os.environ.setdefault('OMP_NUM_THREADS', str(args.threads))
    import torch

    from crossspec_ros.world import EVALUATION_SEED
    from crossspec_ros.train.evaluation import Pair, evaluate, evaluated_windows
    torch.set_num_threads(args.threads)
    seed = EVALUATION_SEED if args.seed is None else args.seed
    pair = Pair.load(args.dir / 'verifier' if args.dir else 'builtin', args.dir / 'drafter' if args.dir else 'builtin')
    windows = evaluated_windows(pair, args.windows, seed, args.pace)
    report = evaluate(pair, windows, max_nodes=args.nodes, alternatives=args.alternatives) | {'pace': args.pace}
    if args.pictures is not None:
        from crossspec_ros.train.pictures import draw_acceptance, draw_samples
        draw_samples(windows, args.pictures / 'pair_samples.png')
        draw_acceptance(report, args.pictures / 'pair_acceptance.png')
    print(json.dumps(report) if args.json else format_report(report))
    return 0
