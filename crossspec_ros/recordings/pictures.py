"""The pictures of a bag's topic on their way to the graph: with the range they use, and out of video packets."""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.images import PictureReader
from crossspec_ros.recordings.bag import BagMessage, BagReader, ImageFrame
from crossspec_ros.recordings.bag_types import IMAGE_TYPES
from crossspec_ros.recordings.replay import ReplayMessage
from crossspec_ros.recordings.topics import is_video
from crossspec_ros.recordings.video import VideoDecoder, packet_of

logger = logging.getLogger(__name__)

_FIRST_PICTURES = 8


class TopicPictures:
    """What the pictures of one topic need to be read; ``notes`` are lines about its first pictures.

    ``type`` is the message type that comes out: video becomes raw images. ``dropped`` counts video packets by cause.
    """

    def __init__(self, bag: BagReader, topic: str) -> None:
        self.topic = topic
        self.notes: list[str] = []
        self.dropped: Counter[str] = Counter()
        self._told = self.notes.append
        self._reader = PictureReader(topic, lambda line: self._told(line))
        self._video = is_video(bag, topic)
        self.type = IMAGE_TYPES[0] if self._video else bag.topics[topic].type
        if not self._video:
            self._look_at_first(bag)
        self._told = logger.warning

    def _look_at_first(self, bag: BagReader) -> None:
        for message in islice(bag.messages([self.topic]), _FIRST_PICTURES):
            if isinstance(message.data, ImageFrame):
                try:
                    replace(message.data, reader=self._reader).rgb()
                except CrossSpecError as error:
                    logger.debug('%s: a picture cannot be read: %s', self.topic, error)     # counted where it is played

    def passed(self, messages: Iterable[ReplayMessage]) -> Iterator[ReplayMessage]:
        """The messages, those of the topic with what their pictures need."""
        if not self._video:
            for message in messages:
                if message.topic == self.topic and isinstance(message.data, ImageFrame):
                    message = replace(message, data=replace(message.data, reader=self._reader))
                yield message
            return
        decoder = VideoDecoder(self.topic)
        self.dropped = decoder.dropped
        due_ns = 0
        for message in messages:
            due_ns = message.due_ns
            if message.topic != self.topic:
                yield message
                continue
            packet = packet_of(BagMessage(message.topic, message.type, message.stamp_ns, due_ns, message.data, b''))
            if packet is None:
                self.dropped['no_video_packet'] += 1
                continue
            for frame in decoder.decode(packet):
                yield self._message(frame, due_ns)
        for frame in decoder.flush():
            yield self._message(frame, due_ns)

    def _message(self, frame: ImageFrame, due_ns: int) -> ReplayMessage:
        return ReplayMessage(self.topic, self.type, 'image', due_ns, frame.stamp_ns, frame)
