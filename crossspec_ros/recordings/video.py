"""Video packets in a bag (H.264, H.265, VP9, AV1), decoded in their order into pictures.

Packets come as foxglove_msgs/CompressedVideo, ffmpeg_image_transport_msgs/FFMPEGPacket, or CompressedImage whose format
names a codec. A stream can be entered at a keyframe alone: packets before the first one are counted.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.compressed import is_picture, video_codec
from crossspec_ros.frames.encodings import as_bytes
from crossspec_ros.recordings.bag import BagMessage, ImageFrame, rgb_frame
from crossspec_ros.recordings.bag_types import VIDEO_TYPES

FOXGLOVE_VIDEO, FFMPEG_PACKET = VIDEO_TYPES
# The one named av1 needs a graphics card.
_DECODERS = {'av1': 'libdav1d'}
_MOST_PIXELS = 64_000_000
_MOST_WAITING = 64                      # pictures that a decoder keeps back; no stream of a camera has more


@dataclass(frozen=True)
class VideoPacket:
    """One packet. ``codec`` is None where ``format`` names none that is known; ``data`` is uint8 (B,)."""

    stamp_ns: int
    frame_id: str
    format: str
    codec: str | None
    data: np.ndarray


def packet_of(message: BagMessage) -> VideoPacket | None:
    """The video packet that a message of a bag is, None where it is something else."""
    data: Any = message.data
    if data is None:
        return None
    if message.type == FOXGLOVE_VIDEO:
        return VideoPacket(message.stamp_ns, data.frame_id, data.format, video_codec(data.format), as_bytes(data.data))
    if message.type == FFMPEG_PACKET:
        return VideoPacket(message.stamp_ns, data.header.frame_id, data.encoding, video_codec(data.encoding),
                           as_bytes(data.data))
    if isinstance(data, ImageFrame) and data.compressed and (codec := video_codec(data.encoding)) is not None:
        if not is_picture(data.data):
            return VideoPacket(message.stamp_ns, data.frame_id, data.encoding, codec, data.data)
    return None


class VideoDecoder:
    """Packets of one topic to rgb8 frames with the packets' stamps.

    ``dropped`` counts packets by cause: ``before_keyframe``, ``damaged_packet``. Raises CrossSpecError where the codec
    is not known, or not built into the av package here.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.dropped: Counter[str] = Counter()
        self._context: Any = None
        self._entered = False
        self._waiting: dict[int, VideoPacket] = {}
        self._number = 0

    def decode(self, packet: VideoPacket) -> Iterator[ImageFrame]:
        """Pictures that are whole with this packet, oldest first."""
        import av
        context = self._context or self._open(packet)
        if not self._entered:
            if not is_keyframe(packet.codec or '', packet.data):
                self.dropped['before_keyframe'] += 1
                return
            self._entered = True
        unit = av.Packet(packet.data.tobytes())
        unit.pts = unit.dts = self._number
        unit.time_base = Fraction(1, 1_000_000)
        self._waiting[self._number] = packet
        self._number += 1
        try:
            frames = context.decode(unit)
        except av.FFmpegError:
            self.dropped['damaged_packet'] += 1
            self._waiting.pop(self._number - 1, None)
            return
        yield from map(self._frame, frames)
        while len(self._waiting) > _MOST_WAITING:               # packets that gave no picture
            del self._waiting[min(self._waiting)]
            self.dropped['damaged_packet'] += 1

    def flush(self) -> Iterator[ImageFrame]:
        """What the decoder still holds, at the end of the stream."""
        import av
        if self._context is None or not self._entered:
            return
        try:
            frames = self._context.decode(None)
        except av.FFmpegError:
            frames = []
        yield from map(self._frame, frames)
        if self._waiting:
            self.dropped['damaged_packet'] += len(self._waiting)
            self._waiting.clear()
        self._context, self._entered = None, False

    def _open(self, packet: VideoPacket) -> Any:
        import av
        if packet.codec is None:
            raise CrossSpecError(f'topic {self.topic} must hold video of h264, h265, vp9 or av1, '
                                 f'got {packet.format!r}; choose another topic')
        try:
            context = av.CodecContext.create(_DECODERS.get(packet.codec, packet.codec), 'r')
        except (av.FFmpegError, ValueError) as error:
            raise CrossSpecError(f'topic {self.topic} is {packet.codec} video, which the Python package av cannot '
                                 f'decode here ({error}); choose another topic') from error
        # With more threads a picture comes packets later.
        context.thread_type = 'NONE'
        context.thread_count = 1
        if packet.codec == 'av1':
            context.options = {'max_frame_delay': '1'}
        self._context = context
        return context

    def _frame(self, frame: Any) -> ImageFrame:
        packet = self._waiting.pop(frame.pts) if frame.pts in self._waiting else None
        if frame.width * frame.height > _MOST_PIXELS:
            raise CrossSpecError(f'topic {self.topic}: a picture of its video has {frame.width}x{frame.height} pixels; '
                                 f'at most {_MOST_PIXELS} are taken')
        if packet is None:
            raise CrossSpecError(f'topic {self.topic}: its video gives pictures that no packet belongs to; '
                                 'choose another topic')
        return rgb_frame(packet.stamp_ns, frame.to_ndarray(format='rgb24'), packet.frame_id)


def is_keyframe(codec: str, data: np.ndarray) -> bool:
    """Whether a stream can be entered at this packet."""
    raw = data.tobytes()
    if codec == 'vp9':
        return len(raw) > 0 and raw[0] >> 6 == 2 and not raw[0] >> (2 if raw[0] >> 4 & 3 < 3 else 1) & 1
    if codec == 'av1':
        return len(raw) > 0 and any(obu == 1 for obu in _av1_units(raw))
    # IDR, or parameters of the stream, which come before a picture of its own; the same and its kin in H.265.
    keys = (5, 7) if codec == 'h264' else (*range(16, 24), 33)
    for unit in raw.split(b'\0\0\1')[1:]:
        kind = unit[0] & 0x1F if codec == 'h264' and unit else unit[0] >> 1 & 0x3F if unit else -1
        if kind in keys:
            return True
    return False


def _av1_units(raw: bytes) -> Iterator[int]:
    """Types of the units of an AV1 packet (AV1 specification, 5.3); 1 is a sequence header."""
    at = 0
    while at < len(raw):
        kind, extended, sized = raw[at] >> 3 & 15, raw[at] >> 2 & 1, raw[at] >> 1 & 1
        yield kind
        at += 1 + extended
        if not sized:
            return
        size = shift = 0
        while at < len(raw):
            size |= (raw[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not raw[at - 1] & 0x80:
                break
        at += size
