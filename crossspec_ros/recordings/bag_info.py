"""What is in a bag: topics, and for event topics what the decoded stream holds."""
from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import Decoder, make_decoder
from crossspec_ros.events.types import Events, Packet
from crossspec_ros.frames.images import picture_size
from crossspec_ros.recordings.bag import BagMessage, BagReader, ImageFrame
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from crossspec_ros.recordings.storages import ROS1
from crossspec_ros.recordings.timeline import Timeline, read_times
from crossspec_ros.timing.stamps import StampJudgement

_PACKED = np.dtype([('t', '<i8'), ('x', '<u2'), ('y', '<u2'), ('p', 'u1')])
# The resolution of the encoding is the unit of the hash: a decoder may keep times in us or ns and agree.
_HASH_UNIT_NS = {'evt3': 1000}


class EventTopic:
    """Counts and hash over the packets of one topic, one packet at a time.

    The first packet with a known encoding and a possible size tells what the stream is; others are counted as dropped.
    """

    def __init__(self) -> None:
        self.packets = 0
        self.on = 0
        self.off = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self._first: Packet | None = None
        self._decoder: Decoder | None = None
        self._undecodable = 0
        self._sha = hashlib.sha256()

    def add(self, packet: Packet) -> None:
        """Count one packet."""
        self.packets += 1
        self._first = self._first or packet
        if self._decoder is None:
            try:
                self._decoder = make_decoder(packet.encoding, packet.width, packet.height)
                self._first = packet
            except CrossSpecError:
                self._undecodable += 1
                return
        events = self._decoder.decode(packet)
        if len(events):
            self.on += int(np.count_nonzero(events.p))
            self.off += len(events) - int(np.count_nonzero(events.p))
            self.first_ns = int(events.t_ns[0]) if self.first_ns is None else self.first_ns
            self.last_ns = int(events.t_ns[-1])
            self._sha.update(packed(events, _HASH_UNIT_NS.get(packet.encoding, 1)))

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``crossspec bag info --json`` for an event topic."""
        dropped = {cause: count for cause, count in (self._decoder.dropped if self._decoder else {}).items() if count}
        if self._undecodable:
            dropped['unknown_encoding'] = self._undecodable
        first = self._first
        return {'encoding': first.encoding if first else None, 'width': first.width if first else None,
                'height': first.height if first else None, 'packets': self.packets, 'on': self.on, 'off': self.off,
                'triggers': self._decoder.trigger_count if self._decoder else 0,
                'first_ns': self.first_ns, 'last_ns': self.last_ns,
                'lost_packets': dropped.pop('lost_packets', 0), 'dropped': dropped,
                'sha256_events': self._sha.hexdigest()}


def packed(events: Events, unit_ns: int) -> np.ndarray:
    """Events as 13 bytes each, little-endian: int64 t, uint16 x, uint16 y, uint8 p; uint8 (13 N,)."""
    table = np.empty(len(events), _PACKED)
    table['t'] = events.t_ns // unit_ns
    table['x'], table['y'], table['p'] = events.x, events.y, events.p
    return table.view(np.uint8)


class _ImageTopic:
    """Size and stamps of an image topic."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {'encoding': None, 'width': None, 'height': None,
                                       'first_ns': None, 'last_ns': None}

    def add(self, frame: ImageFrame, time_ns: int | None) -> None:
        """Take a picture and its time, None where its stamp says nothing."""
        if self.fields['encoding'] is None:
            width, height = frame.width, frame.height
            if frame.compressed:
                try:
                    width, height = picture_size(frame.data)
                except CrossSpecError:
                    pass                                # a damaged first picture says nothing about the others
            self.fields.update(encoding=frame.encoding, width=width, height=height)
        if time_ns is not None:
            first_ns = self.fields['first_ns']
            self.fields.update(first_ns=time_ns if first_ns is None else first_ns, last_ns=time_ns)


def bag_info(path: str | Path, advance: Callable[[int], None] = lambda count: None) -> dict[str, Any]:
    """``{'start_ns', 'duration_s', 'notes', 'topics': {name: {...}}, 'stamps': {name: {...}}}`` of a bag, with every
    event decoded.

    Start and duration are those of the messages that can be used, by the times of all of them, gaps shortened: what a
    player needs. ``notes`` say in a line each what is wrong with times; ``stamps`` has for event and image topics the
    numbers of the messages without a stamp and of those stamped far from all others.

    ``advance`` is called with the number of messages read since its last call. Raises CrossSpecError on a broken bag.
    """
    with BagReader(path) as bag:
        return describe(bag, advance)


def describe(bag: BagReader, advance: Callable[[int], None] = lambda count: None) -> dict[str, Any]:
    """What ``bag_info`` says, of a bag that is open."""
    topics = bag.topics
    counters: dict[str, EventTopic | _ImageTopic] = {
        name: EventTopic() if info.type in EVENT_TYPES else _ImageTopic()
        for name, info in topics.items() if info.readable and info.type in (*EVENT_TYPES, *IMAGE_TYPES)}
    # Of ROS 1 only what is known can be looked into.
    timeline = Timeline(read_times(bag, [name for name, info in topics.items() if info.readable
                                         and (name in counters or info.serialisation != ROS1)]))
    for message in bag.messages(list(counters)) if counters else ():
        _count(counters[message.topic], message, timeline.judged.get(message.topic))
        advance(1)
    table: dict[str, Any] = {}
    for name, info in topics.items():
        table[name] = {'type': info.type, 'messages': info.messages}
        if not info.readable:
            table[name]['serialisation'] = info.serialisation
        if info.others:
            table[name]['left_out'] = {f'{kind or "no type"} as {way}': count for kind, way, count in info.others}
        counter = counters.get(name)
        if isinstance(counter, EventTopic):
            table[name].update(counter.as_dict())
        elif counter is not None:
            table[name].update(counter.fields)
        if counter is not None and bag.malformed[name]:
            table[name].setdefault('dropped', {})['malformed_message'] = bag.malformed[name]
    return {'start_ns': timeline.start_ns, 'duration_s': (timeline.end_ns - timeline.start_ns) / 1e9,
            'notes': timeline.notes, 'topics': table,
            'stamps': {name: _stamps(judgement) for name, judgement in timeline.judged.items()}}


def readable_messages(bag: BagReader) -> int:
    """How many messages ``describe`` will read."""
    return sum(info.messages for info in bag.topics.values()
               if info.readable and info.type in (*EVENT_TYPES, *IMAGE_TYPES))


def _stamps(judgement: StampJudgement) -> dict[str, Any]:
    clock = judgement.clocks[0] if judgement.clocks else None
    return {'unstamped': list(judgement.unstamped), 'off': list(judgement.off),
            'recording_times_stand_in': judgement.arrival_stands_in,
            'recorded_after_stamp_ms': None if clock is None else clock.offset_ns / 1e6}


def _count(counter: EventTopic | _ImageTopic, message: BagMessage, judgement: StampJudgement | None) -> None:
    if isinstance(counter, EventTopic):
        counter.add(message.data)
        return
    if judgement is None or judgement.arrival_stands_in:
        counter.add(message.data, message.log_ns)
        return
    dropped = judgement.cause(message.log_ns, message.stamp_ns) is not None
    counter.add(message.data, None if dropped else message.stamp_ns)
