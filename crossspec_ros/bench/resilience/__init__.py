"""``crossspec bench resilience``: the graph killed, frozen, lied to and starved; what is lost, wrong, and for how long.

For each trial: what the cameras sent, what was received, used, dropped and lost by cause, what has no cause
(``unaccounted``), captions that the model alone does not say (``wrong``), and the time to the next caption.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from crossspec_ros.errors import CrossSpecError

TRIALS = ('kills', 'steady', 'jumps', 'loss', 'disk', 'shm')


@dataclass(frozen=True)
class Form:
    """How much of everything."""

    kills: int
    freezes: int
    longest_s: float
    jumps: int
    link_s: float
    overload_s: float
    silent_s: float
    nonsense: int
    full_s: float


FULL = Form(50, 20, 10.0, 20, 40.0, 20.0, 6.0, 500, 15.0)
QUICK = Form(1, 2, 2.0, 3, 6.0, 3.0, 6.0, 40, 4.0)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the bench."""
    parser = subparsers.add_parser('resilience', help='the graph killed, frozen, lied to and starved')
    parser.add_argument('--quick', action='store_true', help='a few of each, in minutes')
    parser.add_argument('--kills', type=int, metavar='N', help='of each node with a model (50; quick: 1)')
    parser.add_argument('--only', nargs='+', choices=TRIALS, metavar='TRIAL', default=TRIALS,
                        help=f'some of {", ".join(TRIALS)} (steady: freezes, unplugged, overload, hostile)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run)


@contextmanager
def progress(total: int) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, drawn on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task('trials', total=total)
        yield lambda count: bar.advance(task, count)


def run(args: argparse.Namespace) -> int:
    """Run the trials; exit code 1 where anything was lost without a count, or wrong."""
    from crossspec_ros.demo.summary import hardware
    form = QUICK if args.quick else FULL
    load = os.getloadavg()[0]
    report = measure(form, args.kills or form.kills, args.only, say=lambda text: print(text, file=sys.stderr))
    report |= {'load_at_start': round(load, 1), 'hardware': hardware()}
    print(json.dumps(report, indent=2) if args.json else describe(report))
    return 1 if report['unaccounted'] or report['wrong'] or report['failed'] else 0


def measure(form: Form, count: int, only: tuple[str, ...] | list[str] = TRIALS,
            say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Run the trials one after another; the report. A trial that cannot go on is named in ``failed``, with why."""
    from crossspec_ros.bench.resilience import full, kills, trials
    from crossspec_ros.bench.resilience.referee import Referee
    referee, report, failed = Referee(), {}, {}
    with progress(2 * count + form.freezes + 8 + form.jumps + 3) as advance:
        runs: dict[str, Callable[[], dict[str, Any]]] = {
            'kills': lambda: kills.kills(referee, advance, count, say=say),
            'steady': lambda: trials.steady(referee, advance, freezes=form.freezes, longest_s=form.longest_s,
                                            silent_s=form.silent_s, overload_s=form.overload_s,
                                            nonsense=form.nonsense),
            'jumps': lambda: trials.jumps(referee, advance, form.jumps),
            'loss': lambda: trials.bad_link(referee, advance, form.link_s),
            **{what: lambda what=what: {what: full.outside(what, form.full_s)} for what in full.INSIDE}}
        for name, trial in runs.items():
            if name not in only:
                continue
            began_s = time.monotonic()
            try:
                report |= trial()
            except CrossSpecError as error:
                failed[name] = str(error)
            say(f'{name} {"failed: " + failed[name] if name in failed else "done"} '
                f'after {time.monotonic() - began_s:.0f} s')
            if name in full.INSIDE:
                advance(1)
    return {**report, 'unaccounted': _total(report, 'unaccounted'), 'wrong': _total(report, 'wrong'),
            'checked': _total(report, 'checked'), 'wrong_words': referee.wrong[:20], 'failed': failed}


def _total(tree: Any, name: str) -> int:
    """The sum of a number wherever it stands in a report."""
    if not isinstance(tree, dict):
        return 0
    return sum(value if key == name else _total(value, name) for key, value in tree.items())


def describe(report: dict[str, Any]) -> str:
    """A line a trial, for people."""
    lines = []
    for name in ('kills', 'freezes', 'unplugged', 'overload', 'hostile', 'audit', 'jumps', 'loss', 'disk', 'shm'):
        if name not in report:
            continue
        trial = report[name]
        if 'skipped' in trial:
            lines.append(f'{name:<9}  skipped: {trial["skipped"]}')
            continue
        inputs = '; '.join(f'{role} sent {each["sent"]}, received {each.get("received", "-")}, used '
                           f'{each.get("used", "-")}, unaccounted {each["unaccounted"]}'
                           for role, each in trial.get('inputs', {}).items())
        back = ', '.join(f'{node} back p50 {each["back_s"]["p50"]} max {each["back_s"]["max"]} s (n {each["n"]})'
                         for node, each in trial.items() if isinstance(each, dict) and 'back_s' in each)
        lines.append(f'{name:<9}  {back or "next caption " + str(trial.get("next_caption_s", "-"))}; {inputs}; '
                     f'words checked {trial["words"]["checked"]}, wrong {trial["words"]["wrong"]}')
    lines += [f'{name:<9}  failed: {text}' for name, text in report['failed'].items()]
    return '\n'.join([*lines, f'unaccounted {report["unaccounted"]}, wrong {report["wrong"]} of {report["checked"]}'])
