"""``crossspec events convert|info``: files of event cameras (RAW, DAT, AEDAT4, HDF5) to rosbag2 and back."""
from __future__ import annotations

import argparse
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from crossspec_ros.commands.progress import progress_bar
from crossspec_ros.errors import CrossSpecError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the two commands."""
    parser = subparsers.add_parser('events', help='files of event cameras (RAW, DAT, AEDAT4, HDF5) to rosbag2 and back')
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    convert = actions.add_parser('convert', help='a file or any recording to a bag, or a bag to a file')
    convert.add_argument('source', metavar='A', help='a file of events, a bag, a DSEC sequence, world:SEED, or '
                                                     'NAME:ARGUMENT '
                                                     'of another package')
    convert.add_argument('out', metavar='B', help='folder of the new bag, or OUT.raw, .dat, .aedat4, .hdf5 '
                                                  '(Prophesee), .h5 '
                                                  '(DSEC)')
    convert.add_argument('--format', metavar='NAME', help='of B: bag, evt3, evt2, evt21, dat, aedat4, prophesee, '
                                                          'dsec, m3ed, '
                                                          'mvsec (by the ending of B)')
    convert.add_argument('--offset', type=nanoseconds, default=0, metavar='S',
                         help='added to the stamps of a new bag, or to the times in a new file, s (0)')
    convert.add_argument('--size', metavar='WxH', help='of the sensor, where A does not say it')
    convert.add_argument('--topic', help='event topic: to write in a new bag, or to read of a bag')
    convert.add_argument('--json', action='store_true', help='print what was done as JSON')
    bag = convert.add_argument_group('to a bag')
    bag.add_argument('--rgb', metavar='FOLDER|FILM', type=Path,
                     help='pictures beside the events; from a bag to a file: the new folder for them')
    bag.add_argument('--rgb-times', metavar='FILE', help='one time a picture and line: whole numbers us, with a point '
                                                         's')
    bag.add_argument('--image-topic', metavar='TOPIC', help='of the pictures')
    bag.add_argument('--images', choices=('raw', 'compressed'), default='compressed',
                     help='rgb8, or files (compressed)')
    bag.add_argument('--encoding', choices=('auto', 'evt3', 'mono'), default='auto', help='of the packets (auto)')
    bag.add_argument('--packet-ms', type=int, default=10, help='length of a packet, ms (10)')
    bag.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='storage of the bag (mcap)')
    bag.add_argument('--duration', type=float, metavar='S', help='only so much of A, s')
    bag.add_argument('--resume', action='store_true', help='go on where a conversion to the same bag was stopped')
    convert.set_defaults(func=run_convert)
    info = actions.add_parser('info', help='format, size, counts, times, what is damaged, and a hash of the events')
    info.add_argument('file', metavar='A', help='a file of events')
    info.add_argument('--size', metavar='WxH', help='of the sensor, where A does not say it')
    info.add_argument('--json', action='store_true', help='print JSON')
    info.set_defaults(func=run_info)


def nanoseconds(text: str) -> int:
    """Seconds as whole ns: a float would lose digits of times since 1970."""
    try:
        return int((Decimal(text) * 1_000_000_000).to_integral_value())
    except (ArithmeticError, ValueError) as error:
        raise argparse.ArgumentTypeError(f'{text!r} is no number of seconds') from error


def run_info(args: argparse.Namespace) -> int:
    """Print what the file holds."""
    from crossspec_ros.recordings.event_files.info import event_file_info
    with progress_bar('reading', None, 'events') as advance:
        info = event_file_info(args.file, size_of(args.size), advance)
    print_table(args.file, info, args.json)
    return 0


def size_of(text: str | None) -> tuple[int, int] | None:
    """(width, height) of --size; CrossSpecError where it is none."""
    from crossspec_ros.recordings.event_files.headers import parse_size
    if text is None:
        return None
    size = parse_size(text)
    if size is None:
        raise CrossSpecError(f'size must be WIDTHxHEIGHT, for example 1280x720, got {text!r}')
    return size


def print_table(title: str, table: dict[str, Any], as_json: bool) -> None:
    """A name and its values, or all of it as JSON."""
    if as_json:
        print(json.dumps(table, indent=2))
        return
    print(title)
    for key, value in table.items():
        if isinstance(value, dict):
            value = ', '.join(f'{cause} {count}' for cause, count in value.items()) or 'none'
        print(f'  {key:<16} {"none" if value is None else value}')


def run_convert(args: argparse.Namespace) -> int:
    """Convert, and say what was done, what was left out, and how long it took."""
    from crossspec_ros.recordings.event_files.opening import format_of
    name = format_of(Path(args.out), args.format)
    started = time.perf_counter()
    table = _to_bag(args) if name is None else _to_file(args, name)
    table['took_s'] = round(time.perf_counter() - started, 3)
    print_table(args.out, table, args.json)
    return 0


def _is_events(path: Path) -> bool:
    """Whether a path is a file of events and no bag; a file that is neither is refused here, by what it is."""
    from crossspec_ros.recordings.event_files.headers import kind_of
    return path.is_file() and kind_of(path) != 'bag'


def _to_bag(args: argparse.Namespace) -> dict[str, Any]:
    from crossspec_ros.recordings.event_files.to_bag import write_bag
    from crossspec_ros.recordings.sources import open_source
    path = Path(args.source)
    if not _is_events(path):
        for option in ('rgb', 'rgb_times', 'size', 'offset'):
            if getattr(args, option):
                raise CrossSpecError(f'--{option.replace("_", "-")} is for a file of events, and {args.source} is none')
        source, made_of, note = open_source(args.source, topics=[args.topic] if args.topic else None), {}, {}
    else:
        source, made_of, note = _file_source(args, path)
    try:
        length_s = args.duration or (None if source.end_ns is None else (source.end_ns - source.start_ns) / 1e9)
        with progress_bar('converting', length_s, 's') as advance:
            done = write_bag(source, args.out, storage=args.storage, resume=args.resume, duration_s=args.duration,
                             made_of=made_of, note=note, advance=advance)
    finally:
        source.close()
    dropped = dict(sorted((cause, count) for cause, count in getattr(source, 'dropped', {}).items() if count))
    return {'bag': str(args.out), 'messages': done.messages, 'recorded_s': round(done.seconds, 3), 'dropped': dropped,
            'segments_done_before': done.resumed_segments}


def _file_source(args: argparse.Namespace, path: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """(source, what tells this work from another, what the bag keeps of the file)."""
    from crossspec_ros.recordings.event_files.pictures import PicturesBeside
    from crossspec_ros.recordings.event_files.source import EVENT_TOPIC, IMAGE_TOPIC, EventFileSource, FileOptions
    if args.rgb_times and not args.rgb:
        raise CrossSpecError('--rgb-times needs the pictures themselves: give --rgb FOLDER or --rgb FILM too')
    options = FileOptions(args.encoding, args.packet_ms, args.offset, args.topic or EVENT_TOPIC,
                          args.image_topic or IMAGE_TOPIC, args.images, size_of(args.size))
    pictures = PicturesBeside(args.rgb, args.rgb_times) if args.rgb else None
    source = EventFileSource(path, options, pictures)
    status = path.stat()
    made_of = {'bytes': status.st_size, 'mtime_ns': status.st_mtime_ns, 'options': vars(options), 'rgb': str(args.rgb),
               'rgb_times': str(args.rgb_times)}
    note = {'format': source.file.format, 'header': source.file.header, 'offset_ns': source.offset_ns}
    return source, made_of, note


def _to_file(args: argparse.Namespace, name: str) -> dict[str, Any]:
    from crossspec_ros.recordings.event_files.bag_events import BagEvents
    from crossspec_ros.recordings.event_files.opening import open_event_file
    from crossspec_ros.recordings.event_files.to_file import write_file
    for option in ('resume', 'duration', 'rgb_times'):
        if getattr(args, option):
            raise CrossSpecError(f'--{option.replace("_", "-")} is for a new bag; {args.out} is a file, written in '
                                 'one go')
    path = Path(args.source)
    if _is_events(path):
        source = open_event_file(path, size_of(args.size))
    else:
        source = BagEvents(path, args.topic, args.image_topic)
    try:
        with progress_bar('converting', None, 'events') as advance:
            done = write_file(source, args.out, name, offset_ns=args.offset, pictures=args.rgb, advance=advance)
    finally:
        source.close()
    table = {'file': str(args.out), 'format': name, 'events': done.events, 'triggers': done.triggers,
             'monitors': done.monitors, 'pictures': done.pictures, 'words_as_they_are': done.as_it_is,
             'dropped': dict(sorted(done.dropped.items())), 'left_out': dict(sorted(done.left_out.items()))}
    if isinstance(source, BagEvents):
        table['offset_ns'] = source.offset_ns
        table['topics_left_out'] = source.other_topics + (
            [source.image_topic] if source.image_topic and not done.pictures else [])
    return table
