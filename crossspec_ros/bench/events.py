"""``crossspec bench events``: how fast packets become events and pictures, beside others on the same bytes.

One thread, and its CPU time: what else the machine does counts as little as possible. The contestants take turns
within a round, so that a machine that slows down slows all of them; a figure is the median over rounds, a ratio the
median of the rounds' ratios.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossspec_ros.bench.events_peers import decode_evt3_numpy, histogram_numpy, installed_peers, voxel_grid_numpy
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events, make_decoder
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.events.moments import ALWAYS, WindowMoments
from crossspec_ros.events.representations import histogram, voxel_grid
from crossspec_ros.events.slices import Slicing
from crossspec_ros.events.types import Events, Packet
from crossspec_ros.events.warm import warm_up
from crossspec_ros.timing.window import WindowGrid

SHAPE = (96, 128)
"""H, W of the representations."""

BINS = 5
_LEAD_NS = 125_000_000          # of the drafter's early look at a window
_PACKET_NS = 4_000_000
_REPRESENTATION_EVENTS = 1_000_000


@dataclass(frozen=True)
class Contest:
    """Contestants by name: each does the whole work once and returns how many events it saw (``events`` where it is
    right).
    """

    events: int
    contestants: dict[str, Callable[[], int]]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the bench."""
    parser = subparsers.add_parser('events', help='decoders and representations, million events per second')
    parser.add_argument(
        '--bag', help='recording whose first event topic is decoded (default: a seeded synthetic stream)'
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--rounds', type=int, default=15, help='rounds; the median counts (15)')
    parser.add_argument('--events', type=int, default=500_000, help='events of the synthetic stream (500000)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the synthetic stream (0)')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; exit code 0."""
    if args.rounds < 1 or args.events < 1:
        raise CrossSpecError(f'--rounds and --events must be >= 1, got {args.rounds} and {args.events}')
    result = measure(args.bag, rounds=args.rounds, events=args.events, seed=args.seed)
    if args.json:
        print(json.dumps(result, indent=2))
        return 0
    print(f'{result["source"]}\n{result["hardware"]}\n')
    for name, value in result['mev_s'].items():
        print(f'  {name:<34}{value:9.1f} Mev/s')
    print()
    for name, value in result['ratio'].items():
        print(f'  {name:<34}{value:9.2f} x')
    return 0


def measure(bag: str | None, *, rounds: int, events: int, seed: int) -> dict:
    """``mev_s`` and ``ratio`` by name, ``hardware``, ``source``, ``compile_ms`` (waiting time that `warm_up` takes
    away).
    """
    compile_ms = warm_up()
    packets, source = _from_bag(Path(bag)) if bag else (synthetic_packets(events, seed), f'synthetic evt3, seed {seed}')
    decoding = decoding_contest(packets)
    building = representation_contest(packets)
    times = {**race(decoding, rounds), **race(building, rounds)}
    counts = dict.fromkeys(decoding.contestants, decoding.events) | dict.fromkeys(building.contestants, building.events)
    return {
        'mev_s': {name: round(counts[name] / statistics.median(each) / 1e6, 2) for name, each in times.items()},
        'ratio': ratios(times),
        'hardware': hardware(),
        'source': f'{source}: {decoding.events} events, {len(packets)} packets',
        'compile_ms': round(compile_ms, 1),
    }


def decoding_contest(packets: Sequence[Packet]) -> Contest:
    """Decoders, and decoders with the frame after them, on the same evt3 packets."""
    width, height = packets[0].width, packets[0].height
    words = np.concatenate([packet.payload.view(np.uint16) for packet in packets])
    whole = Packet('evt3', width, height, 0, 0, 0, words.view(np.uint8))

    def one_by_one() -> int:
        decoder = make_decoder('evt3', width, height)
        return sum(len(decoder.decode(packet)) for packet in packets)

    moments = drafters_moments()                                # kept, as by the drafter: its memory is used again
    count = one_by_one()
    contestants = {
        'stream': lambda: len(make_decoder('evt3', width, height).decode(whole)),
        'packets': one_by_one,
        'fused voxel_grid': lambda: fused_voxel_grids(packets, moments),
        'two steps voxel_grid': lambda: voxel_grids_of_arrays(packets),
        'numpy': lambda: len(decode_evt3_numpy(words, width, height)),
        **installed_peers([packet.payload for packet in packets], width, height),
    }
    return Contest(count, _those_that_agree(contestants, count))


def drafters_moments() -> WindowMoments:
    """What the drafter has with its parameters as they are by default."""
    grid = WindowGrid()
    slicing = Slicing(grid.stride_ns, grid.span_ns, BINS, (0, _LEAD_NS))
    return WindowMoments(slicing, SHAPE, keep_ns=2 * grid.span_ns + _LEAD_NS, max_bytes=64 << 20)


def fused_voxel_grids(packets: Sequence[Packet], moments: WindowMoments) -> int:
    """The voxel grid of each second as the drafter makes it, from evt3 words with no event arrays; how many events."""
    grid = WindowGrid()
    moments.use(make_decoder('evt3', packets[0].width, packets[0].height))
    count = 0
    end_ns = None
    for packet in packets:
        if moments.add_packet(packet, _same_clock, ALWAYS):
            last_ns = moments.newest_ns
            if end_ns is not None and last_ns > end_ns:
                count += moments.voxel_grid(end_ns)[1]
                end_ns = None
            if end_ns is None:
                end_ns = grid.end_ns(grid.containing(last_ns)[0])
    return count + (moments.voxel_grid(end_ns)[1] if end_ns is not None else 0)


def voxel_grids_of_arrays(packets: Sequence[Packet]) -> int:
    """The same in two steps: packets to event arrays, those of each second to a voxel grid."""
    grid = WindowGrid()
    decoder = make_decoder('evt3', packets[0].width, packets[0].height)
    count = 0
    end_ns = None
    parts: list[Events] = []
    for packet in packets:
        events = decoder.decode(packet)
        if len(events):
            count += len(events)
            parts.append(events)
            last_ns = int(events.t_ns[-1])
            if end_ns is not None and last_ns > end_ns:
                voxel_grid(parts, end_ns - grid.span_ns, end_ns, bins=BINS, shape=SHAPE)
                parts, end_ns = parts[-1:], None
            if end_ns is None:
                end_ns = grid.end_ns(grid.containing(last_ns)[0])
    if end_ns is not None:
        voxel_grid(parts, end_ns - grid.span_ns, end_ns, bins=BINS, shape=SHAPE)
    return count


def _same_clock(first_event_ns: int) -> int:
    """Windows on the sensor's clock."""
    del first_event_ns
    return 0


def representation_contest(packets: Sequence[Packet]) -> Contest:
    """Representations of a million events of the stream (played again and again where it has fewer)."""
    decoder = make_decoder('evt3', packets[0].width, packets[0].height)
    events = join_events([decoder.decode(packet) for packet in packets])
    turn, take = np.divmod(np.arange(_REPRESENTATION_EVENTS), len(events))
    length_ns = int(events.t_ns[-1] - events.t_ns[0]) + 1000
    events = Events(events.t_ns[take] + turn * length_ns, events.x[take], events.y[take], events.p[take], events.width,
                    events.height)
    span = int(events.t_ns[0]) - 1, int(events.t_ns[-1])
    builds = {'histogram': lambda: histogram(events, *span, shape=SHAPE),
              'numpy histogram': lambda: histogram_numpy(events, SHAPE),
              'voxel_grid': lambda: voxel_grid(events, *span, bins=BINS, shape=SHAPE),
              'numpy voxel_grid': lambda: voxel_grid_numpy(events, *span, BINS, SHAPE)}
    for name in ('histogram', 'voxel_grid'):
        # Ours adds up in float32, and a few cells of a short recording get most of the million.
        if not np.allclose(builds[name](), builds[f'numpy {name}'](), rtol=1e-3, atol=0.05):
            raise CrossSpecError(f'{name} and its numpy counterpart differ on this recording: please report it')
    return Contest(
        len(events), {name: lambda build=build: len(build()) and len(events) for name, build in builds.items()}
    )


def race(contest: Contest, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each contestant in each round."""
    times: dict[str, list[float]] = {name: [] for name in contest.contestants}
    for _ in range(rounds):
        for name, work in contest.contestants.items():
            started = time.thread_time_ns()
            work()
            times[name].append((time.thread_time_ns() - started) / 1e9)
    return times


def ratios(times: dict[str, list[float]]) -> dict[str, float]:
    """How many times faster, from the rounds in which both ran."""
    def faster(ours: str, theirs: str) -> float:
        return round(statistics.median(b / a for a, b in zip(times[ours], times[theirs])), 3)

    ours = {'stream', 'packets', 'histogram', 'voxel_grid', 'numpy', 'numpy histogram', 'numpy voxel_grid'}
    peers = [name for name in times if name not in ours and not name.startswith(('fused', 'two steps'))]
    fastest = min([*peers, 'numpy'], key=lambda name: statistics.median(times[name]))
    found = {f'packets / {name}': faster('packets', name) for name in ('numpy', *peers)}
    found |= {
        'packets / fastest other': faster('packets', fastest),
        'stream / fastest other': faster('stream', fastest),
    }
    if by_packets := [name for name in peers if name.endswith(' packets')]:
        fastest = min(by_packets, key=lambda name: statistics.median(times[name]))
        found['packets / fastest other by packets'] = faster('packets', fastest)
    found['fused voxel_grid / two steps'] = faster('fused voxel_grid', 'two steps voxel_grid')
    for name in ('histogram', 'voxel_grid'):
        found[f'{name} / numpy'] = faster(name, f'numpy {name}')
    return found


def synthetic_packets(count: int, seed: int) -> list[Packet]:
    """A second of a 640x480 sensor as evt3: edges that move (neighbours in a row, at one time) and noise."""
    rng = np.random.default_rng(seed)
    lengths = rng.geometric(0.4, count)
    lengths = lengths[:int(np.searchsorted(np.cumsum(lengths), count)) + 1]
    t_us, y, first_x, p = (np.repeat(values, lengths)[:count] for values in (
        np.sort(rng.integers(1, 1_000_000, len(lengths))), rng.integers(0, 480, len(lengths)),
        rng.integers(0, 600, len(lengths)), rng.integers(0, 2, len(lengths))))
    lane = np.arange(len(t_us)) - np.repeat(np.cumsum(lengths) - lengths, lengths)[:count]
    events = Events(
        t_us * 1000,
        np.minimum(first_x + lane, 639).astype(np.uint16),
        y.astype(np.uint16),
        p.astype(np.uint8),
        640,
        480,
    )
    return list(Packetizer('evt3', 640, 480).packets(events, _PACKET_NS))


def hardware() -> str:
    """Processor, how many of it, and the versions that matter."""
    model = platform.processor() or platform.machine()
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as lines:
            model = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), model)
    except OSError:
        pass  # not Linux: the architecture must do
    return (
        f'{model}, {os.cpu_count()} CPUs, one thread used, Python {platform.python_version()}, numpy {np.__version__}'
    )


def _those_that_agree(contestants: dict[str, Callable[[], int]], count: int) -> dict[str, Callable[[], int]]:
    """Ours must see every event; another that drops some is named with what it saw, so that nobody compares blindly."""
    named = {}
    for name, work in contestants.items():
        seen = work()
        if seen != count and name.startswith(('stream', 'packets', 'fused', 'two steps')):
            raise CrossSpecError(f'{name} gives {seen} events where the decoder gives {count}: please report it')
        named[name if seen == count else f'{name} ({seen} events)'] = work
    return named


def _from_bag(path: Path) -> tuple[list[Packet], str]:
    """evt3 packets of the first event topic; other encodings are decoded and written again as evt3."""
    from crossspec_ros.recordings.bag import BagReader
    with BagReader(path) as bag:
        messages = [(message.topic, message.data) for message in bag if isinstance(message.data, Packet)]
    if not messages:
        raise CrossSpecError(f'bag {path} has no event packets: `crossspec bag info {path}` lists its topics')
    packets = [packet for topic, packet in messages if topic == messages[0][0]]
    encoding, width, height = packets[0].encoding, packets[0].width, packets[0].height
    if encoding == 'evt3':
        return packets, path.name
    decoder = make_decoder(encoding, width, height)
    parts = [part for part in map(decoder.decode, packets) if len(part)]
    first_ns = int(parts[0].t_ns[0]) // 1000 * 1000 - 1000 if parts else 0
    packetizer = Packetizer('evt3', width, height)
    again = [
        packetizer.packet(Events(part.t_ns - first_ns, part.x, part.y, part.p, width, height), first_ns)
        for part in parts
    ]
    if not again:
        raise CrossSpecError(f'bag {path} holds no events: choose another recording')
    return again, f'{path.name} ({encoding} written again as evt3)'
