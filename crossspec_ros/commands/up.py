"""``crossspec up``: the graph's nodes as processes, on machines with no launch system."""
from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from crossspec_ros import shell
from crossspec_ros.commands.devices import check_device
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import (ARGUMENTS, LAUNCH_ARGUMENTS, LIFECYCLE_NODES, MODEL_LIBRARIES, MODEL_WARM_UP,
                                 NodeSpec, declare, node_environment)
from crossspec_ros.interrupts import interruptible
from crossspec_ros.nursery import Nursery
from crossspec_ros.security import policy
from crossspec_ros.supervisor import Supervisor
from crossspec_ros.tracing.summary import begin, end, in_words, parts_of, summarise


class _Joined(argparse.Action):
    """Several words as one text."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Sequence[str],
                 option_string: str | None = None) -> None:
        setattr(namespace, self.dest, ' '.join(values))


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``up`` to the parser: an option for every argument of the launch files."""
    parser = subparsers.add_parser('up', help='start the nodes of a vehicle, on machines with no launch system')
    for argument in ARGUMENTS:
        if argument.name in (*LAUNCH_ARGUMENTS, 'viewer', 'trace'):      # which have options of their own
            continue
        parser.add_argument('--' + argument.name.replace('_', '-'), dest=argument.name, metavar='TEXT',
                            action=_Joined if argument.name == 'cameras' else 'store',
                            nargs='+' if argument.name == 'cameras' else None,
                            choices=argument.choices or None,
                            help=f'{argument.description} (default: {argument.default!r})')
    parser.add_argument('--view', dest='viewer', action='store_const', const='true',
                        help='show the graph live in a browser; its settings: --param viewer:NAME=VALUE')
    parser.add_argument('--trace', dest='timeline', metavar='FILE', help='write a timeline of all processes for '
                        'ui.perfetto.dev at the end, and say where the age of the captions went')
    parser.add_argument('--only', nargs='+', metavar='NODE', help='start these nodes only')
    parser.add_argument('--without', nargs='+', metavar='NODE', default=[], help='start all but these')
    parser.add_argument('--param', action='append', default=[], metavar='NODE:NAME=VALUE', help='one more parameter')
    parser.add_argument('--restart', action='store_true', help='start a node again when it ends by itself')
    parser.add_argument('--network', action='store_true', help='discover nodes on other hosts too')
    parser.add_argument('--domain-id', type=int, metavar='N', help='ROS_DOMAIN_ID of the graph')
    parser.add_argument('--print', action='store_true', dest='only_print', help='print the commands and end')
    parser.add_argument('--policy', metavar='FILE', help='write the SROS2 policy of these nodes and end')
    parser.set_defaults(func=run)


def parse_parameters(texts: Sequence[str]) -> dict[str, dict[str, object]]:
    """``node:name=value`` by node. Raises CrossSpecError for another shape."""
    import yaml
    found: dict[str, dict[str, object]] = {}
    for text in texts:
        node, colon, setting = text.partition(':')
        name, equals, value = setting.partition('=')
        if not (colon and equals and node and name):
            raise CrossSpecError(f'param must be NODE:NAME=VALUE, got {text!r}')
        try:
            parsed = yaml.safe_load(value) if value else ''
        except yaml.YAMLError as error:
            raise CrossSpecError(f'param must have a plain value, got {text!r}') from error
        found.setdefault(node, {})[name] = parsed
    return found


def choose(specs: Sequence[NodeSpec], only: Sequence[str] | None, without: Sequence[str]) -> list[NodeSpec]:
    """The nodes to start. Raises CrossSpecError for a name that the graph does not have."""
    names = list(dict.fromkeys(spec.name for spec in specs))
    for name in [*(only or []), *without]:
        if name not in names:
            raise CrossSpecError(f'node must be one of {", ".join(names)}, got {name!r}'
                                 + (' (the player needs --bag)' if name == 'player' else ''))
    return [spec for spec in specs if (not only or spec.name in only) and spec.name not in without]


def _write(path: str, text: str) -> int:
    try:
        Path(path).write_text(text, encoding='utf-8')
    except OSError as error:
        raise CrossSpecError(f'{path} must be a file that can be written: {error.strerror}') from error
    return 0


def _keep_timeline(parts: Path, path: str) -> None:
    """Join the parts of the processes, and say where the age of the captions went."""
    try:
        lines = [*in_words(summarise(end(parts, path))), f'timeline: {path} (open it in ui.perfetto.dev)']
    except CrossSpecError as error:                             # which must not hide how the graph ended
        lines = [f'no timeline: {error}']
    for line in lines:
        print(f'crossspec: {line}', file=sys.stderr)


def run(args: argparse.Namespace) -> int:
    """Start the nodes and wait; 0 after Ctrl-C, the worst exit code where all nodes ended by themselves."""
    given = {argument.name: getattr(args, argument.name) for argument in ARGUMENTS
             if getattr(args, argument.name, None) is not None}
    parts = None
    if args.timeline:
        parts = parts_of(args.timeline)
        given['trace'] = str(parts)
    specs = choose(declare(given, parse_parameters(args.param)), args.only, args.without)
    if args.policy:
        return _write(args.policy, policy(specs))
    if args.only_print:
        for spec in specs:
            print(shlex.join(spec.command()))
        return 0
    check_device(given.get('device', 'cpu'))
    if parts is not None:
        begin(parts)
    shell.settle(without=() if args.domain_id is None else ('ROS_DOMAIN_ID',))
    supervisor = Supervisor(node_environment(domain_id=args.domain_id, local=not args.network), args.restart)
    try:
        with interruptible(signal.SIGINT, signal.SIGTERM):
            if args.restart and any(spec.name in LIFECYCLE_NODES for spec in specs):
                supervisor.nursery = Nursery(supervisor.environment, MODEL_LIBRARIES, MODEL_WARM_UP)
            # Those that wait for the imports come last.
            for spec in sorted(specs, key=lambda spec: spec.name in LIFECYCLE_NODES):
                supervisor.start(spec.full_name, spec.command(), forked=spec.name in LIFECYCLE_NODES)
            return supervisor.run()
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.end()
        if parts is not None:
            _keep_timeline(parts, args.timeline)
