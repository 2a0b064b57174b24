"""``crossspec bench view``: what the live view costs the graph: caption ages of demos with and without it, in turns."""
from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from crossspec_ros.demo.options import DemoOptions, check
from crossspec_ros.demo.orchestrate import run_demo

_NAMES = {False: 'without', True: 'with'}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the bench."""
    parser = subparsers.add_parser('view', help='what the live view costs the graph')
    parser.add_argument('--seconds', type=float, default=60.0, help='length of each demo (%(default)s)')
    parser.add_argument('--runs', type=int, default=2, help='demos of each kind, in turns (%(default)s)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run)


def measure(seconds: float, runs: int) -> list[dict[str, Any]]:
    """A row a demo; which kind comes first changes from one pair to the next, so that drift takes no side."""
    rows = []
    for turn in range(runs):
        for view in ((False, True) if turn % 2 == 0 else (True, False)):
            with tempfile.TemporaryDirectory(prefix='crossspec-bench-') as folder:
                options = DemoOptions(out=Path(folder), seconds=seconds, view=0 if view else None)
                report = run_demo(options, check(options), screen=sys.stderr)
            ages = report['caption_age_ms']
            rows.append({'view': _NAMES[view], 'windows': report['windows'], 'captions': report['captions'],
                         'caption_age_p50_ms': ages['p50'], 'caption_age_p99_ms': ages['p99'],
                         'draft_age_p50_ms': report['draft_age_ms']['p50'],
                         'viewer_mb': report['rss_mb'].get('viewer'), 'viewer_cpu_s': report['cpu_s'].get('viewer')})
    return rows


def ratio(rows: list[dict[str, Any]]) -> float | None:
    """Median caption age p50 with the view over that without; None where one of them has none."""
    medians = []
    for name in ('with', 'without'):
        ages = [row['caption_age_p50_ms'] for row in rows if row['view'] == name]
        if not ages or None in ages:
            return None
        medians.append(statistics.median(ages))
    return medians[0] / medians[1]


def run(args: argparse.Namespace) -> int:
    """Print a row a demo, and the ratio."""
    rows = measure(args.seconds, args.runs)
    if args.json:
        print(json.dumps({'rows': rows, 'ratio': ratio(rows)}, indent=1))
        return 0
    columns = list(rows[0])
    print('  '.join(columns))
    for row in rows:
        print('  '.join(f'{row[name]!s:>{len(name)}}' for name in columns))
    found = ratio(rows)
    print('caption age p50 with the view over that without: ' + ('unknown' if found is None else f'{found:.3f}'))
    return 0
