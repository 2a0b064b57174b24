"""``crossspec dsec convert|make``: DSEC sequences to rosbag2; sequences of the same layout from the synthetic world."""
from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from crossspec_ros.commands.progress import progress_bar


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the two commands."""
    parser = subparsers.add_parser('dsec', help='turn a DSEC sequence into a rosbag2')
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    convert = actions.add_parser('convert', help='a sequence (left cameras) to a rosbag2; goes on where it was stopped')
    convert.add_argument('sequence', help='folder with events/, images/ and calibration/')
    convert.add_argument('out', help='folder of the new bag; OUT.partial holds what is done until it is whole')
    convert.add_argument('--encoding', choices=('evt3', 'mono'), default='evt3', help='of the event packets (evt3)')
    convert.add_argument('--packet-ms', type=int, default=10, help='length of an event packet, ms (10)')
    convert.add_argument('--images', choices=('raw', 'compressed'), default='compressed',
                         help='rgb8, or the PNG files as they are (compressed)')
    convert.add_argument('--align', action='store_true', help='warp the RGB images into the event camera\'s view')
    convert.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='storage of the bag (mcap)')
    convert.add_argument('--json', action='store_true', help='print what was done as JSON')
    convert.set_defaults(func=run_convert)
    make = actions.add_parser('make', help='write a sequence in the layout of DSEC from the synthetic world')
    make.add_argument('out', help='folder of the new sequence')
    make.add_argument('--seed', type=int, default=1_000_000, help='of the world (1000000)')
    make.add_argument('--seconds', type=float, default=5.0, help='length, s (5)')
    make.add_argument('--events', nargs='+', type=Path, default=[], metavar='NPZ',
                      help='real events (x, y, t in us, p) to repeat instead of the world\'s')
    make.set_defaults(func=run_make)


def run_convert(args: argparse.Namespace) -> int:
    """Convert, and say how fast and with how much memory."""
    from crossspec_ros.recordings.dsec_convert import convert, length_s
    from crossspec_ros.recordings.dsec_source import DsecOptions
    options = DsecOptions(args.encoding, args.packet_ms, args.images, args.align)
    start = time.perf_counter()
    with progress_bar('converting', length_s(args.sequence), 's') as advance:
        done = convert(args.sequence, args.out, options, storage=args.storage, advance=advance)
    took_s = time.perf_counter() - start
    report = {'bag': args.out, 'packets': done.packets, 'images': done.images, 'recorded_s': round(done.seconds, 3),
              'took_s': round(took_s, 3), 'times_real_time': round(done.seconds / took_s, 2),
              'peak_rss_mb': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
              'segments_done_before': done.resumed_segments}
    for line in done.found:
        print(f'crossspec: note: {line}', file=sys.stderr)
    report |= {'events': done.events, 'dropped': done.dropped, 'found': list(done.found)}
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print(f'{args.out}: {done.events} events in {done.packets} packets, {done.images} images, '
              f'{done.seconds:.1f} s in {took_s:.1f} s ({report["times_real_time"]} x real time), '
              f'peak memory {report["peak_rss_mb"]} MB')
    return 0


def run_make(args: argparse.Namespace) -> int:
    """Write the sequence."""
    from crossspec_ros.recordings.dsec_make import make_sequence
    with progress_bar('making', args.seconds, 's') as advance:
        make_sequence(args.out, seed=args.seed, seconds=args.seconds, windows=args.events, advance=advance)
    print(f'{args.out}: {args.seconds:g} s')
    return 0
