"""A DSEC sequence as messages: what the converter writes and what the player plays without converting."""
from __future__ import annotations

import heapq
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.frames.images import as_bytes, decode_compressed
from crossspec_ros.recordings.bag import ImageFrame, rgb_frame
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from crossspec_ros.recordings.dsec import EventFile, read_rectify_map, rectify_map_size
from crossspec_ros.recordings.dsec_calibration import Aligner, Calibration, read_calibration
from crossspec_ros.recordings.dsec_pictures import Picture, read_pictures
from crossspec_ros.recordings.packing import slice_by_time
from crossspec_ros.recordings.replay import ReplayMessage

EVENT_TOPIC = '/event_camera/events'
IMAGE_TOPIC = '/camera/image'
COMPRESSED_TOPIC = '/camera/image/compressed'
EVENT_FRAME = 'event_camera'
RGB_FRAME = 'camera'
_PICTURES_AHEAD = 4
_CAUSES = {'outside_sensor': 'their pixels are outside of the sensor', 'times_back': 'their times go back too far',
           'unknown_polarity': 'their polarity is neither ON nor OFF',
           'outside_time': 'their times are far from those of their neighbours'}


@dataclass(frozen=True)
class DsecOptions:
    """How a sequence becomes messages.

    ``encoding`` evt3 or mono, in packets of ``packet_ms``; ``images`` raw (rgb8) or compressed (the PNG files as they
    are); ``align`` warps the pictures into the raw event view, 640x480 (compressed ones are made anew).
    """

    encoding: str = 'evt3'
    packet_ms: int = 10
    images: str = 'raw'
    align: bool = False

    def __post_init__(self) -> None:
        for field, value, choices in (('encoding', self.encoding, ('evt3', 'mono')),
                                      ('images', self.images, ('raw', 'compressed'))):
            if value not in choices:
                raise CrossSpecError(f'{field} must be one of {", ".join(choices)}, got {value!r}')
        if not 1 <= self.packet_ms <= 1000:
            raise CrossSpecError(f'packet_ms must be 1 to 1000, got {self.packet_ms}')


class DsecSource:
    """The left cameras of a sequence, a ``replay.Source``.

    Event messages are due at the end of their packet and stamped with their first event; images are due at the end of
    their exposure and stamped with its middle. ``found`` has a line for each thing that is not as in DSEC, and what was
    done. Raises CrossSpecError naming the file that is missing or damaged.
    """

    def __init__(self, root: str | Path, options: DsecOptions = DsecOptions()) -> None:
        self.root = Path(root)
        self.name = str(root)
        self.options = options
        if not self.root.is_dir():
            raise CrossSpecError(f'DSEC sequence {root} is not a folder')
        self.pictures: list[Picture]
        self.pictures, self.found = read_pictures(self.root)
        self.calibration: Calibration | None = None
        self._aligner: Aligner | None = None
        calibration = self.root / 'calibration' / 'cam_to_cam.yaml'
        if calibration.exists() or options.align:
            self.calibration = read_calibration(calibration)
        if options.align:
            rectify_map = read_rectify_map(self.root / 'events' / 'left' / 'rectify_map.h5')
            self._aligner = Aligner(self.calibration, rectify_map)
        stamps = [picture.stamp_us for picture in self.pictures]
        self.event_file = EventFile(self.root / 'events' / 'left' / 'events.h5', (min(stamps), max(stamps)),
                                    *self._sensor())
        self.found += self.event_file.found
        self.notes = tuple(self.found)
        self.image_topic = IMAGE_TOPIC if options.images == 'raw' else COMPRESSED_TOPIC
        self.image_type = IMAGE_TYPES[0] if options.images == 'raw' else IMAGE_TYPES[1]
        self.topics = {EVENT_TOPIC: EVENT_TYPES[0], self.image_topic: self.image_type}
        self.image_frame_id = EVENT_FRAME if options.align else RGB_FRAME
        # Packets lie on the grid of whole packets of the image clock, wherever one starts.
        grid_us = options.packet_ms * 1000
        self.start_us = min(self.event_file.first_us, self.pictures[0].ready_us) // grid_us * grid_us
        self.start_ns = self.start_us * 1000
        self.end_ns: int | None = (max(self.event_file.last_us // grid_us * grid_us + grid_us,
                                       self.pictures[-1].ready_us)) * 1000

    def _sensor(self) -> tuple[tuple[int, int] | None, str]:
        """(size, file) of the event camera as the files beside the events say it."""
        size = rectify_map_size(self.root / 'events' / 'left' / 'rectify_map.h5')
        if size is not None or self.calibration is None:
            return size, 'rectify_map.h5'
        return (self.calibration.event.width, self.calibration.event.height), 'cam_to_cam.yaml'

    @property
    def dropped(self) -> Counter[str]:
        """Events dropped while reading so far, by cause."""
        return Counter({f'events_{cause}': count for cause, count in self.event_file.dropped.items() if count})

    def lost(self) -> list[str]:
        """A line for what was met while reading so far: events that were put in order or dropped, with counts."""
        return event_lines(self.event_file.path, self.event_file.sorted, self.event_file.dropped)

    def messages(self, start_ns: int) -> Iterator[ReplayMessage]:
        packetizer = Packetizer(self.options.encoding, self.event_file.width, self.event_file.height)
        assert self.end_ns is not None
        return self.part(start_ns // 1000, self.end_ns // 1000 + 1, packetizer)

    def part(self, start_us: int, stop_us: int, packetizer: Packetizer) -> Iterator[ReplayMessage]:
        """Messages due in (start_us, stop_us] of events, [start_us, stop_us) of images, in the order they are due.

        ``start_us`` and ``stop_us`` must lie on the grid of packets for the parts to fit together.
        """
        return heapq.merge(self._packets(start_us, stop_us, packetizer), self._images(start_us, stop_us),
                           key=lambda message: message.due_ns)

    def _packets(self, start_us: int, stop_us: int, packetizer: Packetizer) -> Iterator[ReplayMessage]:
        chunks = self.event_file.events(start_us, stop_us)
        for end_ns, events in slice_by_time(chunks, self.options.packet_ms * 1_000_000, self.start_ns):
            packet = packetizer.packet(events, int(events.t_ns[0]))
            yield ReplayMessage(EVENT_TOPIC, EVENT_TYPES[0], 'events', end_ns, packet.stamp_ns, packet)

    def _images(self, start_us: int, stop_us: int) -> Iterator[ReplayMessage]:
        role = 'image' if self.options.images == 'raw' else 'compressed'
        wanted = [picture for picture in self.pictures if start_us <= picture.ready_us < stop_us]
        for picture, frame in zip(wanted, _ahead(self._frame, wanted), strict=True):
            yield ReplayMessage(self.image_topic, self.image_type, role, picture.ready_us * 1000, frame.stamp_ns, frame)

    def _frame(self, picture: Picture) -> ImageFrame:
        stamp_ns = picture.stamp_us * 1000
        try:
            data = picture.path.read_bytes()
        except OSError as error:
            raise CrossSpecError(f'image {picture.path} cannot be read ({error.strerror}); unpack it again') from error
        try:
            if self.options.images == 'compressed' and self._aligner is None:
                return ImageFrame(stamp_ns, self.image_frame_id, 'png', 0, 0, 0, False, as_bytes(data), True)
            rgb = decode_compressed('png', data)
            rgb = rgb if self._aligner is None else self._aligner(rgb)
        except CrossSpecError as error:
            raise CrossSpecError(f'image {picture.path}: {error}; unpack it again') from error
        if self.options.images == 'compressed':
            return ImageFrame(stamp_ns, self.image_frame_id, 'png', 0, 0, 0, False, _png(rgb), True)
        return rgb_frame(stamp_ns, rgb, self.image_frame_id)

    def close(self) -> None:
        self.event_file.close()


def event_lines(path: Path, in_order: int, dropped: Mapping[str, int]) -> list[str]:
    """What happened to events that were not as they should be, a line each."""
    lines = [f'{path}: times go back: {in_order} events were out of order and are put in order'] if in_order else []
    lines += [f'{path}: {count} events are dropped: {_CAUSES[cause]}' for cause, count in dropped.items() if count]
    return lines


def _ahead(work: Callable[[Picture], ImageFrame], pictures: Sequence[Picture]) -> Iterator[ImageFrame]:
    """Results in order, worked out some pictures ahead: unpacking PNG takes longer than all else."""
    with ThreadPoolExecutor(min(_PICTURES_AHEAD, os.cpu_count() or 1), 'picture') as pool:
        pending = deque(pool.submit(work, picture) for picture in pictures[:_PICTURES_AHEAD])
        try:
            for number in range(len(pictures)):
                frame = pending.popleft().result()
                if number + _PICTURES_AHEAD < len(pictures):
                    pending.append(pool.submit(work, pictures[number + _PICTURES_AHEAD]))
                yield frame
        finally:
            for future in pending:
                future.cancel()


def _png(rgb: np.ndarray) -> np.ndarray:
    return cv2.imencode('.png', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].reshape(-1)
