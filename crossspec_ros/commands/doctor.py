"""``crossspec doctor``: what is here, what is missing, and what to do about what is not."""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys

from crossspec_ros import __version__
from crossspec_ros.commands.doctor_checks import MISSING, NOTE, OK, WARN, Check, all_checks, check_pair, check_qualifier

_MARKS = {OK: ('ok', '32'), NOTE: ('--', '2'), WARN: ('!!', '33'), MISSING: ('NO', '31')}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser('doctor', help='what is here, what is missing, and what to do about it',
                                   description='Exit code 0: the main job can run here; 1: something is missing.')
    parser.add_argument('--model', default='builtin', metavar='PATH', help='the verifier that is to run (builtin)')
    parser.add_argument('--drafter-model', default='builtin', metavar='DIR', help='the drafter beside it (builtin)')
    parser.add_argument('--qualifier', default='', metavar='PATH', help='a third model between the two (none)')
    parser.add_argument('--json', action='store_true', help='the findings as JSON on stdout')
    parser.set_defaults(func=run)


def format_check(check: Check, *, colour: bool) -> str:
    """One finding as a person reads it; what to do stands under it."""
    mark, code = _MARKS[check.status]
    mark = f'\x1b[{code}m{mark}\x1b[0m' if colour else mark
    advice = f'\n{"":26}-> {check.advice}' if check.advice else ''
    return f'{mark}  {check.name:<22}{check.value}{advice}'


def run(args: argparse.Namespace) -> int:
    """Print all findings; 0 when nothing that the main job needs is missing."""
    checks = [*all_checks(), check_pair(args.model, args.drafter_model)]
    checks += [check_qualifier(args.qualifier, args.model)] if args.qualifier else []
    missing = [check.name for check in checks if check.status == MISSING]
    if args.json:
        print(json.dumps({'version': __version__, 'ok': not missing, 'missing': missing,
                          'checks': [dataclasses.asdict(check) for check in checks]}, indent=1))
        return 1 if missing else 0
    colour = sys.stdout.isatty() and not os.environ.get('NO_COLOR') and os.environ.get('TERM') != 'dumb'
    for check in checks:
        print(format_check(check, colour=colour))
    print(f'\ncrossspec {__version__}: ' + (f'not ready, missing: {", ".join(missing)}' if missing else
                                            'everything the main job needs is here'))
    return 1 if missing else 0
