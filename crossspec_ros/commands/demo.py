"""``crossspec demo``: player, drafter, verifier, overlay and monitor as processes of their own, watched live."""
from __future__ import annotations

import argparse
import json
import os
import sys
import webbrowser
from pathlib import Path

from crossspec_ros import shell
from crossspec_ros.commands.devices import check_device
from crossspec_ros.commands.topic_options import add_topic_options
from crossspec_ros.demo.options import MAX_SECONDS, VIEW_PORT, WORLD_SECONDS, DemoOptions, check, look_through

_DESCRIPTION = """Runs the whole graph over real DDS, shows each window live (drafted words dim, verified words solid,
ages in ms), decodes every window again without drafts, and leaves report.json, report.html, latency.csv and
overlay.mp4 in a folder."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser('demo', help='the whole graph live, with a report of what it did',
                                   description=_DESCRIPTION)
    default = DemoOptions()
    parser.add_argument('--seconds', type=float, metavar='S',
                        help=f'stop after S seconds of the stream, 1 to {MAX_SECONDS:g} '
                        f'(default: {WORLD_SECONDS:g} of the synthetic world, all of a bag)')
    parser.add_argument('--bag', type=Path, metavar='PATH',
                        help='a rosbag2 with EventPacket, Image or CompressedImage topics '
                        '(default: the synthetic world)')
    add_topic_options(parser)
    parser.add_argument('--out', type=Path, default=default.out, metavar='DIR',
                        help='where to leave the report (%(default)s)')
    parser.add_argument('--seed', type=int, default=default.seed, help='seed of the synthetic world (%(default)s)')
    parser.add_argument('--pace', choices=('calm', 'brisk'), default=default.pace,
                        help='calm: as drives are; brisk: another street every second or two (%(default)s)')
    parser.add_argument('--prompt', default=default.prompt, help="the question (default: the built-in pair's own)")
    parser.add_argument('--verifier', default=default.verifier, metavar='MODEL',
                        help='checkpoint folder, hub id or builtin')
    parser.add_argument('--drafter', default=default.drafter, metavar='MODEL', help='drafter folder or builtin')
    parser.add_argument('--qualifier', default=default.qualifier, metavar='MODEL',
                        help='a third model between the two, which makes better drafts of the drafter\'s: '
                        'checkpoint folder, hub id or builtin (default: none)')
    parser.add_argument('--device', default=default.device, help='torch device of the verifier (%(default)s)')
    parser.add_argument('--frame-interval-ms', type=float, default=default.frame_interval_ms, metavar='MS',
                        help='time between the frames of a window, for slow cameras (%(default)g)')
    parser.add_argument('--view', type=int, nargs='?', const=VIEW_PORT, metavar='PORT',
                        help=f'show it live in a browser too, at a port of this machine ({VIEW_PORT}; 0: a free one)')
    parser.add_argument('--trace', type=Path, metavar='FILE', help='write a timeline of all processes for '
                        'ui.perfetto.dev, and show in the report where the age of each caption went')
    parser.add_argument('--domain-id', type=int, metavar='N', help='DDS domain (default: one that is free)')
    parser.add_argument('--json', action='store_true', help='report.json on stdout, everything else on stderr')
    parser.add_argument('--no-open', action='store_true', help='do not open the report in a browser')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 when something came of it and no audited window differed."""
    shell.settle(own_graph=True)
    options = DemoOptions(out=args.out, seconds=args.seconds, bag=args.bag, seed=args.seed, pace=args.pace,
                          prompt=args.prompt,
                          verifier=args.verifier, drafter=args.drafter, qualifier=args.qualifier, device=args.device,
                          domain_id=args.domain_id, topics=tuple(args.topics), image_topic=args.image_topic,
                          events_topic=args.events_topic,
                          frame_interval_ms=args.frame_interval_ms, view=args.view, trace=args.trace)
    topics = check(options)
    passing = look_through(options, topics)
    check_device(options.device)
    from crossspec_ros.demo.orchestrate import run_demo            # after the checks: rclpy takes a second to import

    report = run_demo(options, topics, passing, screen=sys.stderr if args.json else sys.stdout)
    for note in report['notes']:
        print(f'crossspec: {options.source_name}: {note}', file=sys.stderr)
    page = options.out.resolve() / 'report.html'
    if args.json:
        print(json.dumps(report, indent=1))
    elif not args.no_open and sys.stdout.isatty() and (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        webbrowser.open(page.as_uri())
    if report['audit']['mismatched']:
        print(f'crossspec: error: {report["audit"]["mismatched"]} of {report["audit"]["checked"]} captions differ '
              f'from what the verifier says without drafts; see {page}', file=sys.stderr)
        return 1
    if report['reason'] is not None:
        print(f'crossspec: error: {report["reason"]}', file=sys.stderr)
        return 1
    return 0
