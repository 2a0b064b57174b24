"""`crossspec bench fit`: what models of real shapes take on a GPU, by how their weights are kept; nothing is loaded.

Tokens are those of a window of eight frames of 640 x 480 px.
"""
from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.table import Table

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.fit import GB, Need, Serving, survey
from crossspec_ros.models.real_shapes import MODELS, class_of, empty_shapes

_TEXT = 60                                    # tokens of question, template and marks between frames, from above


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the options of `crossspec bench fit`."""
    parser = subparsers.add_parser('fit', help='memory that models of real shapes take, by how weights are kept')
    parser.add_argument('--memory', default='8,24', metavar='GB,GB', help='memory of the devices, 10^9 bytes '
                        '(%(default)s)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Count and print."""
    try:
        memories = [float(one) for one in args.memory.split(',')]
    except ValueError as error:
        raise CrossSpecError(f'--memory must be numbers with commas between them, got {args.memory!r}') from error
    found = {name: count(name) for name in MODELS if class_of(MODELS[name][0]) is not None}
    if args.json:
        print(json.dumps({name: {way: vars(one) | {'total': one.total} for way, one in ways.items()}
                          for name, ways in found.items()}, indent=2))
        return 0
    table = Table(title='GB of memory for windows of 8 frames, and the smallest device that it fits')
    for head in ('model', 'weights as', 'weights', 'all', 'fits'):
        table.add_column(head, justify='left' if head in ('model', 'weights as') else 'right')
    for name, ways in found.items():
        for way, one in ways.items():
            fits = [memory for memory in memories if one.total <= memory * GB]
            table.add_row(name, way, f'{one.weights / GB:.1f}', f'{one.total / GB:.1f}',
                          f'{min(fits):g} GB' if fits else '-')
    Console().print(table)
    return 0


def count(name: str) -> dict[str, Need]:
    """What a model takes in each way, on a GPU. Raises `CrossSpecError` where it cannot be told."""
    found = survey(empty_shapes(name), Serving(padded=True), 'cuda', MODELS[name][2] + _TEXT)
    return {way: one for way, one in found.items() if isinstance(one, Need) and way != 'float32'}
