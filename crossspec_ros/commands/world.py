"""``crossspec world sheet|record|speed``: pictures, recordings and the speed of the synthetic driving world."""
from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from crossspec_ros.commands.progress import progress_bar
from crossspec_ros.errors import CrossSpecError

_NS = 1_000_000_000
EVENT_TOPIC, IMAGE_TOPIC = '/event_camera/events', '/camera/image_raw'


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the three commands."""
    parser = subparsers.add_parser('world', help='the synthetic driving world: pictures and recordings')
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    sheet = actions.add_parser('sheet', help='a picture of scenes: RGB, events, caption')
    sheet.add_argument('out', help='the picture, OUT.png')
    sheet.add_argument('--scenes', type=int, default=12, help='how many (12)')
    sheet.add_argument('--columns', type=int, default=3, help='scenes a row (3)')
    sheet.set_defaults(func=run_sheet)
    record = actions.add_parser('record', help='a rosbag2 of a drive, with its truth')
    record.add_argument('out', help='folder of the new bag; the truth goes to OUT.truth.jsonl')
    record.add_argument('--seconds', type=int, default=30, help='length of the drive, s (30)')
    record.add_argument('--encoding', default='evt3', help='of the event packets: evt3 or mono (evt3)')
    record.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='storage of the bag (mcap)')
    record.set_defaults(func=run_record)
    speed = actions.add_parser('speed', help='how much faster than real time both sensors are made')
    speed.add_argument('--seconds', type=int, default=10, help='length of the drive, s (10)')
    speed.set_defaults(func=run_speed)
    for action in (record, speed):
        action.add_argument('--seed', type=int, default=1, help='seed of the drive (1)')
        action.add_argument('--pace', choices=('brisk', 'calm'), default='calm',
                            help='calm: as a drive goes; brisk: a new street every second or two (calm)')
        action.add_argument('--width', type=int, default=320, help='of both sensors, px (320)')
        action.add_argument('--height', type=int, default=240, help='of both sensors, px (240)')


def run_sheet(args: argparse.Namespace) -> int:
    """Write the contact sheet."""
    import cv2

    from crossspec_ros.bench.contact_sheet import contact_sheet
    if Path(args.out).suffix.lower() != '.png':
        raise CrossSpecError(f'out must end in .png, got {args.out}')
    with progress_bar('rendering', args.scenes, 'scenes') as advance:
        picture = contact_sheet(args.scenes, args.columns, advance=advance)
    encoded, data = cv2.imencode('.png', picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert encoded, 'an RGB picture can be encoded'
    try:
        Path(args.out).write_bytes(data.tobytes())
    except OSError as error:
        raise CrossSpecError(f'{args.out} cannot be written: {error.strerror}') from error
    print(f'{args.out}: {args.scenes} scenes')
    return 0


def run_record(args: argparse.Namespace) -> int:
    """Write the bag and, beside it, a line of truth per second."""
    from crossspec_ros.events.encode import Packetizer
    from crossspec_ros.recordings.bag import BagWriter
    from crossspec_ros.world import World
    _check_seconds(args.seconds)
    world = World(args.seed, args.width, args.height, pace=args.pace)
    packetizer = Packetizer(args.encoding, args.width, args.height)
    images = packets = 0
    with BagWriter(args.out, args.storage) as bag, progress_bar('recording', args.seconds, 's') as advance:
        for stamp_ns, kind, payload in world.stream(0.0, float(args.seconds)):
            if kind == 'image':
                bag.write_rgb(IMAGE_TOPIC, stamp_ns, stamp_ns, payload)
                images += 1
                advance(1 / world.rgb_hz)
            elif len(payload):
                packet = packetizer.packet(payload, stamp_ns)
                bag.write_packet(EVENT_TOPIC, stamp_ns, packet)
                packets += 1
    truth = Path(f'{args.out.rstrip("/")}.truth.jsonl')
    truth.write_text(''.join(_truth_line(world, end) for end in range(1, args.seconds + 1)), encoding='utf-8')
    print(f'{args.out}: {args.seconds} s, {images} images, {packets} event packets; truth in {truth}')
    return 0


def _check_seconds(seconds: int) -> None:
    if not 1 <= seconds <= 3600:
        raise CrossSpecError(f'seconds must be 1 to 3600, got {seconds}')


def _truth_line(world: object, end_s: int) -> str:
    truth = world.truth(float(end_s))
    boxes = [{'name': box.name, 'colour': box.colour, 'box': box.box} for box in truth.boxes]
    return json.dumps({'window_end_ns': end_s * _NS, 'caption': truth.caption, 'slots': truth.slots,
                       'answers': truth.answers, 'boxes': boxes}) + '\n'


def run_speed(args: argparse.Namespace) -> int:
    """CPU time of the live stream on this machine; other processes do not count."""
    from crossspec_ros.world import World
    _check_seconds(args.seconds)
    world = World(args.seed, args.width, args.height, pace=args.pace)
    for _ in world.stream(0.0, 0.1):
        pass                                              # compile the kernels
    events, began = 0, time.process_time_ns()
    for _, kind, payload in world.stream(0.0, float(args.seconds)):
        events += len(payload) if kind == 'events' else 0
    took_s = (time.process_time_ns() - began) / _NS
    print(f'{args.width} x {args.height}, RGB at {world.rgb_hz} Hz and {events / args.seconds:,.0f} events/s: '
          f'{args.seconds / took_s:.1f} x real time on one core')
    return 0
