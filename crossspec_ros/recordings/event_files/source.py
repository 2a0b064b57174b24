"""A file of events, with pictures beside it or in it, as messages: what is converted, and what is played as it lies."""
from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.encode import encode_mono
from crossspec_ros.events.types import Packet
from crossspec_ros.recordings.bag import ImageFrame
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from crossspec_ros.recordings.event_files.evt3_stream import Evt3PieceEncoder
from crossspec_ros.recordings.event_files.opening import open_event_file
from crossspec_ros.recordings.event_files.piece import Piece
from crossspec_ros.recordings.event_files.pictures import PicturesBeside, as_png, as_raw
from crossspec_ros.recordings.event_files.raw import RawFile
from crossspec_ros.recordings.event_files.slicing import Slicer
from crossspec_ros.recordings.replay import ReplayMessage

EVENT_TOPIC = '/event_camera/events'
TRIGGER_TOPIC = '/event_camera/triggers'
IMAGE_TOPIC = '/camera/image'
_EVT3_SIDE = 1 << 11
_TRIGGER_SPAN_NS = 1 << 32          # what a trigger packet can say after its time base
_EVT3_LATEST_NS = 12 * 24 * 3600 * 1_000_000_000


@dataclass(frozen=True)
class FileOptions:
    """How a file of events becomes messages.

    ``encoding`` is evt3, mono, or auto: the words of the file as they are where they are EVT3; else evt3 where it can
    say the times and pixels, mono (which has times since 1970 and more than 2048 pixels) where not. ``offset_ns`` is
    added to the stamps, not to the times in the packets: those stay the sensor's. ``images`` is compressed (files as
    they are, PNG of what is not packed) or raw. ``size`` is the sensor's, where the file does not say it.
    """

    encoding: str = 'auto'
    packet_ms: int = 10
    offset_ns: int = 0
    topic: str = EVENT_TOPIC
    image_topic: str = IMAGE_TOPIC
    images: str = 'compressed'
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for field, value, choices in (('encoding', self.encoding, ('auto', 'evt3', 'mono')),
                                      ('images', self.images, ('raw', 'compressed'))):
            if value not in choices:
                raise CrossSpecError(f'{field} must be one of {", ".join(choices)}, got {value!r}')
        if not 1 <= self.packet_ms <= 1000:
            raise CrossSpecError(f'packet_ms must be 1 to 1000, got {self.packet_ms}')


class EventFileSource:
    """A file of events as a ``replay.Source``; ``pictures`` are those beside it.

    Packets are stamped with their first event plus the offsets (the file's own and that of the options) and are due at
    their end; a stamp of 0, which would mean none, is 1 ns. ``dropped`` counts what is not handed on, by cause.
    """

    def __init__(self, path: str | Path, options: FileOptions = FileOptions(),
                 pictures: PicturesBeside | None = None) -> None:
        self.name = str(path)
        self.options = options
        self.file = open_event_file(path, options.size)
        try:
            self._open(pictures)
        except BaseException:
            self.file.close()
            raise

    def _open(self, pictures: PicturesBeside | None) -> None:
        options, self._beside = self.options, pictures
        self.dropped: Counter[str] = Counter()
        first_ns, last_ns = self.file.span_ns()
        self.offset_ns = self.file.offset_ns + options.offset_ns
        if first_ns + self.offset_ns < 0:
            raise CrossSpecError(f'offset must leave the first event ({first_ns / 1e9:.6f} s) at >= 0 s, '
                                 f'got {self.offset_ns / 1e9:.6f} s')
        fits = max(self.file.width, self.file.height) <= _EVT3_SIDE and 0 <= first_ns < _EVT3_LATEST_NS
        self.encoding = options.encoding if options.encoding != 'auto' else 'evt3' if fits else 'mono'
        self.as_it_is = isinstance(self.file, RawFile) and self.file.format == 'evt3' and self.encoding == 'evt3'
        self._slice_ns = options.packet_ms * 1_000_000
        self.topics = {options.topic: EVENT_TYPES[0]}
        if self.encoding == 'mono':
            self.topics[TRIGGER_TOPIC] = EVENT_TYPES[0]
        picture = next(self._frames(), None)
        if picture is not None:
            self.image_role = 'compressed' if options.images == 'compressed' else 'image'
            suffix = '/compressed' if options.images == 'compressed' else ''
            self.image_topic = options.image_topic + suffix
            self.topics[self.image_topic] = IMAGE_TYPES[options.images == 'compressed']
        self.start_ns = max(0, (first_ns + self.offset_ns) // self._slice_ns * self._slice_ns)
        self.end_ns: int | None = last_ns + self.offset_ns + self._slice_ns
        if picture is not None:
            self.start_ns = min(self.start_ns, picture.stamp_ns)
            self.end_ns = max(self.end_ns, self._beside.last_ns) if self._beside is not None else self.end_ns

    def messages(self, start_ns: int) -> Iterator[ReplayMessage]:
        self.dropped.clear()
        packets = self._as_they_are() if self.as_it_is else self._encoded()
        for message in heapq.merge(packets, self._images(), key=lambda message: message.due_ns):
            if message.due_ns >= start_ns:
                yield message
        self.dropped.update(self.file.dropped)
        if self._beside is not None:
            self.dropped.update(self._beside.dropped)

    def _message(self, topic: str, due_ns: int, packet: Packet) -> ReplayMessage:
        return ReplayMessage(topic, EVENT_TYPES[0], 'events', due_ns, packet.stamp_ns, packet)

    def _stamp_ns(self, t_ns: int) -> int:
        return max(1, t_ns + self.offset_ns)

    def _as_they_are(self) -> Iterator[ReplayMessage]:
        """The words of an EVT3 file, all of them, in packets."""
        assert isinstance(self.file, RawFile)
        newest_us, due_ns = self.file.span_ns()[0] // 1000, 0
        for seq, (payload, first, last) in enumerate(self.file.payloads(self._slice_ns // 1000)):
            stamp_ns = self._stamp_ns((newest_us if first < 0 else first) * 1000)
            newest_us = max(newest_us, last)
            packet = Packet('evt3', self.file.width, self.file.height, seq, 0, stamp_ns, payload)
            due_ns = max(due_ns, stamp_ns, self._stamp_ns(newest_us * 1000))
            yield self._message(self.options.topic, due_ns, packet)

    def _encoded(self) -> Iterator[ReplayMessage]:
        encoder = Evt3PieceEncoder(self.dropped)
        slicer = Slicer(self._slice_ns, self.dropped)
        seq = {self.options.topic: 0, TRIGGER_TOPIC: 0}
        for end_ns, piece in slicer.slices(self.file.pieces()):
            for topic, packet in self._packets(piece, encoder):
                numbered = Packet(packet.encoding, packet.width, packet.height, seq[topic], packet.time_base_ns,
                                  packet.stamp_ns, packet.payload)
                seq[topic] += 1
                yield self._message(topic, self._stamp_ns(end_ns), numbered)

    def _packets(self, piece: Piece, encoder: Evt3PieceEncoder) -> Iterator[tuple[str, Packet]]:
        size = self.file.width, self.file.height
        events, triggers = piece.events, piece.triggers
        if self.encoding == 'evt3':
            times = [int(rows[0]) for rows in (events.t_ns, triggers[:, 0], piece.monitors[:, 0]) if len(rows)]
            yield self.options.topic, Packet('evt3', *size, 0, 0, self._stamp_ns(min(times)), encoder.encode(piece))
            return
        self.dropped['monitors'] += len(piece.monitors)
        if len(events):
            base_ns = int(events.t_ns.min())
            stamp_ns = self._stamp_ns(int(events.t_ns[0]))
            yield self.options.topic, Packet('mono', *size, 0, base_ns, stamp_ns, encode_mono(events, base_ns))
        while len(triggers):
            base_ns = int(triggers[0, 0])
            stop = int(np.searchsorted(triggers[:, 0], base_ns + _TRIGGER_SPAN_NS))
            now, triggers = triggers[:stop], triggers[stop:]
            words = (now[:, 0] - base_ns).astype('<u8') | now[:, 2].astype('<u8') << np.uint64(48) | (
                now[:, 1].astype('<u8') << np.uint64(63))
            yield TRIGGER_TOPIC, Packet('trigger', *size, 0, base_ns, self._stamp_ns(base_ns), words.view(np.uint8))

    def _frames(self) -> Iterator[ImageFrame]:
        """Pictures stamped in the clock of the messages: those beside the file, or else those in it."""
        if self._beside is not None:
            yield from self._beside.frames(self.start_of_events_ns())
            return
        for frame in self.file.frames():
            yield ImageFrame(self._stamp_ns(frame.stamp_ns), frame.frame_id, frame.encoding, frame.height, frame.width,
                             frame.step, frame.is_bigendian, frame.data, frame.compressed)

    def start_of_events_ns(self) -> int:
        """The first event in the clock of the messages."""
        return self.file.span_ns()[0] + self.offset_ns

    def _images(self) -> Iterator[ReplayMessage]:
        wanted = self.options.images == 'compressed'
        for frame in self._frames():
            try:
                if frame.compressed != wanted:
                    frame = as_png(frame) if wanted else as_raw(frame)
            except CrossSpecError:
                self.dropped['damaged_pictures'] += 1
                continue
            yield ReplayMessage(self.image_topic, IMAGE_TYPES[wanted], self.image_role, frame.stamp_ns, frame.stamp_ns,
                                frame)

    def close(self) -> None:
        self.file.close()
