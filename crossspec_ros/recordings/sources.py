"""What can be played: a bag, a DSEC sequence as it lies on the disk, the synthetic world, a load of events."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.recordings.bag import BagReader, rgb_frame
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from crossspec_ros.recordings.event_files.opening import is_event_file
from crossspec_ros.recordings.load import LoadSource
from crossspec_ros.recordings.plugged import plugged_source
from crossspec_ros.recordings.replay import ReplayMessage, Source

_NS = 1_000_000_000
_MAX_APART_NS = 60 * _NS


def role_of(type_name: str) -> str:
    """What messages of a type are for the graph (see ``replay.ROLES``)."""
    if type_name in EVENT_TYPES:
        return 'events'
    return {IMAGE_TYPES[0]: 'image', IMAGE_TYPES[1]: 'compressed'}.get(type_name, 'other')


class BagSource:
    """A rosbag2, played in the order and at the pace of its recording.

    Of several event topics, or several image topics, the first in the bag's list is played unless ``topics`` names
    them. A bag that was written again long after it was recorded (stamps and recording times more than a minute apart)
    is paced by its stamps, the only times that are still the sensors'. Raises CrossSpecError when the bag cannot be
    read or has no events and no images.
    """

    def __init__(self, path: str | Path, topics: Sequence[str] | None = None) -> None:
        self.name = str(path)
        self._reader = BagReader(path)
        try:
            self._chosen = tuple(topics) if topics else self._first_of_each()
        except CrossSpecError:
            self._reader.close()
            raise
        infos = self._reader.topics
        if unknown := [topic for topic in self._chosen if topic not in infos]:
            self._reader.close()
            raise CrossSpecError(f'bag {path} has no topic {", ".join(unknown)}; it has {", ".join(infos)}')
        self.topics = {name: infos[name].type for name in self._chosen}
        self.start_ns = self._reader.start_ns
        self.end_ns: int | None = self._reader.end_ns
        first = next(self._reader.messages(self._chosen), None)
        self._by_stamps = first is not None and abs(first.log_ns - first.stamp_ns) > _MAX_APART_NS
        if self._by_stamps:
            newest = self._reader.messages(self._chosen, start_ns=self._reader.end_ns - _NS)
            self.start_ns, self.end_ns = first.stamp_ns, max(message.stamp_ns for message in newest)

    def _first_of_each(self) -> tuple[str, ...]:
        chosen: dict[str, str] = {}
        for name in self._reader.require_topics():
            chosen.setdefault(role_of(self._reader.topics[name].type), name)
        if 'image' in chosen and 'compressed' in chosen:
            del chosen['compressed']                    # the same camera twice: the raw one costs no decoding
        return tuple(chosen.values())

    @property
    def malformed(self) -> dict[str, int]:
        """Messages by topic that are not of their type, skipped."""
        return dict(self._reader.malformed)

    def messages(self, start_ns: int) -> Iterator[ReplayMessage]:
        if self._by_stamps:
            yield from self._messages_by_stamps(start_ns)
            return
        for m in self._reader.messages(self._chosen, start_ns=start_ns):
            yield ReplayMessage(m.topic, m.type, role_of(m.type), m.log_ns, m.stamp_ns, m.data, m.cdr)

    def _messages_by_stamps(self, start_ns: int) -> Iterator[ReplayMessage]:
        due_ns = start_ns
        for m in self._reader.messages(self._chosen):
            if m.stamp_ns < start_ns:
                continue
            due_ns = max(due_ns, m.stamp_ns)
            yield ReplayMessage(m.topic, m.type, role_of(m.type), due_ns, m.stamp_ns, m.data, m.cdr)

    def close(self) -> None:
        self._reader.close()


class WorldSource:
    """The synthetic driving world of a seed: endless, the same for the same seed wherever it is started from.

    ``pace`` is 'calm' (shots of several seconds, as drives are) or 'brisk' (another street every second or two).
    """

    def __init__(self, seed: int, width: int = 320, height: int = 240, encoding: str = 'evt3',
                 pace: str = 'calm') -> None:
        from crossspec_ros.world import World    # a renderer: only where it is asked for
        self.name = f'world:{seed}:{pace}'
        self.topics = {'events': EVENT_TYPES[0], 'image': IMAGE_TYPES[0]}
        self.start_ns = 0
        self.end_ns: int | None = None
        self._make_world = lambda: World(seed, width=width, height=height, pace=pace)
        self._encoding = encoding

    def messages(self, start_ns: int) -> Iterator[ReplayMessage]:
        packetizer: Packetizer | None = None
        for due_ns, kind, payload in self._make_world().stream(start_ns / _NS, float('inf')):
            if kind == 'image':
                yield ReplayMessage('image', IMAGE_TYPES[0], 'image', due_ns, due_ns, rgb_frame(due_ns, payload))
            elif len(payload):
                packetizer = packetizer or Packetizer(self._encoding, payload.width, payload.height)
                packet = packetizer.packet(payload, int(payload.t_ns[0]))
                yield ReplayMessage('events', EVENT_TYPES[0], 'events', due_ns, packet.stamp_ns, packet)

    def close(self) -> None:
        """Nothing is open."""


def open_source(uri: str, *, topics: Sequence[str] | None = None, world_width: int = 320,
                world_height: int = 240) -> Source:
    """A source by name: ``world:SEED`` or ``world:SEED:brisk``, ``load:RATE`` (million events a second), the folder of
    a DSEC sequence, a bag (folder, .mcap, .db3), a file of events (RAW, DAT, AEDAT4, HDF5), or ``NAME:ARGUMENT`` of
    another package (``plugged``).

    Raises CrossSpecError telling what is wrong with it.
    """
    if uri.startswith('world:'):
        seed, _, pace = uri.removeprefix('world:').partition(':')
        if not seed.isdecimal() or pace not in ('', 'calm', 'brisk'):
            raise CrossSpecError('world:SEED must have a whole number >= 0 as its seed, and may have :calm or :brisk '
                                 f'after it, got {uri!r}')
        return WorldSource(int(seed), world_width, world_height, pace=pace or 'calm')
    if uri.startswith('load:'):
        try:
            return LoadSource(float(uri.removeprefix('load:')) * 1e6)
        except ValueError as error:
            raise CrossSpecError(f'load:RATE must have a number, million events a second, got {uri!r}') from error
    path = Path(uri)
    if not path.exists() and (plugged := plugged_source(uri)) is not None:
        return plugged
    if is_event_file(path):
        from crossspec_ros.recordings.event_files.source import EventFileSource, FileOptions
        return EventFileSource(path, FileOptions(images='raw'))
    if (path / 'events' / 'left').is_dir():
        from crossspec_ros.recordings.dsec_source import DsecSource     # h5py: only where it is asked for
        return DsecSource(path)
    return BagSource(path, topics)
