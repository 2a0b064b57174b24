"""``crossspec experiment list | run | report``: the methods of the field compared, reproducible by one command."""
from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from crossspec_ros.commands.progress import progress_bar
from crossspec_ros.errors import CrossSpecError

_OUT = Path('crossspec-experiments')


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = subparsers.add_parser('experiment',
                                   help='methods of the field compared, each claim beside what is measured')
    verbs = parser.add_subparsers(dest='verb', metavar='VERB', required=True)
    _add_list(verbs)
    _add_run(verbs)
    _add_report(verbs)


def _add_list(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser('list', help='the experiments, and the methods that none measures, with the reason')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run_list)


def _add_run(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser('run', help='run experiments, each in a process of its own; goes on where it was stopped')
    parser.add_argument('names', nargs='*', metavar='NAME', help='experiments; all where none is named')
    parser.add_argument('--quick', action='store_true', help='a minute each, on few drives')
    parser.add_argument('--seeds', type=int, metavar='N', help='trainings of each kind, where something is trained')
    parser.add_argument('--out', type=Path, default=_OUT, metavar='DIR', help='results, records, parts (%(default)s)')
    parser.add_argument('--model', metavar='PATH',
                        help='the verifier: builtin (default), a checkpoint folder or hub id')
    parser.add_argument('--drafter', metavar='PATH', help='the event drafter: builtin (default) or a folder')
    parser.add_argument('--heads', nargs='+', metavar='DIR',
                        help='folders of trained heads, for those that compare them')
    parser.add_argument('--traces', type=_folder, metavar='DIR',
                        help='recorded captions and stage times of the 7B pair')
    parser.add_argument('--data', type=_whole, metavar='DIR',
                        help='a local copy of DSEC, MVSEC, M3ED, EventDrive or of questions in JSON, for quality')
    parser.add_argument('--timeline', type=_folder, metavar='DIR',
                        help='what a graph with `trace:=DIR` left, for breakdown and machine; else a demo is run')
    parser.add_argument('--json', action='store_true', help='print the results as JSON')
    parser.set_defaults(func=run_run)


def _add_report(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser('report', help='one offline page of the results in a folder, and one for docs/')
    parser.add_argument('folder', type=Path, metavar='DIR', help='what `run --out DIR` wrote')
    parser.add_argument('--json', action='store_true', help='print the paths as JSON')
    parser.set_defaults(func=run_report)


def _whole(text: str) -> str:
    """A path from the root: experiments run in processes of their own."""
    return str(Path(text).expanduser().resolve())


def _folder(text: str) -> str:
    """A folder that is there, by its path from the root."""
    if not Path(text).expanduser().is_dir():
        raise argparse.ArgumentTypeError(f'must be a folder, got {text}')
    return _whole(text)


def run_list(args: argparse.Namespace) -> int:
    """Print what there is."""
    from crossspec_ros.experiments.methods import not_built
    from crossspec_ros.experiments.registry import experiments
    found = experiments()
    if args.json:
        print(json.dumps({
            'experiments': [{'name': each.name, 'title': each.title, 'source': each.source, 'claim': each.claim,
                             'measures': each.measures, 'lossless': each.lossless} for each in found.values()],
            'not_built': [{'method': each.name, 'source': each.source, 'why': each.why} for each in not_built()]},
            indent=1))
        return 0
    for each in found.values():
        print(f'{each.name:<12} {each.title} ({each.source}): {each.claim}')
    print('\nnot built')
    for method in not_built():
        print(f'  {method.name}{f" ({method.source})" if method.source else ""}: {method.why}')
    return 0


def run_run(args: argparse.Namespace) -> int:
    """Run, print what came of each; 2 where one failed, after the others."""
    from crossspec_ros.experiments.registry import chosen
    from crossspec_ros.experiments.running import run_experiment
    wanted = chosen(args.names)
    if args.seeds is not None and args.seeds < 1:
        raise CrossSpecError(f'--seeds must be >= 1, got {args.seeds}')
    command = [shlex.quote(word) for word in ('crossspec', *sys.argv[1:])]
    given = {'seeds': args.seeds, 'model': args.model, 'drafter': args.drafter, 'traces': args.traces,
             'timeline': args.timeline, 'heads': tuple(args.heads) if args.heads else None}
    results, failed, begun = {}, [], time.monotonic()
    if args.data and 'quality' not in wanted:
        raise CrossSpecError('--data is for the experiment quality, which is not among those that are named')
    for name, experiment in wanted.items():
        given['data'] = args.data if name == 'quality' else None
        settings = (experiment.quick if args.quick else experiment.full).given(given)
        try:
            results[name] = run_experiment(experiment, settings, args.out, quick=args.quick, command=command,
                                           bars=progress_bar)
        except CrossSpecError as error:
            if len(wanted) == 1:
                raise
            failed.append(str(error))
            print(f'{name}: {error}', file=sys.stderr)
            continue
        except KeyboardInterrupt:
            print(f'crossspec: stopped in {name}; finished parts are kept in {args.out}, the same command goes on',
                  file=sys.stderr)
            raise
        if not args.json:
            _show(results[name])
    if args.json:
        print(json.dumps(results, indent=1))
    print(f'{len(results)} of {len(wanted)} experiments in {args.out}, {time.monotonic() - begun:.0f} s; '
          f'`crossspec experiment report {args.out}` makes the pages', file=sys.stderr)
    if failed:
        raise CrossSpecError(f'{len(failed)} of {len(wanted)} experiments failed, as said above; run them again to '
                             'go on')
    return 0


def _show(result: dict[str, Any]) -> None:
    """A result as tables for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from crossspec_ros.experiments.experiment import outcome_from
    from crossspec_ros.experiments.report import cell_text
    outcome = outcome_from(result['outcome'])
    console = Console()
    console.width = max(console.width, 120)
    for table in outcome.tables:
        shown = Table(title=escape(table.title), title_justify='left')
        for place, column in enumerate(table.columns):
            shown.add_column(escape(column), justify='right' if place else 'left')
        for row in table.rows:
            shown.add_row(*(escape(cell_text(cell)) for cell in row))
        console.print(shown)
    print(f'{result["name"]}: {outcome.measured} The claim ({result["source"]}: {result["claim"]}) {outcome.verdict}. '
          f'{outcome.advice}')
    for reason in outcome.skipped:
        print(f'left out: {reason}')


def run_report(args: argparse.Namespace) -> int:
    """Write both pages."""
    from crossspec_ros.experiments.report import write_report
    page, markdown = write_report(args.folder)
    print(json.dumps({'page': str(page), 'markdown': str(markdown)}) if args.json else f'{page}\n{markdown}')
    return 0
