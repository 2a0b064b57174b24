"""``crossspec view``: the graph that runs, live in a browser, in Foxglove or Lichtblick, or in a file."""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from crossspec_ros.config import ViewerConfig
from crossspec_ros.graph import declare, node_environment

_DESCRIPTION = """Shows a graph that runs: image, events, drafts dim and verified words solid, what the verifier struck
out, ages, acceptance by source, drops and diagnostics. Listens on this machine only, unless --bind says otherwise."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = subparsers.add_parser('view', help='the graph live in a browser, in Foxglove or in a file',
                                   description=_DESCRIPTION)
    default = ViewerConfig()
    parser.add_argument('--port', type=int, default=default.port, metavar='N',
                        help='port of the page; the two after it are used too; 0: free ones (%(default)s)')
    parser.add_argument('--bind', default=default.bind, metavar='ADDRESS',
                        help='address to listen at; 0.0.0.0: everybody on the network may look (%(default)s)')
    parser.add_argument('--save', type=Path, metavar='FILE.rrd', help='write what is shown to a file too')
    parser.add_argument('--foxglove', action='store_true', help='serve Foxglove and Lichtblick too')
    parser.add_argument('--foxglove-port', type=int, default=default.foxglove_port, metavar='N',
                        help='port of their websocket (%(default)s)')
    parser.add_argument('--no-browser', action='store_true', help='no page for browsers; with --foxglove or --save')
    parser.add_argument('--open', action='store_true', help='open the page here')
    parser.add_argument('--rate', type=float, default=default.rate_hz, metavar='HZ',
                        help='pictures of each camera a second at most (%(default)s)')
    parser.add_argument('--memory-mb', type=int, default=default.memory_mb, metavar='MB',
                        help='what is kept for pages opened later, at most (%(default)s)')
    for name in ('namespace', 'events-topic', 'image-topic', 'image-transport'):
        parser.add_argument(f'--{name}', metavar='TEXT', help='as of the graph')
    parser.add_argument('--use-sim-time', action='store_true', help='follow /clock, as the graph does')
    parser.add_argument('--domain-id', type=int, metavar='N', help='ROS_DOMAIN_ID of the graph')
    parser.add_argument('--network', action='store_true', help='look at nodes on other hosts too')
    parser.set_defaults(func=run)


def command(args: argparse.Namespace) -> list[str]:
    """What to execute. Raises CrossSpecError for a value out of range."""
    given = {name: value for name in ('namespace', 'events_topic', 'image_topic', 'image_transport')
             if (value := getattr(args, name)) is not None}
    given |= {'viewer': 'true', 'use_sim_time': 'true' if args.use_sim_time else 'false'}
    settings: dict[str, Any] = {
        'rerun': not args.no_browser, 'bind': args.bind, 'port': args.port, 'foxglove': args.foxglove,
        'foxglove_port': args.foxglove_port, 'save_path': str(args.save.absolute()) if args.save else '',
        'open_browser': args.open, 'rate_hz': args.rate, 'memory_mb': args.memory_mb}
    return next(spec for spec in declare(given, {'viewer': settings}) if spec.name == 'viewer').command()


def run(args: argparse.Namespace) -> int:
    """Become the viewer node: signals and the exit code are its own."""
    words = command(args)
    sys.stdout.flush()
    os.execve(words[0], words, node_environment(domain_id=args.domain_id, local=not args.network))
