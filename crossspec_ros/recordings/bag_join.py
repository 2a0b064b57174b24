"""The files of a bag as one recording: joined by topic and type, in the order of time, and counted."""
from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag_files import describe_disagreement, open_files
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from crossspec_ros.recordings.storages import CDR, READABLE, Channel, Item, Storage, in_order

logger = logging.getLogger(__name__)

_ZSTD = b'\x28\xb5\x2f\xfd'


@dataclass(frozen=True)
class TopicInfo:
    """A topic of a bag: its name, type and number of messages, all that its files count.

    Of a topic that was recorded under several types, or serialised in several ways, ``type`` is the one that is read
    and ``others`` holds (type, serialisation, messages) of what is left out.
    """

    name: str
    type: str
    messages: int
    serialisation: str = CDR
    others: tuple[tuple[str, str, int], ...] = ()

    @property
    def readable(self) -> bool:
        """Whether its messages can be handed out."""
        return self.serialisation in READABLE


class JoinedBag:
    """All files of a bag, each read by itself; what metadata.yaml says is compared and never needed.

    What does not fit is told once, in a line each. Raises CrossSpecError like ``bag_files.open_files``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = open_files(path)
        self.storages = self._files.storages
        self.topics = _topics([channel for storage in self.storages for channel in storage.channels])
        filled = [storage for storage in self.storages if any(channel.count for channel in storage.channels)]
        self.start_ns = min((storage.start_ns for storage in filled), default=0)
        self.end_ns = max((storage.end_ns for storage in filled), default=0)
        self.message_count = sum(channel.count for storage in self.storages for channel in storage.channels)
        for note in (*self._files.notes, self._disagreement()):
            if note:
                logger.warning('bag %s %s', path, ' '.join(note.split()))

    def close(self) -> None:
        """Give the files back; closing twice is fine."""
        self._files.close()

    def _disagreement(self) -> str:
        if self._files.notes:                           # files that are missing or cut were told of already
            return ''
        counts: Counter[tuple[str, str]] = Counter()
        for storage in self.storages:
            for channel in storage.channels:
                counts[(channel.topic, channel.type)] += channel.count
        return describe_disagreement(self._files.metadata, dict(counts))

    def messages(self, topics: Collection[str], start_ns: int | None,
                 stop_ns: int | None) -> Iterator[tuple[Channel, int, bytes]]:
        """(channel, recording time, bytes) of the topics' messages in [start_ns, stop_ns), in the order of recording.

        Raises CrossSpecError, after all that there is, when a file counts other messages than it handed out.
        """
        handed = [Counter() for _ in self.storages]
        wanted = [self._wanted(storage, topics) for storage in self.storages]
        parts = [(storage.start_ns if start_ns is None else max(start_ns, storage.start_ns),
                  self._opened(at, wanted[at], start_ns, stop_ns))
                 for at, storage in enumerate(self.storages) if wanted[at] and _overlaps(storage, start_ns, stop_ns)]
        for number, log_ns, data in in_order(parts):
            at, of_storage = divmod(number, _STRIDE)
            channel = self.storages[at].channels[of_storage]
            handed[at][of_storage] += 1
            yield channel, log_ns, _unpacked(data) if channel.serialisation == CDR else data
        for at, storage in enumerate(self.storages):
            if _covers(storage, start_ns, stop_ns):
                _check(storage, wanted[at], handed[at])

    def _wanted(self, storage: Storage, topics: Collection[str]) -> list[int]:
        chosen = {name: self.topics[name] for name in topics}
        return [number for number, channel in enumerate(storage.channels)
                if (info := chosen.get(channel.topic)) and info.serialisation == channel.serialisation
                and _is_same(info.type, channel.type)]

    def _opened(self, at: int, wanted: Collection[int], start_ns: int | None,
                stop_ns: int | None) -> Callable[[], Iterator[Item]]:
        """How to open a storage's messages, each with the number of its storage in its channel's number."""
        def opened() -> Iterator[Item]:
            for number, log_ns, data in self.storages[at].messages(wanted, start_ns, stop_ns):
                yield at * _STRIDE + number, log_ns, data
        return opened


_STRIDE = 1 << 32


def _is_same(one: str, other: str) -> bool:
    """Whether messages of two types are read as the same thing."""
    return one == other or (one in EVENT_TYPES and other in EVENT_TYPES)


def _topics(channels: Collection[Channel]) -> dict[str, TopicInfo]:
    """Topics by name, in the order of the files."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for channel in channels:
        counts[channel.topic][(channel.type, channel.serialisation)] += channel.count
    table = {}
    for name, kinds in counts.items():
        kind, serialisation = max(kinds, key=lambda key: (key[1] in READABLE and kinds[key] > 0, key[1] in READABLE,
                                                          key[0] in (*EVENT_TYPES, *IMAGE_TYPES), kinds[key]))
        read = {key for key in kinds if key[1] == serialisation and _is_same(key[0], kind)}
        table[name] = TopicInfo(name, kind, sum(kinds[key] for key in read), serialisation,
                                tuple((*key, count) for key, count in kinds.items() if key not in read and count))
    return table


def _overlaps(storage: Storage, start_ns: int | None, stop_ns: int | None) -> bool:
    return (start_ns is None or storage.end_ns >= start_ns) and (stop_ns is None or storage.start_ns < stop_ns)


def _covers(storage: Storage, start_ns: int | None, stop_ns: int | None) -> bool:
    """Whether [start_ns, stop_ns) takes in all that a storage holds."""
    return (start_ns is None or start_ns <= storage.start_ns) and (stop_ns is None or stop_ns > storage.end_ns)


def _check(storage: Storage, wanted: Collection[int], handed: Counter[int]) -> None:
    for number in wanted:
        channel = storage.channels[number]
        if handed[number] != channel.count:
            raise CrossSpecError(f'{storage.path} counts {channel.count} messages of {channel.topic} ({channel.type}) '
                                 f'and holds {handed[number]}; its index is wrong: run "mcap recover FILE" or "ros2 '
                                 'bag reindex FOLDER", or record it again')


def _unpacked(data: bytes) -> bytes:
    """A message that was packed by itself, unpacked: no CDR begins with zstd's mark."""
    if data[:4] != _ZSTD:
        return data
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError:
        return data                                     # is counted as malformed where it is taken apart
