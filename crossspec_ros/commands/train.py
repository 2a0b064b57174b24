"""``crossspec train``: make the built-in pair again, or another one, from nothing but a seed; heads for a verifier."""
from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from crossspec_ros.cores import cores
from crossspec_ros.errors import CrossSpecError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``crossspec train pair``, ``drafter`` and ``heads`` with their options."""
    parser = subparsers.add_parser('train', help='train the built-in pair')
    what = parser.add_subparsers(dest='what', metavar='WHAT', required=True)
    for name, text in (('pair', 'verifier and drafter, from rendering the clips to both checkpoints'),
                       ('drafter', 'only the drafter, on the verifier of an earlier run in --out')):
        one = what.add_parser(name, help=text, description=text)
        one.add_argument('--out', type=Path, default=Path('crossspec-pair'), metavar='DIR',
                         help='where everything goes')
        length = one.add_mutually_exclusive_group()
        length.add_argument('--steps', type=int, help='of all stages together (default 7000: 50 minutes of training '
                                                      'on two cores, 20 more for clips, features and answers)')
        length.add_argument('--minutes', type=float, help='instead of steps; where that ends is the clock\'s, so two '
                                                          'runs differ')
        one.add_argument('--seed', type=int, default=0)
        one.add_argument('--drives', type=int, default=300,
                         help='brisk drives of 24 clips to render, and half as many calm ones (default 300)')
        one.add_argument('--answered', type=int, default=5000,
                         help='clips on which the drafter copies the verifier (default 5000)')
        one.add_argument('--workers', type=int, default=cores(), help='processes that render')
        one.add_argument('--processes', type=int, default=min(8, cores()),
                         help='processes that train together, one thread each (default: one a core)')
        one.add_argument('--threads', type=int, default=cores(),
                         help='threads that train, if one process does')
        one.add_argument('--stage', action='append', metavar='STAGE', help='run only this stage (may be repeated)')
        one.add_argument('--init', type=Path, metavar='DIR', help='begin with the weights of this earlier run')
        one.add_argument('--resume', action='store_true', help='go on where an interrupted run stopped')
        one.set_defaults(func=run)
    _add_heads(what)


def _add_heads(what: argparse._SubParsersAction) -> None:
    text = 'heads that draft from a verifier\'s states, on its answers to drives of the driving world'
    heads = what.add_parser('heads', help=text, description=text)
    heads.add_argument('--model', default='builtin', help='checkpoint folder, hub id or builtin (default)')
    heads.add_argument('--out', type=Path, default=Path('crossspec-heads'), metavar='DIR', help='where everything goes')
    heads.add_argument('--kinds', default='eagle1,eagle3,medusa,block', help='which, default all four')
    heads.add_argument('--windows', type=int, default=1000, help='windows that the verifier answers (default 1000)')
    length = heads.add_mutually_exclusive_group()
    length.add_argument('--steps', type=int, help='of each head (default 600)')
    length.add_argument('--minutes', type=float, help='of each head, instead of steps')
    heads.add_argument('--batch', type=int, default=16, help='answers of a step (default 16)')
    heads.add_argument('--seed', type=int, default=0)
    heads.add_argument('--threads', type=int, default=1, help='torch threads (default 1)')
    heads.add_argument('--device', default='cpu', help='torch device, default cpu')
    heads.add_argument('--dtype', default='float32', help='type of the verifier: float32 (default), bfloat16, float16')
    heads.add_argument('--resume', action='store_true', help='go on where an interrupted run stopped')
    heads.set_defaults(func=run_heads)


def run_heads(args: argparse.Namespace) -> int:
    """Collect answers and train heads; returns the exit code."""
    from crossspec_ros.models.heads import KINDS
    kinds = [kind.strip() for kind in args.kinds.split(',') if kind.strip()]
    if not kinds or not set(kinds) <= set(KINDS):
        raise CrossSpecError(f'--kinds must be among {", ".join(KINDS)}, got {args.kinds!r}')
    for name in ('windows', 'threads', 'batch'):
        if getattr(args, name) < 1:
            raise CrossSpecError(f'--{name} must be >= 1, got {getattr(args, name)}')
    import torch

    from crossspec_ros.train.head_recipe import make_heads
    torch.set_num_threads(args.threads)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', datefmt='%H:%M:%S')
    steps = 600 if args.steps is None and args.minutes is None else args.steps
    for folder in make_heads(args.model, args.out, kinds, windows=args.windows, steps=steps, minutes=args.minutes,
                             batch=args.batch, seed=args.seed, device=args.device, dtype=args.dtype,
                             resume=args.resume):
        print(f'Done: {folder}')
    print('Measure them with `crossspec bench heads --heads DIR...`, drive with `model.heads` of the verifier.')
    return 0


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    for name in ('threads', 'workers', 'processes'):
        if getattr(args, name) < 1:
            raise CrossSpecError(f'--{name} must be >= 1, got {getattr(args, name)}')
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')           # spinning threads starve the workers beside them
    import torch

    from crossspec_ros.train.recipe import STAGES, Recipe, RecipeConfig
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', datefmt='%H:%M:%S')
    torch.set_num_threads(args.threads)
    chosen = tuple(args.stage) if args.stage else STAGES if args.what == 'pair' else STAGES[-2:]
    config = RecipeConfig(minutes=args.minutes, steps=args.steps, seed=args.seed, drives=args.drives,
                          answered=args.answered, workers=args.workers, processes=args.processes, init=args.init)
    Recipe(args.out, config, args.resume).run(chosen)
    print(f'Done: {args.out}/verifier and {args.out}/drafter; logs and curves beside them. '
          f'Look at them with `crossspec eval pair --dir {args.out}`.')
    return 0
