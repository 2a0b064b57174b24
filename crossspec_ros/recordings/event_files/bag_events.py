"""The events of a bag as a file of events: what is written in other formats."""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events, Packet
from crossspec_ros.recordings.bag import BagReader, ImageFrame
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from crossspec_ros.recordings.event_files.piece import NONE, Piece
from crossspec_ros.recordings.event_files.raw import PacketDecoder
from crossspec_ros.recordings.event_files.to_bag import NOTE


class BagEvents:
    """One event topic of a bag (the one with the most messages, or ``topic``), an ``EventFile``.

    Topics of the encoding ``trigger`` give its triggers. ``offset_ns`` is what the first packet's stamp is after its
    first event. Raises CrossSpecError on a bag that cannot be read or has no events.
    """

    def __init__(self, path: str | Path, topic: str | None = None, image_topic: str | None = None) -> None:
        self.path, self.format = Path(path), 'bag'
        self.dropped: Counter[str] = Counter()
        self._bag = BagReader(path)
        try:
            self._open(topic, image_topic)
        except BaseException:
            self._bag.close()
            raise

    def _open(self, topic: str | None, image_topic: str | None) -> None:
        self._firsts = {name: self._first(name) for name in self._bag.topics_of(EVENT_TYPES)}
        streams = [name for name, packet in self._firsts.items() if packet is not None and packet.encoding != 'trigger']
        if topic is not None and topic not in streams:
            raise CrossSpecError(f'bag {self.path} has no events on {topic}; it has {", ".join(streams) or "none"}')
        if not streams:
            self._bag.require_topics(EVENT_TYPES)
            raise CrossSpecError(f'bag {self.path} has no packets of events')
        topics = self._bag.topics
        self.topic = topic or max(streams, key=lambda name: topics[name].messages)
        packet = self._firsts[self.topic]
        assert packet is not None
        self.encoding, self.width, self.height = packet.encoding, packet.width, packet.height
        pictures = [name for name in self._bag.topics_of(IMAGE_TYPES) if topics[name].messages]
        if image_topic is not None and image_topic not in pictures:
            raise CrossSpecError(f'bag {self.path} has no pictures on {image_topic}; it has '
                                 f'{", ".join(pictures) or "none"}')
        self.image_topic = image_topic or max(pictures, key=lambda name: topics[name].messages, default=None)
        used = {self.topic, self.image_topic, *self._trigger_topics()}
        self.other_topics = [name for name in topics if name not in used and topics[name].messages]
        note = self._note()
        self.header = str(note.get('header', ''))
        first = next((piece for piece in self._packets() if len(piece[1].events)), None)
        self.offset_ns = 0 if first is None else first[0].stamp_ns - int(first[1].events.t_ns[0])
        if abs(self.offset_ns) <= 1:
            self.offset_ns = 0          # a stamp of 1 ns stands for 0, which would mean none
        self._triggers = self._read_triggers()

    def _first(self, topic: str) -> Packet | None:
        message = next(self._bag.messages([topic]), None)
        return None if message is None else message.data

    def _note(self) -> dict[str, Any]:
        """What a conversion to this bag kept of its file."""
        try:
            table = yaml.safe_load((self.path / 'metadata.yaml').read_text('utf-8'))
            note = json.loads(table['rosbag2_bagfile_information']['custom_data'][NOTE])
        except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
            return {}
        return note if isinstance(note, dict) else {}

    def _packets(self) -> Iterator[tuple[Packet, Piece]]:
        decoder = PacketDecoder(self.encoding, self.width, self.height)
        for message in self._bag.messages([self.topic]):
            yield message.data, decoder.piece(message.data)
        self._ending = decoder.finish()
        self.dropped.update(decoder.dropped)
        if self._bag.malformed[self.topic]:
            self.dropped['malformed_message'] = self._bag.malformed[self.topic]

    def _trigger_topics(self) -> list[str]:
        return [name for name, packet in self._firsts.items() if packet is not None and packet.encoding == 'trigger']

    def _read_triggers(self) -> np.ndarray:
        parts = []
        for name in self._trigger_topics():
            decoder = PacketDecoder('trigger', self._firsts[name].width, self._firsts[name].height)
            parts += [decoder.piece(message.data).triggers for message in self._bag.messages([name])]
        if not parts:
            return NONE
        rows = np.concatenate(parts)
        return rows[np.argsort(rows[:, 0], kind='stable')]

    def span_ns(self) -> tuple[int, int]:
        return self._bag.start_ns, self._bag.end_ns

    def pieces(self) -> Iterator[Piece]:
        self.dropped.clear()
        given = 0
        for _, piece in self._packets():
            stop = given
            if len(self._triggers) and len(piece.events):
                stop = max(given, int(np.searchsorted(self._triggers[:, 0], piece.events.t_ns[-1], side='right')))
            more = self._triggers[given:stop]
            yield Piece(piece.events, np.concatenate([more, piece.triggers]) if len(more) else piece.triggers,
                        piece.monitors)
            given = stop
        yield Piece(Events.empty(self.width, self.height), self._triggers[given:], self._ending.monitors)

    def payloads(self) -> Iterator[np.ndarray]:
        """The words of evt3 packets as they are, uint8 (B,) each."""
        self.dropped.clear()
        for packet, _ in self._packets():
            if packet.encoding == 'evt3':
                payload = packet.payload[:len(packet.payload) // 2 * 2]
                yield payload.reshape(-1, 2)[:, ::-1].reshape(-1) if packet.is_bigendian else payload

    def frames(self) -> Iterator[ImageFrame]:
        if self.image_topic is not None:
            for message in self._bag.messages([self.image_topic]):
                yield message.data

    def close(self) -> None:
        self._bag.close()
