"""rosbag2 recordings (sqlite3 and mcap) read and written without ROS, ROS 1 bags read.

Messages are read one at a time in the order of their recording times; memory holds one chunk of each file that is due.
Where a bag carries no message definitions, those of Kilted, event_camera_msgs and this package are used.
"""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Packet
from crossspec_ros.frames import images
from crossspec_ros.recordings.bag_join import JoinedBag, TopicInfo
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES, VIDEO_TYPES, TypeTable
from crossspec_ros.recordings.storages import READABLE, ROS1, Channel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFrame:
    """One sensor_msgs/Image or CompressedImage, not decoded yet.

    Of a compressed picture ``encoding`` is the message's ``format`` and ``height``, ``width`` and ``step`` are 0.
    ``data`` is uint8 (B,). ``reader`` knows the pictures of the topic that came before, None: this one stands alone.
    """

    stamp_ns: int
    frame_id: str
    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: bool
    data: np.ndarray
    compressed: bool
    reader: images.PictureReader | None = field(default=None, compare=False, repr=False)

    def rgb(self) -> np.ndarray:
        """The picture, uint8 (H, W, 3); raises CrossSpecError like ``images.decode_image``."""
        if self.compressed:
            decode = images.decode_compressed if self.reader is None else self.reader.compressed
            return decode(self.encoding, self.data)
        unpack = images.decode_image if self.reader is None else self.reader.image
        return unpack(self.encoding, self.height, self.width, self.step, self.is_bigendian, self.data)


def rgb_frame(stamp_ns: int, rgb: np.ndarray, frame_id: str = 'camera') -> ImageFrame:
    """A picture, uint8 (H, W, 3), as a raw rgb8 frame."""
    height, width = rgb.shape[:2]
    data = images.as_bytes(np.ascontiguousarray(rgb))
    return ImageFrame(stamp_ns, frame_id, 'rgb8', height, width, 3 * width, False, data, False)


@dataclass(frozen=True)
class BagMessage:
    """One message of a bag.

    ``data`` is a Packet, an ImageFrame, the message with its fields as attributes, or None where the type is unknown
    or decoding was not asked for. ``stamp_ns`` is header.stamp, or the recording time ``log_ns`` without a header.
    ``cdr`` are the bytes as they went over the wire.
    """

    topic: str
    type: str
    stamp_ns: int
    log_ns: int
    data: Any
    cdr: bytes


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Make what the parsers throw over damaged files into one error that names the file and the way out."""
    try:
        yield
    except CrossSpecError:
        raise
    except Exception as error:          # bytes of a damaged file can raise anything in a parser
        raise CrossSpecError(
            f'bag {path} cannot be read ({type(error).__name__}: {" ".join(str(error).split())}); it may be damaged: '
            'try "mcap recover FILE" or "ros2 bag reindex DIR", or record it again') from error


class BagReader:
    """A recording, open for reading; a context manager.

    It is the folder of a rosbag2 (with or without metadata.yaml), one of its .mcap or .db3 files (packed with zstd or
    not), or a ROS 1 .bag. ``malformed`` counts messages by topic that are not of their topic's type; they are skipped.
    Raises CrossSpecError naming the file, what it is instead, and the way out.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.malformed: Counter[str] = Counter()
        self._told_of: set[str] = set()
        with _told(self.path):
            self._bag = JoinedBag(self.path)
        try:
            self._types = TypeTable(self.path)
            with _told(self.path):
                for storage in self._bag.storages:
                    for channel in storage.channels:
                        if channel.serialisation in READABLE:
                            self._types.learn(channel.topic, channel.type, channel.definition,
                                              ros1=channel.serialisation == ROS1)
        except CrossSpecError:
            self.close()
            raise

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; closing twice is fine."""
        self._bag.close()

    @property
    def topics(self) -> dict[str, TopicInfo]:
        """Topics by name, in the order of the bag."""
        return dict(self._bag.topics)

    def topics_of(self, types: Collection[str]) -> list[str]:
        """Names of the topics of these types that can be read."""
        return [info.name for info in self._bag.topics.values() if info.type in types and info.readable]

    def require_topics(self, types: Collection[str] = (*EVENT_TYPES, *IMAGE_TYPES)) -> list[str]:
        """Topics of these types; CrossSpecError telling what the bag has instead when there is none."""
        found = [name for name in self.topics_of(types) if self._bag.topics[name].messages]
        if not found:
            there = ', '.join(f'{info.name} ({info.type or "no type"}, {info.messages}'
                              f'{"" if info.readable else ", " + info.serialisation})'
                              for info in self._bag.topics.values())
            raise CrossSpecError(f'bag {self.path} has no usable topic: wanted messages of {" or ".join(types)}; '
                                 f'it has {there or "no topics"}')
        return found

    @property
    def start_ns(self) -> int:
        """Recording time of the first message, ns (0 of an empty bag)."""
        return self._bag.start_ns

    @property
    def end_ns(self) -> int:
        """Recording time of the last message, ns (0 of an empty bag)."""
        return self._bag.end_ns

    @property
    def message_count(self) -> int:
        """Messages that the files count, of all topics."""
        return self._bag.message_count

    def __iter__(self) -> Iterator[BagMessage]:
        return self.messages()

    def messages(self, topics: Collection[str] | None = None, *, start_ns: int | None = None,
                 stop_ns: int | None = None, decode: bool = True) -> Iterator[BagMessage]:
        """Messages of ``topics`` (None: all that can be read) recorded in [start_ns, stop_ns), in that order.

        With ``decode`` False only ``cdr`` is given and ``stamp_ns`` is the recording time, several times faster.
        Raises CrossSpecError for a topic that is not there or of which nothing can be read, where the files are
        damaged, and at the end when they count other messages than they held.
        """
        there = self._bag.topics
        if topics is not None and (missing := set(topics) - there.keys()):
            raise CrossSpecError(f'bag {self.path} has no topic {", ".join(sorted(missing))}; '
                                 f'it has {", ".join(there) or "none"}')
        if topics is not None:
            self._tell_of(topics, decode)
        wanted = [name for name, info in there.items() if info.readable and (topics is None or name in topics)]
        source = self._bag.messages(wanted, start_ns, stop_ns)
        while True:
            with _told(self.path):
                item = next(source, None)
            if item is None:
                return
            message = self._message(*item, decode)
            if message is not None:
                yield message

    def _tell_of(self, topics: Collection[str], decode: bool) -> None:
        """Tell, once, what of the topics that were asked for is not handed out."""
        infos = [self._bag.topics[name] for name in topics]
        unreadable = [info for info in infos if not info.readable]
        if infos and len(unreadable) == len(infos):
            raise CrossSpecError(f'bag {self.path}: {_serialised(unreadable)} cannot be read, only CDR can; name other '
                                 'topics, or record the bag again through ROS 2')
        said = {info.name: f'{_serialised([info])} is left out, only CDR can be read' for info in unreadable}
        for info in infos:
            if info.readable and info.others:
                others = ', '.join(f'{count} of {kind or "no type"} ({way})' for kind, way, count in info.others)
                said[info.name] = (f'{info.name} is read as {info.type} ({info.messages} messages); left out is what '
                                   f'was recorded under its name besides: {others}')
            elif info.readable and decode and info.messages and (why := self._types.why_unknown(info.type)):
                said[info.name] = f'{info.name} ({info.type}) is handed on as bytes: {why}'
        for name, text in said.items():
            if name not in self._told_of:
                self._told_of.add(name)
                logger.warning('bag %s: %s', self.path, text)

    def _message(self, channel: Channel, log_ns: int, data: bytes, decode: bool) -> BagMessage | None:
        """A message made of its bytes; None, counted, when they are not of its type."""
        kind = self._bag.topics[channel.topic].type
        try:
            if channel.serialisation == ROS1:
                data = self._types.from_ros1(kind, data)
            if not decode or not self._types.knows(kind):
                return BagMessage(channel.topic, kind, log_ns, log_ns, None, data)
            converted, stamp_ns = convert(self._types.deserialise(kind, data), kind)
        except Exception as error:      # a message's bytes can be anything, and so can what the parser makes of them
            self.malformed[channel.topic] += 1
            if self.malformed[channel.topic] == 1:
                logger.warning('%s: %s: a message is not a %s and is skipped (%s)', self.path, channel.topic, kind,
                               ' '.join(str(error).split()))
            return None
        return BagMessage(channel.topic, kind, log_ns if stamp_ns is None else stamp_ns, log_ns, converted, data)


def _serialised(infos: Collection[TopicInfo]) -> str:
    return ', '.join(f'{info.name} ({info.messages} messages as {info.serialisation})' for info in infos)


def _stamp_ns(stamp: Any) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def convert(message: Any, type_name: str) -> tuple[Any, int | None]:
    """(what ``BagMessage.data`` holds, header stamp in ns or None without a header) of a deserialised message."""
    header = getattr(message, 'header', None)
    stamp = header.stamp if header is not None else message.timestamp if type_name == VIDEO_TYPES[0] else None
    stamp_ns = _stamp_ns(stamp) if stamp is not None else None
    if type_name in EVENT_TYPES:
        return Packet(encoding=message.encoding, width=int(message.width), height=int(message.height),
                      seq=int(message.seq), time_base_ns=int(message.time_base), stamp_ns=stamp_ns or 0,
                      payload=images.as_bytes(message.events), is_bigendian=bool(message.is_bigendian)), stamp_ns
    if type_name == 'sensor_msgs/msg/Image':
        return ImageFrame(stamp_ns or 0, header.frame_id, message.encoding, int(message.height), int(message.width),
                          int(message.step), bool(message.is_bigendian), images.as_bytes(message.data), False), stamp_ns
    if type_name == 'sensor_msgs/msg/CompressedImage':
        return ImageFrame(stamp_ns or 0, header.frame_id, message.format, 0, 0, 0, False,
                          images.as_bytes(message.data), True), stamp_ns
    return message, stamp_ns


_FOREVER = QosTime(2147483647, 4294967295)
_LATCHED = Qos(QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, _FOREVER, _FOREVER,
               QosLiveliness.AUTOMATIC, _FOREVER, False)


class BagWriter:
    """A new bag folder; a context manager that leaves no metadata.yaml behind when it is left by an exception.

    A bag without metadata.yaml is refused by readers: a half-written one cannot pass for a whole one.
    Raises CrossSpecError when ``path`` exists or cannot be made.
    """

    def __init__(self, path: str | Path, storage: str = 'mcap') -> None:
        if storage not in ('mcap', 'sqlite3'):
            raise CrossSpecError(f'storage must be mcap or sqlite3, got {storage!r}')
        self.path = Path(path)
        if storage == 'sqlite3' and (odd := set(str(self.path)) & set('#?%')):
            # rosbags names the database by a URI in which these mean something else: it would be written elsewhere
            raise CrossSpecError(f'bag {self.path} cannot be written as sqlite3 with {" ".join(sorted(odd))} in its '
                                 'path; take the storage mcap, or another name')
        self._types = TypeTable(self.path)
        self._connections: dict[str, Any] = {}
        try:
            self._writer = Writer(self.path, version=9, storage_plugin=StoragePlugin[storage.upper()])
            self._writer.open()
        except WriterError as error:
            raise CrossSpecError(f'bag {self.path} exists; choose another name or remove it first') from error
        except OSError as error:
            raise CrossSpecError(f'bag {self.path} cannot be written: {error.strerror}') from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Write the index and the metadata."""
        self._writer.close()

    def abort(self) -> None:
        """Stop and leave the bag without metadata."""
        self._writer.abort()

    def note(self, key: str, value: str) -> None:
        """Keep a text in the bag's metadata (``custom_data``)."""
        self._writer.set_custom_data(key, value)

    def types_from(self, reader: BagReader) -> None:
        """Learn the message definitions that another bag carries, for copying its topics."""
        self._types.adopt(reader._types)

    def add_topic(self, topic: str, type_name: str, latched: bool = False) -> None:
        """Declare a topic, with or without messages to come; twice is fine when the type is the same.

        ``latched`` notes the QoS with which late subscribers get the last message too (/tf_static).
        """
        known = self._connections.get(topic)
        if known is not None:
            if known.msgtype != type_name:
                raise CrossSpecError(f'topic {topic} is of type {known.msgtype}, got {type_name}')
            return
        definition, digest = self._types.definition(type_name)
        self._connections[topic] = self._writer.add_connection(
            topic, type_name, msgdef=definition, rihs01=digest, offered_qos_profiles=(_LATCHED,) if latched else ())

    def write_cdr(self, topic: str, type_name: str, log_ns: int, cdr: bytes | memoryview) -> None:
        """Write a message that is serialised already."""
        self.add_topic(topic, type_name)
        self._writer.write(self._connections[topic], log_ns, cdr)

    def write(self, topic: str, type_name: str, log_ns: int, message: Any) -> None:
        """Write a message made with ``make``."""
        self.write_cdr(topic, type_name, log_ns, self._types.serialise(type_name, message))

    def make(self, type_name: str, **fields: Any) -> Any:
        """A message of a type; nested ones are made the same way."""
        return self._types.make(type_name, **fields)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """A std_msgs/Header."""
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        stamp = self.make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
        return self.make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)

    def write_packet(self, topic: str, log_ns: int, packet: Packet, frame_id: str = 'event_camera') -> None:
        """Write a Packet as event_camera_msgs/EventPacket."""
        message = self.make(EVENT_TYPES[0], header=self.header(packet.stamp_ns, frame_id), height=packet.height,
                            width=packet.width, seq=packet.seq, time_base=packet.time_base_ns,
                            encoding=packet.encoding, is_bigendian=packet.is_bigendian, events=packet.payload)
        self.write(topic, EVENT_TYPES[0], log_ns, message)

    def write_frame(self, topic: str, log_ns: int, frame: ImageFrame) -> None:
        """Write an ImageFrame as the message that it came from."""
        header = self.header(frame.stamp_ns, frame.frame_id)
        if frame.compressed:
            type_name, fields = IMAGE_TYPES[1], {'format': frame.encoding}
        else:
            type_name = IMAGE_TYPES[0]
            fields = {'height': frame.height, 'width': frame.width, 'encoding': frame.encoding,
                      'is_bigendian': int(frame.is_bigendian), 'step': frame.step}
        self.write(topic, type_name, log_ns, self.make(type_name, header=header, data=frame.data, **fields))

    def write_rgb(self, topic: str, log_ns: int, stamp_ns: int, rgb: np.ndarray, frame_id: str = 'camera') -> None:
        """Write a picture, uint8 (H, W, 3), as a raw rgb8 sensor_msgs/Image."""
        self.write_frame(topic, log_ns, rgb_frame(stamp_ns, rgb, frame_id))

    def write_compressed(self, topic: str, log_ns: int, stamp_ns: int, format: str, data: bytes,
                         frame_id: str = 'camera') -> None:
        """Write the bytes of a JPEG or PNG as sensor_msgs/CompressedImage."""
        frame = ImageFrame(stamp_ns, frame_id, format, 0, 0, 0, False, images.as_bytes(data), True)
        self.write_frame(topic, log_ns, frame)
