"""``crossspec trace``: parts of a timeline joined, and where the age of the captions went."""
from __future__ import annotations

import argparse
import json
from pathlib import Path

from crossspec_ros.tracing.summary import in_words, keep, summarise

_DESCRIPTION = """Joins what the processes of a graph have left in a folder (the launch argument `trace`, the parameter
`trace.folder`) to one timeline for ui.perfetto.dev, and tells where the age of the captions went."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = subparsers.add_parser('trace', help='join the timelines of processes, and tell where the time went',
                                   description=_DESCRIPTION)
    parser.add_argument('folder', type=Path, help='the folder with the parts; those of other hosts copied into it')
    parser.add_argument('--out', type=Path, default=Path('crossspec-trace.json'), metavar='FILE',
                        help='where to write the timeline (%(default)s)')
    parser.add_argument('--json', action='store_true', help='the figures as JSON')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Join and tell; 0."""
    summary = summarise(keep(args.folder, args.out))
    if args.json:
        print(json.dumps(summary, indent=1))
        return 0
    print('\n'.join([*in_words(summary), f'timeline: {args.out} (open it in ui.perfetto.dev)']))
    return 0
