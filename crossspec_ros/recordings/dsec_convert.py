"""DSEC to rosbag2, in segments that each are whole, so that a conversion that was stopped goes on where it was.

``OUT.partial`` holds the finished segments (bags of their own) and ``journal.json``, which says what they were made
of. When the last segment is done they become one bag at ``OUT`` by a rename.
"""
from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossspec_ros.events.encode import Packetizer
from crossspec_ros.recordings.bag import BagWriter
from crossspec_ros.recordings.bag_edit import check_out, finish, partial_path
from crossspec_ros.recordings.dsec_calibration import Camera
from crossspec_ros.recordings.dsec_source import (
    EVENT_FRAME,
    EVENT_TOPIC,
    RGB_FRAME,
    DsecOptions,
    DsecSource,
    event_lines,
)
from crossspec_ros.recordings.journal import Journal
from crossspec_ros.recordings.replay import ReplayMessage

logger = logging.getLogger(__name__)

SEGMENT_MS = 10_000
INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
TF_TYPE = 'tf2_msgs/msg/TFMessage'
EVENT_CAUSES = ('outside_sensor', 'unknown_polarity', 'times_back')


@dataclass(frozen=True)
class Converted:
    """What a conversion did: messages and events written in all, and segments found done from an earlier run.

    ``found`` has a line for each thing that was not as in DSEC, and what was done; ``dropped`` counts events by cause.
    """

    packets: int
    images: int
    events: int
    seconds: float
    resumed_segments: int
    found: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)


def convert(root: str | Path, out: str | Path, options: DsecOptions = DsecOptions(), *, storage: str = 'mcap',
            advance: Callable[[float], None] = lambda seconds: None) -> Converted:
    """Convert a sequence; ``advance`` gets the recorded seconds done since its last call.

    Raises CrossSpecError on a broken sequence (what is done stays in ``OUT.partial``), when ``out`` exists, and when
    ``OUT.partial`` was made of another sequence or with other options.
    """
    out = Path(out)
    check_out(out)
    source = DsecSource(root, options)
    try:
        assert source.end_ns is not None
        journal = Journal(partial_path(out), {'options': asdict(options), 'storage': storage, **_fingerprint(source)})
        resumed = len(journal.segments)
        span_us = max(1, SEGMENT_MS // options.packet_ms) * options.packet_ms * 1000
        count = max(1, -(-(source.end_ns // 1000 + 1 - source.start_us) // span_us))
        for number in range(count):
            if number >= len(journal.segments):
                _convert_segment(source, journal, number, span_us, storage)
            advance(min(span_us, source.end_ns // 1000 - source.start_us - number * span_us) / 1e6)
    finally:
        source.close()
    finish([journal.folder / f'segment_{number:05d}' for number in range(count)], out)
    return _account(source, journal, resumed)


def _account(source: DsecSource, journal: Journal, resumed: int) -> Converted:
    """Everything that was written and dropped: no event of the file is without a place."""
    assert source.end_ns is not None
    total = Counter[str]()
    for segment in journal.segments:
        total.update(segment)
    dropped = {cause: total[cause] for cause in EVENT_CAUSES if total[cause]}
    if stray := source.event_file.count - total['events'] - sum(dropped.values()):
        dropped['outside_time'] = stray
    found = (*source.found, *event_lines(source.event_file.path, total['in_order'], dropped))
    return Converted(total['packets'], total['images'], total['events'], (source.end_ns - source.start_ns) / 1e9,
                     resumed, found, dropped)


def length_s(root: str | Path) -> float:
    """Length of a sequence, s; raises CrossSpecError like ``DsecSource``."""
    source = DsecSource(root)
    source.close()
    assert source.end_ns is not None
    return (source.end_ns - source.start_ns) / 1e9


def _fingerprint(source: DsecSource) -> dict[str, Any]:
    """What tells whether a journal belongs to this sequence as it is now."""
    return {'events': source.event_file.count, 'bytes': source.event_file.path.stat().st_size,
            'pictures': len(source.pictures), 'start_ns': source.start_ns, 'end_ns': source.end_ns}


def _convert_segment(source: DsecSource, journal: Journal, number: int, span_us: int, storage: str) -> None:
    start_us = source.start_us + number * span_us
    folder = journal.folder / f'segment_{number:05d}'
    shutil.rmtree(folder, ignore_errors=True)
    packetizer = _packetizer_at(source, start_us, journal.segments[-1]['next_seq'] if journal.segments else 0)
    packets = images = 0
    reader = source.event_file
    events, in_order, before = reader.given, reader.sorted, Counter(reader.dropped)
    with BagWriter(folder, storage) as bag:
        writer = _SegmentWriter(bag, source)
        if number == 0:
            writer.write_transforms()
        for message in source.part(start_us, start_us + span_us, packetizer):
            writer.write(message)
            packets += message.role == 'events'
            images += message.role != 'events'
    journal.done({'packets': packets, 'images': images, 'next_seq': packetizer.next_seq,
                  'events': reader.given - events, 'in_order': reader.sorted - in_order,
                  **{cause: reader.dropped[cause] - before[cause] for cause in EVENT_CAUSES}})


def _packetizer_at(source: DsecSource, start_us: int, next_seq: int) -> Packetizer:
    """A packetizer in the state in which the segment before left it, whether or not that was in this run.

    evt3 tells time by its changes: the encoder has to know the time it told last, or the decoder's would jump.
    """
    packetizer = Packetizer(source.options.encoding, source.event_file.width, source.event_file.height,
                            first_seq=next_seq)
    last = source.event_file.last_before(start_us)
    if len(last):
        packetizer.packet(last, 0)
        packetizer.next_seq = next_seq
    return packetizer


class _SegmentWriter:
    """Writes messages of a sequence, and camera infos beside them."""

    def __init__(self, bag: BagWriter, source: DsecSource) -> None:
        self._bag = bag
        self._source = source
        for topic, type_name in source.topics.items():
            bag.add_topic(topic, type_name)
        self._infos: dict[str, tuple[str, Any]] = {}
        if source.calibration is not None:
            event = _raw_info(source.calibration.event)
            rgb = event if source.options.align else _rectified_info(source.calibration.rgb)
            for topic, fields in ((EVENT_TOPIC, event), (source.image_topic, rgb)):
                info_topic = f'{"/".join(topic.split("/")[:2])}/camera_info'
                self._infos[topic] = (info_topic, fields)
                bag.add_topic(info_topic, INFO_TYPE)
            bag.add_topic('/tf_static', TF_TYPE, latched=True)

    def write(self, message: ReplayMessage) -> None:
        """Write a message; an image gets its CameraInfo, so does an event packet once a second."""
        if message.role == 'events':
            self._bag.write_packet(message.topic, message.due_ns, message.data, EVENT_FRAME)
        else:
            self._bag.write_frame(message.topic, message.due_ns, message.data)
        due = message.role != 'events' or message.data.seq % self._packets_a_second() == 0
        if due and message.topic in self._infos:
            frame_id = EVENT_FRAME if message.role == 'events' else self._source.image_frame_id
            topic, fields = self._infos[message.topic]
            bag = self._bag
            roi = bag.make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0,
                           do_rectify=False)
            info = bag.make(INFO_TYPE, header=bag.header(message.stamp_ns, frame_id), binning_x=0, binning_y=0, roi=roi,
                            **fields)
            bag.write(topic, INFO_TYPE, message.due_ns, info)

    def _packets_a_second(self) -> int:
        return max(1, 1000 // self._source.options.packet_ms)

    def write_transforms(self) -> None:
        """/tf_static: where the RGB camera's rectified frame is in the event camera's raw one."""
        calibration = self._source.calibration
        if calibration is None:
            logger.warning('%s has no calibration/cam_to_cam.yaml: the bag gets no CameraInfo and no /tf_static',
                           self._source.root)
            return
        pose = np.linalg.inv(calibration.rgb_from_event)
        pose[:3, :3] = pose[:3, :3] @ calibration.rgb.rotation.T
        bag = self._bag
        geometry = 'geometry_msgs/msg/'
        x, y, z, w = _quaternion(pose[:3, :3])
        transform = bag.make(f'{geometry}Transform',
                             translation=bag.make(f'{geometry}Vector3', x=pose[0, 3], y=pose[1, 3], z=pose[2, 3]),
                             rotation=bag.make(f'{geometry}Quaternion', x=x, y=y, z=z, w=w))
        stamped = bag.make(f'{geometry}TransformStamped', header=bag.header(self._source.start_ns, EVENT_FRAME),
                           child_frame_id=RGB_FRAME, transform=transform)
        bag.write('/tf_static', TF_TYPE, self._source.start_ns, bag.make(TF_TYPE, transforms=[stamped]))


def _raw_info(camera: Camera) -> dict[str, Any]:
    """CameraInfo fields of a camera whose pictures are not rectified."""
    return {'height': camera.height, 'width': camera.width, 'distortion_model': 'plumb_bob',
            'd': np.resize(np.append(camera.distortion, np.zeros(5)), 5), 'k': camera.matrix.reshape(-1),
            'r': camera.rotation.reshape(-1), 'p': _projection(camera.rect_matrix)}


def _rectified_info(camera: Camera) -> dict[str, Any]:
    """CameraInfo fields of a camera whose pictures are rectified already."""
    return {'height': camera.rect_height, 'width': camera.rect_width, 'distortion_model': 'plumb_bob', 'd': np.zeros(5),
            'k': camera.rect_matrix.reshape(-1), 'r': np.eye(3).reshape(-1), 'p': _projection(camera.rect_matrix)}


def _projection(matrix: np.ndarray) -> np.ndarray:
    return np.hstack([matrix, np.zeros((3, 1))]).reshape(-1)


def _quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """(x, y, z, w) of a rotation matrix: an eigenvector of Bar-Itzhack's symmetric matrix (2000)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    symmetric = np.array([[a - e - i, b + d, c + g, h - f], [b + d, e - a - i, f + h, c - g],
                          [c + g, f + h, i - a - e, d - b], [h - f, c - g, d - b, a + e + i]]) / 3.0
    vector = np.linalg.eigh(symmetric)[1][:, -1]
    vector = vector if vector[3] >= 0 else -vector
    return float(vector[0]), float(vector[1]), float(vector[2]), float(vector[3])
