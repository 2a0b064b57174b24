"""``crossspec bag info|cut|render``: look into a rosbag2, copy a part of it, make a film of it."""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from crossspec_ros.commands.progress import progress_bar
from crossspec_ros.commands.topic_options import add_topic_options, chosen_topics
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagReader


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the three commands."""
    parser = subparsers.add_parser('bag', help='look into, cut or render a rosbag2')
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    info = actions.add_parser('info', help='topics, and for event topics encoding, counts, times, losses and a hash')
    info.add_argument('bag', help='folder of the bag, its .mcap or .db3 file, or a ROS 1 .bag')
    add_topic_options(info)
    info.add_argument('--json', action='store_true', help='print JSON')
    info.set_defaults(func=run_info)
    cut = actions.add_parser('cut', help='copy a part of a bag, byte for byte')
    cut.add_argument('bag', help='folder of the bag, its .mcap or .db3 file, or a ROS 1 .bag')
    cut.add_argument('out', help='folder of the new bag')
    cut.add_argument('--start', type=float, default=0.0, metavar='S', help='start, s after the start of the bag (0)')
    end = cut.add_mutually_exclusive_group()
    end.add_argument('--end', type=float, metavar='S', help='end, s after the start of the bag')
    end.add_argument('--duration', type=float, metavar='S', help='length of the part, s')
    cut.add_argument('--topics', nargs='+', metavar='TOPIC', help='only these topics')
    cut.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='storage of the new bag (mcap)')
    cut.set_defaults(func=run_cut)
    render = actions.add_parser('render', help='a film (mp4) of the events beside the images')
    render.add_argument('bag', help='folder of the bag, its .mcap or .db3 file, or a ROS 1 .bag')
    render.add_argument('out', help='the film, OUT.mp4')
    render.add_argument('--fps', type=float, default=25.0, help='pictures a recorded second (25)')
    render.add_argument('--height', type=int, default=480, help='height of the film, px (480)')
    render.add_argument('--start', type=float, default=0.0, metavar='S', help='start, s after the start of the bag (0)')
    render.add_argument('--duration', type=float, metavar='S', help='length of the part, s')
    add_topic_options(render)
    render.set_defaults(func=run_render)


def run_info(args: argparse.Namespace) -> int:
    """Print what the bag holds."""
    from crossspec_ros.recordings.bag_info import describe, readable_messages
    from crossspec_ros.recordings.event_files.opening import is_event_file
    if is_event_file(Path(args.bag)):
        from crossspec_ros.commands.events import run_info as run_file_info
        return run_file_info(argparse.Namespace(file=args.bag, size=None, json=args.json))
    with BagReader(args.bag) as bag, progress_bar('reading', readable_messages(bag), 'messages') as advance:
        info = describe(bag, advance)
    _choose(args, info)
    if args.json:
        print(json.dumps(info, indent=2))
    else:
        _print_info(info)
    return 0


def _choose(args: argparse.Namespace, info: dict[str, Any]) -> None:
    """Keep what was asked for, and say what would be played of the bag."""
    from crossspec_ros.recordings.topics import choose
    with BagReader(args.bag) as bag:
        try:
            choice = choose(bag, args.topics, image=args.image_topic, events=args.events_topic)
        except CrossSpecError:
            if args.topics or args.image_topic or args.events_topic:
                raise
            return                                              # a bag of other things is looked into all the same
    if args.topics:
        info['topics'] = {name: topic for name, topic in info['topics'].items() if name in args.topics}
    info['played'] = list(choice.topics)
    if choice.line:
        print(f'crossspec: {args.bag}: {choice.line}', file=sys.stderr)


def _print_info(info: dict[str, Any]) -> None:
    print(f'start {info["start_ns"] / 1e9:.6f} s, duration {info["duration_s"]:.3f} s')
    for note in info['notes']:
        print(f'note: {note}')
    for name, topic in info['topics'].items():
        print(name)
        for key, value in topic.items():
            if isinstance(value, dict):
                value = ', '.join(f'{cause} {count}' for cause, count in value.items()) or 'none'
            print(f'  {key:<14} {"none" if value is None else value}')


def run_cut(args: argparse.Namespace) -> int:
    """Copy a part."""
    from crossspec_ros.recordings.bag_edit import cut
    end_s = args.end if args.duration is None else args.start + args.duration
    with progress_bar('cutting', None, 'messages') as advance:
        copied = cut(args.bag, args.out, start_s=args.start, end_s=end_s, topics=args.topics, storage=args.storage,
                     advance=advance)
    print(f'{args.out}: {copied} messages')
    return 0


def run_render(args: argparse.Namespace) -> int:
    """Make the film."""
    if not args.out.endswith('.mp4'):
        raise CrossSpecError(f'the film must be named OUT.mp4, got {args.out!r}')
    from crossspec_ros.recordings.render import render
    with progress_bar('rendering', None, 'pictures') as advance:
        pictures = render(args.bag, args.out, fps=args.fps, height=args.height, start_s=args.start,
                          duration_s=args.duration, topics=chosen_topics(args, args.bag), advance=advance,
                          tell=lambda note: print(f'crossspec: {args.bag}: {note}', file=sys.stderr))
    print(f'{args.out}: {pictures} pictures')
    return 0
