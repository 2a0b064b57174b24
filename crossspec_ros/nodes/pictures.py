"""The newest of both cameras as pictures, for the nodes that show them."""
from __future__ import annotations

import numpy as np
from event_camera_msgs.msg import EventPacket
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.buffer import EventBuffer
from crossspec_ros.events.decode import Decoder, make_decoder
from crossspec_ros.events.pictures import render_events
from crossspec_ros.events.warm import warm_up
from crossspec_ros.frames.images import PictureReader
from crossspec_ros.frames.slots import Frame
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import frame_from, packet_from
from crossspec_ros.nodes.health import Health

_EVENT_SPAN_NS = 60_000_000
_EVENT_WIDTH = 640                                              # px at most
_BUFFER_BYTES, _BUFFER_NS = 32 << 20, 500_000_000


class Pictures:
    """Subscribes the cameras and keeps the newest of each; what cannot be read is counted by ``health``.

    An image is converted only when it is asked for. Call from the executor's thread.
    """

    def __init__(self, node: Node, health: Health, transport: str, *, events: bool) -> None:
        self._health = health
        self._image: Image | CompressedImage | None = None
        self.frame_id = 'camera'                                # of the newest image
        self._frame: Frame | None = None
        self._reader = PictureReader()                          # the verifier tells what it finds
        self._decoder: Decoder | None = None
        self._format: tuple[str, int, int] | None = None
        self._buffer: EventBuffer | None = None
        options = {'qos_overriding_options': qos.overridable()}
        topic, kind = ('image/compressed', CompressedImage) if transport == 'compressed' else ('image', Image)
        node.create_subscription(kind, topic, self._on_image, qos.image(),
                                 event_callbacks=health.subscription_events('image'), **options)
        if events:
            self._watch_events(node, options)

    def _watch_events(self, node: Node, options: dict[str, QoSOverridingOptions]) -> None:
        warm_up()                                               # no picture waits for a compiler
        self._buffer = EventBuffer(max_bytes=_BUFFER_BYTES, max_span_ns=_BUFFER_NS)
        node.create_subscription(EventPacket, 'events', self._on_packet, qos.events(), **options)

    @property
    def seen(self) -> bool:
        """Whether anything came of either camera."""
        return self._image is not None or self._frame is not None or self._format is not None

    @property
    def stamp_ns(self) -> int | None:
        """Stamp of the image that `rgb` gave last; None before the first."""
        return self._frame.stamp_ns if self._frame is not None else None

    @property
    def events_ns(self) -> int | None:
        """Time of the newest event; None before the first."""
        return self._buffer.newest_ns if self._buffer is not None else None

    def reset(self) -> None:
        """Time jumped: the events so far are of another time."""
        if self._buffer is not None:
            self._buffer.clear()
            self._format = None

    def rgb(self) -> np.ndarray | None:
        """The newest image that can be read, uint8 (H, W, 3); None before the first."""
        message, self._image = self._image, None
        if message is not None:
            try:
                frame = frame_from(message, self._reader)
                frame.unpack()
                self._frame = frame
            except CrossSpecError as error:
                self._health.drop('image_refused', error)
        return self._frame.unpack() if self._frame is not None else None

    def events(self) -> np.ndarray | None:
        """The events of the last 60 ms, uint8 (H, W, 3), 640 px wide at most; None before the first or without them."""
        newest_ns = self._buffer.newest_ns if self._buffer is not None else None
        if newest_ns is None or self._format is None:
            return None
        _, width, height = self._format
        shape = (height, width) if width <= _EVENT_WIDTH else (height * _EVENT_WIDTH // width, _EVENT_WIDTH)
        return render_events(self._buffer.cut_parts(newest_ns - _EVENT_SPAN_NS, newest_ns), shape)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._image, self.frame_id = message, message.header.frame_id or self.frame_id

    def _on_packet(self, message: EventPacket) -> None:
        packet = packet_from(message)
        wanted = (packet.encoding, packet.width, packet.height)
        try:
            if wanted != self._format:
                self._decoder, self._format = make_decoder(*wanted), wanted
                self._buffer.clear()
            self._buffer.append(self._decoder.decode(packet))
        except CrossSpecError as error:
            self._health.drop('packet_refused', error)
