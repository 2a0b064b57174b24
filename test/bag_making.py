"""Recordings as other tools leave them, written with the formats' own libraries."""
from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mcap.writer import CompressionType, IndexType, Writer
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from crossspec_ros.recordings.bag import BagReader, BagWriter

IMAGE = 'sensor_msgs/msg/Image'
RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def image_cdr(folder: Path, stamp_ns: int) -> bytes:
    """The bytes of a small sensor_msgs/Image; ``folder`` is where a bag may be made."""
    bag = folder / f'one_{stamp_ns}'
    if not bag.exists():
        with BagWriter(bag) as writer:
            writer.write_rgb('/i', 0, stamp_ns, RGB)
    with BagReader(bag) as reader:
        return next(reader.messages(decode=False)).cdr


def image_definition() -> str:
    """The ros2msg definition of sensor_msgs/Image."""
    return get_typestore(Stores.ROS2_KILTED).generate_msgdef(IMAGE, ros_version=2)[0]


def write_mcap(path: Path, times: Sequence[int], cdr: bytes, *, topic: str = '/image', type_name: str = IMAGE,
               profile: str = 'ros2', other: tuple[str, str, bytes] | None = None, chunk_size: int = 300,
               compression: CompressionType = CompressionType.ZSTD, chunked: bool = True, summary: bool = True,
               definition: str | None = None, metadata: dict[str, str] | None = None) -> Path:
    """An mcap file with ``cdr`` at each of ``times``; ``other`` is (encoding, schema encoding, payload) of a second
    topic, /other, with two messages.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as stream:
        writer = Writer(stream, chunk_size=chunk_size, compression=compression, use_chunking=chunked,
                        index_types=IndexType.ALL if summary else IndexType.NONE, repeat_channels=summary,
                        repeat_schemas=summary, use_statistics=summary, use_summary_offsets=summary)
        writer.start(profile=profile, library='somebody')
        schema = writer.register_schema(type_name, 'ros2msg', (image_definition() if definition is None
                                                               else definition).encode())
        channel = writer.register_channel(topic, 'cdr', schema, metadata or {})
        if other:
            second = writer.register_channel('/other', other[0], writer.register_schema('other', other[1], b'{}'))
            for time in (1, 2):
                writer.add_message(second, time, other[2], time)
        for time in times:
            writer.add_message(channel, time, cdr, time)
        writer.finish()
    return path


def split_bag(folder: Path, parts: Sequence[Sequence[int]], storage: str = 'mcap') -> Path:
    """A bag of several files, /image in each, at ``parts``' times; its metadata as rosbag2 writes it."""
    from crossspec_ros.recordings.bag_edit import finish, partial_path
    segments = []
    for number, times in enumerate(parts):
        segments.append(partial_path(folder) / str(number))
        with BagWriter(segments[-1], storage) as bag:
            for time in times:
                bag.write_rgb('/image', time, time, RGB)
    finish(segments, folder)
    return folder


def leave_log(database: Path, times: Sequence[int], cdr: bytes) -> None:
    """What a recorder that is killed leaves: messages of topic 1 in a log beside the database, the last ``times``."""
    live = database.with_name('live')
    database.rename(live)
    recorder = sqlite3.connect(live, isolation_level=None)
    recorder.execute('PRAGMA journal_mode = WAL')
    recorder.execute('PRAGMA wal_autocheckpoint = 0')
    for time in times:
        recorder.execute('INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)', (time, cdr))
    for suffix in ('', '-wal'):
        database.with_name(database.name + suffix).write_bytes(live.with_name(f'live{suffix}').read_bytes())
    recorder.close()
    live.unlink()


def write_ros1(path: Path, count: int) -> Path:
    """A ROS 1 bag with ``count`` images, whose headers count, and messages of a type of its own."""
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg('float64 speed', 'car_msgs/msg/Speed'))
    with Ros1Writer(path) as bag:
        image = bag.add_connection('/image', IMAGE, typestore=store)
        speed = bag.add_connection('/speed', 'car_msgs/msg/Speed', typestore=store)
        for number in range(count):
            stamp = store.types['builtin_interfaces/msg/Time'](sec=7, nanosec=number)
            header = store.types['std_msgs/msg/Header'](seq=number + 50, stamp=stamp, frame_id='cam')
            message = store.types[IMAGE](header=header, height=4, width=6, encoding='rgb8', is_bigendian=0, step=18,
                                         data=RGB.reshape(-1))
            bag.write(image, 1000 + number, store.serialize_ros1(message, IMAGE))
            bag.write(speed, 1000 + number, store.serialize_ros1(store.types['car_msgs/msg/Speed'](speed=number / 2),
                                                                'car_msgs/msg/Speed'))
    return path


def times_read(path: Path, topics: Sequence[str] | None = None) -> list[int]:
    """Recording times of all that a bag hands out."""
    with BagReader(path) as bag:
        return [message.log_ns for message in bag.messages(topics)]
