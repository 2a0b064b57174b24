"""Which topics of a bag are played: those named, or the ones most likely meant, said in one line."""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.encodings import is_colour
from crossspec_ros.recordings.bag import BagReader, ImageFrame
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES, VIDEO_TYPES
from crossspec_ros.recordings.video import packet_of

PLAYED_TYPES = (*EVENT_TYPES, *IMAGE_TYPES, *VIDEO_TYPES)
_LOOKED_AT = 3
_DEPTH_WORDS = {'depth', 'disparity', 'disp', 'mask', 'masks', 'label', 'labels', 'semantic', 'semantics', 'seg',
                'segmentation', 'instance', 'confidence', 'flow', 'costmap', 'heatmap', 'aligneddepth'}
_INFRA_WORDS = {'infra', 'infra1', 'infra2', 'infrared', 'ir', 'ir1', 'ir2', 'thermal', 'lwir', 'fir', 'nir'}
_COLOUR_WORDS = {'rgb', 'color', 'colour'}
_DEPTH_ENCODINGS = {'16uc1', '32fc1', '64fc1', '16sc1', '32sc1'}
_KINDS = ('colour', 'grey', 'infrared', 'not readable', 'depth or mask', 'depth')
"""What an image topic shows, from the one to play first to the last."""


@dataclass(frozen=True)
class ImageTopic:
    """An image topic as its name and first messages show it; ``kind`` is an index into the ranking."""

    name: str
    type: str
    messages: int
    encoding: str
    kind: int

    def __str__(self) -> str:
        shown = ', '.join(word for word in (self.encoding, _KINDS[self.kind]) if word)
        return f'{self.name} ({shown}, {self.messages} messages)'


@dataclass(frozen=True)
class Choice:
    """The topics to play, and a line that says what was chosen and which others there are ('' without others)."""

    topics: tuple[str, ...]
    line: str = ''


def choose(reader: BagReader, topics: Sequence[str] = (), *, image: str = '', events: str = '') -> Choice:
    """The topics to play of a bag: ``topics`` alone where given, else one of events and one of pictures.

    ``image`` and ``events`` name one of the two; the other is found. Of several image topics the first by kind
    (colour, grey, infrared, not readable, depth and masks) is taken, then the one with most messages, then the raw one;
    of event topics the one with most messages. Raises CrossSpecError naming what the bag has where a topic is not
    there, not of its kind, or two are named of one kind, and where the bag has nothing to play.
    """
    if topics and (image or events):
        raise CrossSpecError('topics cannot be given together with an image or events topic; give one of them')
    if topics:
        _check_named(reader, topics)
        return Choice(tuple(topics))
    usable = reader.require_topics(PLAYED_TYPES)
    lines, chosen = [], []
    event_topics = [name for name in usable if reader.topics[name].type in EVENT_TYPES]
    if events:
        _check_kind(reader, events, EVENT_TYPES, 'events')
    if event_topics:
        chosen.append(events or max(event_topics, key=lambda name: reader.topics[name].messages))
        lines += _others('events', chosen[-1], event_topics)
    names = [name for name in usable if reader.topics[name].type not in EVENT_TYPES]
    if image:
        _check_kind(reader, image, (*IMAGE_TYPES, *VIDEO_TYPES), 'images')
        chosen.append(image)
    elif names:
        ranked = rank_images(reader, names)
        chosen.append(ranked[0].name)
        if len(ranked) > 1 or ranked[0].kind > 2:
            lines += _others('images', str(ranked[0]), list(map(str, ranked)))
    return Choice(tuple(chosen), '; '.join(lines))


def _others(what: str, chosen: str, names: Sequence[str]) -> list[str]:
    rest = [name for name in names if name != chosen]
    if not rest:
        return [f'{what} are of {chosen}, the bag has no others'] if what == 'images' else []
    return [f'{what} are taken of {chosen}, not of {", ".join(rest)} (--topics or --{what.removesuffix("s")}-topic '
            'chooses)'.replace('--event-topic', '--events-topic')]


def _check_there(reader: BagReader, names: Sequence[str]) -> None:
    infos = reader.topics
    if unknown := [name for name in names if name not in infos]:
        there = ', '.join(f'{info.name} ({info.type}, {info.messages})' for info in infos.values())
        raise CrossSpecError(f'bag {reader.path} has no topic {", ".join(unknown)}; it has {there or "none"}')


def _check_kind(reader: BagReader, name: str, types: Sequence[str], what: str) -> None:
    _check_there(reader, [name])
    if (found := reader.topics[name].type) not in types:
        raise CrossSpecError(f'topic {name} of bag {reader.path} must be one of {what} ({", ".join(types)}), '
                             f'got {found}')


def _check_named(reader: BagReader, topics: Sequence[str]) -> None:
    _check_there(reader, topics)
    for what, types in (('events', EVENT_TYPES), ('images', (*IMAGE_TYPES, *VIDEO_TYPES))):
        named = [name for name in dict.fromkeys(topics) if reader.topics[name].type in types]
        if len(named) > 1:
            raise CrossSpecError(f'topics must name one topic of {what}, got {", ".join(named)}')
    if not any(reader.topics[name].type in PLAYED_TYPES for name in topics):
        reader_has = ', '.join(info.name for info in reader.topics.values() if info.type in PLAYED_TYPES)
        raise CrossSpecError(f'topics {", ".join(topics)} of bag {reader.path} have neither events nor images; '
                             f'those of the bag are {reader_has or "none"}')


def rank_images(reader: BagReader, names: Sequence[str]) -> list[ImageTopic]:
    """Image topics, the one to play first."""
    looked = [look(reader, name) for name in names]
    most = {kind: max(topic.messages for topic in looked if topic.kind == kind) for kind in {t.kind for t in looked}}

    def order(topic: ImageTopic) -> tuple[int, bool, bool]:
        # The same camera twice differs by a message or two: then the raw one, which costs no decoding.
        few = 10 * topic.messages < 9 * most[topic.kind]
        return topic.kind, few, topic.type != IMAGE_TYPES[0]
    return sorted(looked, key=order)


def look(reader: BagReader, name: str) -> ImageTopic:
    """An image topic by its first messages."""
    info = reader.topics[name]
    encoding, readable, grey = '', False, True
    for message in islice(reader.messages([name]), _LOOKED_AT):
        if (packet := packet_of(message)) is not None:          # what cannot be decoded is told where it is played
            encoding, readable, grey = encoding or packet.codec or packet.format, packet.codec is not None, False
        elif isinstance(message.data, ImageFrame):
            encoding = encoding or message.data.encoding
            rgb = _rgb(message.data)
            if rgb is not None:
                readable = True
                sample = rgb[::4, ::4]
                colour = is_colour(encoding) if not message.data.compressed else bool(np.ptp(sample, axis=2).any())
                grey = grey and not colour
    return ImageTopic(name, info.type, info.messages, encoding, _kind(name, encoding, readable, grey))


def _rgb(frame: ImageFrame) -> np.ndarray | None:
    try:
        return frame.rgb()
    except CrossSpecError:
        return None


def _kind(name: str, encoding: str, readable: bool, grey: bool) -> int:
    parts = [part for part in name.lower().split('/') if part]
    words = set(parts) | {word for part in parts for word in re.split(r'[_\-.]', part)}
    if encoding.lower().strip() in _DEPTH_ENCODINGS or 'compresseddepth' in encoding.lower().replace(' ', ''):
        return _KINDS.index('depth')
    if encoding.split(';')[0].strip().lower() in _DEPTH_ENCODINGS:
        return _KINDS.index('depth')
    # A depth camera's own colour picture is one: /depth_camera/rgb/image_raw.
    if words & _DEPTH_WORDS and not (_COLOUR_WORDS & set(parts) and not grey):
        return _KINDS.index('depth or mask')
    if not readable:
        return _KINDS.index('not readable')
    if words & _INFRA_WORDS:
        return _KINDS.index('infrared')
    return _KINDS.index('grey' if grey else 'colour')


def is_video(reader: BagReader, name: str) -> bool:
    """Whether a topic's messages are packets of a video rather than pictures."""
    if reader.topics[name].type in VIDEO_TYPES:
        return True
    if reader.topics[name].type != IMAGE_TYPES[1]:
        return False
    first = next(reader.messages([name]), None)
    return first is not None and packet_of(first) is not None
