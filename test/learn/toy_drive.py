"""A drive in which what the cameras see hangs on one of a few scenes: small, quick, and possible to learn."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crossspec_ros.events.types import Events
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.recordings.bag import rgb_frame
from crossspec_ros.recordings.replay import ReplayMessage

WIDTH, HEIGHT = 64, 48
_FRAME_NS, _PACKET_NS = 125_000_000, 25_000_000


class ToySource:
    """``toy:SEED``: scenes of a few seconds, frames of one colour pattern and events in one corner each."""

    def __init__(self, seed: int, seconds: int = 90, roles: tuple[str, ...] = ('events', 'image'),
                 end: bool = True) -> None:
        self.name = f'toy:{seed}'
        self.topics = {role: {'events': EVENT_TYPES[0], 'image': IMAGE_TYPES[0]}[role] for role in roles}
        self.start_ns, self.end_ns = 0, seconds * 10**9 if end else None
        self._roles, self._seconds, self.closed = roles, seconds, False
        generator = np.random.default_rng(seed)
        self._scenes = np.repeat(generator.integers(0, 4, seconds // 2 + 1), 2)
        self._patterns = np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)

    def messages(self, start_ns: int) -> Iterator[ReplayMessage]:
        packetizer = Packetizer('evt3', WIDTH, HEIGHT)
        for number in range(self._seconds * 10**9 // _PACKET_NS):
            due_ns = (number + 1) * _PACKET_NS
            scene = int(self._scenes[(due_ns - 1) // 10**9])
            if due_ns < start_ns:
                continue
            if 'events' in self._roles:
                packet = packetizer.packet(_events(scene, number), number * _PACKET_NS)
                yield ReplayMessage('events', EVENT_TYPES[0], 'events', due_ns, packet.stamp_ns, packet)
            if due_ns % _FRAME_NS == 0 and 'image' in self._roles:
                yield ReplayMessage('image', IMAGE_TYPES[0], 'image', due_ns, due_ns,
                                    rgb_frame(due_ns, self._patterns[scene]))

    def close(self) -> None:
        self.closed = True


def _events(scene: int, number: int) -> Events:
    generator = np.random.default_rng((scene, number))
    t_ns = np.sort(generator.integers(0, _PACKET_NS, 40)) // 1000 * 1000 + number * _PACKET_NS
    t_ns[0] = number * _PACKET_NS                               # the stamp's own time: the clocks are in step
    x = generator.integers(0, 20, 40) + 40 * (scene % 2)
    y = generator.integers(0, 20, 40) + 26 * (scene // 2)
    return Events(t_ns.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16),
                  generator.integers(0, 2, 40).astype(np.uint8), WIDTH, HEIGHT)


def open_toy(uri: str, **options: object) -> ToySource:
    """In place of `open_source`: ``toy:SEED``, ``toy:SEED:SECONDS``, ``toy:SEED:SECONDS:ROLES``."""
    _, seed, *more = uri.split(':')
    seconds = int(more[0]) if more else 90
    return ToySource(int(seed), seconds, tuple(more[1].split('+')) if len(more) > 1 else ('events', 'image'))


def toy_config(folder: Path, model: Path, **values: object) -> object:
    """Settings of a small course."""
    from crossspec_ros.learn.settings import LearnConfig
    return LearnConfig(**{'bags': ('toy:1',), 'model': str(model), 'out': folder / 'drafter', 'steps': 60, 'batch': 16,
                          'slide': 4, 'lr': 3e-3, 'max_new_tokens': 10, **values})
