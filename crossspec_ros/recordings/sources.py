"""What can be played: a bag, a DSEC sequence as it lies on the disk, the synthetic world, a load of events."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.events.types import Packet
from crossspec_ros.recordings.bag import BagMessage, BagReader, ImageFrame, rgb_frame
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES, VIDEO_TYPES
from crossspec_ros.recordings.event_files.opening import is_event_file
from crossspec_ros.recordings.load import LoadSource
from crossspec_ros.recordings.outlook import Passing
from crossspec_ros.recordings.pictures import TopicPictures
from crossspec_ros.recordings.plugged import plugged_source
from crossspec_ros.recordings.replay import ReplayMessage, Source
from crossspec_ros.recordings.timeline import Timeline, read_times, with_stamp
from crossspec_ros.recordings.topics import choose

_NS = 1_000_000_000


def role_of(type_name: str) -> str:
    """What messages of a type are for the graph (see ``replay.ROLES``)."""
    if type_name in EVENT_TYPES:
        return 'events'
    return {IMAGE_TYPES[1]: 'compressed', **dict.fromkeys((IMAGE_TYPES[0], *VIDEO_TYPES), 'image')}.get(type_name,
                                                                                                  'other')


class BagSource:
    """A rosbag2, played in the order and at the pace of its recording.

    Of several event topics, or several image topics, one is chosen unless ``topics`` names them (`topics.choose`). When
    messages are due, and what their stamps mean, is decided from all of them (`timeline.Timeline`): a bag that was
    written again long after it was recorded is paced by its stamps, the only times that are still the sensors'.
    ``notes`` say what was chosen and what was mended, a line each; ``dropped`` counts by cause what the pass that is
    read now did not hand on, video packets without a picture among it. Raises CrossSpecError when the bag cannot be
    read or has no events and no images.
    """

    def __init__(self, path: str | Path, topics: Sequence[str] | None = None) -> None:
        self.name = str(path)
        self._dropped: Counter[str] = Counter()
        self._reader = BagReader(path)
        try:
            choice = choose(self._reader, topics or ())
            self._chosen, infos = choice.topics, self._reader.topics
            self._pictures = [TopicPictures(self._reader, name) for name in self._chosen
                              if role_of(infos[name].type) in ('image', 'compressed')]
            self.topics = {name: infos[name].type for name in self._chosen}
            self.topics |= {pictures.topic: pictures.type for pictures in self._pictures}
            self._times = read_times(self._reader, self._chosen)
            self.timeline = Timeline(self._times)
        except CrossSpecError:
            self._reader.close()
            raise
        self.start_ns = self.timeline.start_ns
        self.end_ns: int | None = self.timeline.end_ns
        looks = (note for pictures in self._pictures for note in pictures.notes)
        self.notes: tuple[str, ...] = tuple(filter(None, (choice.line, *looks, *self.timeline.notes)))

    @property
    def malformed(self) -> dict[str, int]:
        """Messages by topic that are not of their type, skipped."""
        return dict(self._reader.malformed)

    @property
    def dropped(self) -> Counter[str]:
        """What this pass did not hand on, by cause."""
        return self._dropped + Counter({f'image_{cause}': count for pictures in self._pictures
                                        for cause, count in pictures.dropped.items()})

    def passing(self) -> Passing:
        """What a pass through all of it holds, without reading it again."""
        passing = Passing(self.notes)
        for topic, type_name in self.topics.items():
            passed = {'events': passing.events, 'other': None}.get(role_of(type_name), passing.images)
            if passed is not None:
                passed.topic = topic
                for due_ns, stamp_ns in self.timeline.placed(topic, self._times[topic]):
                    passed.due_ns.append(due_ns)
                    passed.stamps_ns.append(stamp_ns)
        return passing

    def messages(self, start_ns: int) -> Iterator[ReplayMessage]:
        messages = self._placed(start_ns)
        for pictures in self._pictures:
            messages = pictures.passed(messages)
        return messages

    def _placed(self, start_ns: int) -> Iterator[ReplayMessage]:
        self._dropped = dropped = Counter()
        due_ns = self.start_ns
        for m in self._reader.messages(self._chosen, start_ns=self.timeline.first_log_ns(start_ns)):
            placed = self.timeline.place(m.topic, m.log_ns, m.stamp_ns, due_ns)
            if isinstance(placed, str):
                dropped[f'{role_of(m.type)}_{placed}'] += 1
                continue
            due_ns, stamp_ns = placed
            if due_ns < start_ns or (self.timeline.by_stamps and stamp_ns < start_ns):
                continue
            yield ReplayMessage(m.topic, m.type, role_of(m.type), due_ns, stamp_ns, *_restamped(m, stamp_ns))

    def close(self) -> None:
        self._reader.close()


def _restamped(message: BagMessage, stamp_ns: int) -> tuple[Any, bytes]:
    """Its data and its bytes, with this stamp."""
    if stamp_ns == message.stamp_ns or not isinstance(message.data, (Packet, ImageFrame)):
        return message.data, message.cdr
    return replace(message.data, stamp_ns=stamp_ns), with_stamp(message.cdr, stamp_ns)


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
