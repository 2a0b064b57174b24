"""A load of events at a chosen rate, encoded beforehand and sent over and over: it measures the way, not the maker.

Sensor time goes on from loop to loop: the loop is a whole number of TIME_HIGH steps long, and those words are moved.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.encode import encode_evt3
from crossspec_ros.events.types import Events, Packet
from crossspec_ros.recordings.bag_types import EVENT_TYPES
from crossspec_ros.recordings.replay import ReplayMessage

WIDTH, HEIGHT = 640, 480
PERIOD_US = 10_240
PACKETS = 20
_HIGH_STEP_US = 4096
_STEPS_A_LOOP = PACKETS * PERIOD_US // _HIGH_STEP_US
_TIME_HIGH = 8
_MAX_RATE = 200e6


class LoadSource:
    """``rate`` events a second in evt3 packets of 10.24 ms from a 640x480 sensor, without end; a ``replay.Source``.

    The events come in short runs along rows, about 3 bytes each, as edges do in driving. Raises CrossSpecError when
    ``rate`` is not 1 thousand to 200 million.
    """

    def __init__(self, rate: float, seed: int = 0) -> None:
        if not 1e3 <= rate <= _MAX_RATE:
            raise CrossSpecError(f'the load must be 0.001 to {_MAX_RATE / 1e6:g} million events a second, '
                                 f'got {rate / 1e6:g}')
        self.name = f'load of {rate / 1e6:g} million events a second'
        self.topics = {'events': EVENT_TYPES[0]}
        self.start_ns = 0
        self.end_ns: int | None = None
        self.events_per_packet = round(rate * PERIOD_US / 1e6)
        generator = np.random.default_rng(seed)
        self._payloads = [encode_evt3(self._events(number, generator)) for number in range(PACKETS)]
        self._highs = [np.flatnonzero(payload.view('<u2') >> 12 == _TIME_HIGH) for payload in self._payloads]

    @property
    def bytes_per_event(self) -> float:
        """Mean size of an event on the wire."""
        return sum(map(len, self._payloads)) / (PACKETS * self.events_per_packet)

    def _events(self, number: int, generator: np.random.Generator) -> Events:
        """One packet's events, in runs of 1 to 3 neighbours of one row, one time and one polarity."""
        count = self.events_per_packet
        lengths = generator.integers(1, 4, count)
        lengths = lengths[:int(np.searchsorted(np.cumsum(lengths), count)) + 1]
        runs = len(lengths)
        t_us = np.sort(generator.integers(0, PERIOD_US, runs)) + number * PERIOD_US
        first = np.repeat(np.cumsum(lengths) - lengths, lengths)
        x = np.repeat(generator.integers(0, WIDTH - 3, runs), lengths) + np.arange(len(first)) - first
        y = np.repeat(generator.integers(0, HEIGHT, runs), lengths)
        p = np.repeat(generator.integers(0, 2, runs), lengths)
        t_ns = np.repeat(t_us, lengths).astype(np.int64) * 1000
        return Events(t_ns[:count], x[:count].astype(np.uint16), y[:count].astype(np.uint16),
                      p[:count].astype(np.uint8), WIDTH, HEIGHT)

    def _payload(self, number: int) -> np.ndarray:
        """Payload of the packet ``number`` since the start, its TIME_HIGH words moved to where time is now."""
        loop, index = divmod(number, PACKETS)
        payload = self._payloads[index].copy()
        words, highs = payload.view('<u2'), self._highs[index]
        words[highs] = _TIME_HIGH << 12 | ((words[highs].astype(np.int64) + loop * _STEPS_A_LOOP) & 0xFFF)
        return payload

    def messages(self, start_ns: int) -> Iterator[ReplayMessage]:
        number = -(-start_ns // (PERIOD_US * 1000))
        while True:
            begin_ns = number * PERIOD_US * 1000
            packet = Packet('evt3', WIDTH, HEIGHT, number, 0, begin_ns, self._payload(number))
            yield ReplayMessage('events', EVENT_TYPES[0], 'events', begin_ns + PERIOD_US * 1000, begin_ns, packet)
            number += 1

    def close(self) -> None:
        """Nothing is open."""
