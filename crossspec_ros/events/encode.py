"""Events to the payload of packets: evt3 and mono. What is encoded here decodes to the same events.

evt3 has whole microseconds and 11-bit pixels; sources as in ``evt3``.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numba import types as nbt

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import check_sensor
from crossspec_ros.events.jit import kernel, read_only, writable
from crossspec_ros.events.types import Events, Packet

ENCODERS = ('evt3', 'mono')
"""Encodings that can be written."""

_EVT3_SIDE = 1 << 11
_BLOCK_US = 1 << 24                 # what TIME_HIGH and TIME_LOW can say; more is told by TIME_HIGH falling
_BACK_STEPS = 10                    # of TIME_HIGH: more would be read as it having begun anew
_MOST_BLOCKS = 1 << 16              # 12.7 days: a start later than that would need too many words to say
_MONO_SPAN_NS = 1 << 32
_WORDS_PER_EVENT = 4

# State of the encoder: time said so far (us, -1: none), and the last y and time word of this packet.
_TIME, _STATE_SIZE = 0, 1


class Evt3Encoder:
    """Encode consecutive pieces of one stream; each payload says time and y anew, so that a lost packet costs only
    itself.

    Vector words are written where they take fewer words. Times are cut to whole us.
    """

    def __init__(self) -> None:
        self._state = np.full(_STATE_SIZE, -1, np.int64)

    def encode(self, events: Events) -> np.ndarray:
        """Payload, uint8 (B,). Raises ``CrossSpecError`` where pixels have more than 11 bits, time is negative, more
        than 12 days after the time said before (or after 0 at the start), or goes back by more than the format can
        say (40 ms).
        """
        if not len(events):
            return np.empty(0, np.uint8)
        if int(events.x.max()) >= _EVT3_SIDE or int(events.y.max()) >= _EVT3_SIDE:
            raise CrossSpecError(
                f'x and y must be < {_EVT3_SIDE} in evt3, got {int(events.x.max())}, {int(events.y.max())}: use mono'
            )
        times_us = events.t_ns // 1000
        first, largest = max(int(self._state[_TIME]), 0), int(times_us.max())
        if int(times_us.min()) < 0:
            raise CrossSpecError(f't_ns must be >= 0, got {int(events.t_ns.min())}')
        blocks = largest // _BLOCK_US - first // _BLOCK_US
        if blocks > _MOST_BLOCKS:
            raise CrossSpecError(
                f't_ns must be within 12.7 days of the time before, got {largest * 1000} after {first * 1000}: '
                'subtract the start of the recording'
            )
        words = np.empty(_WORDS_PER_EVENT * len(events) + 2 * max(blocks, 0) + 8, np.uint16)
        state = self._state.copy()
        used = _write_evt3.compiled(times_us, *_pixels(events), state, words)
        if used < 0:
            raise CrossSpecError(
                f't_ns must not go back by more than 40 ms in evt3, got {int(events.t_ns[-used - 1])} after a later '
                'time: sort the events, or begin a new encoder'
            )
        self._state = state
        return words[:used].astype('<u2', copy=False).view(np.uint8).copy()


    def encode_words(self, t_us: int, words: Sequence[int]) -> np.ndarray:
        """Payload that says a time and then ``words`` as they are (a trigger, a counter of the camera), uint8 (B,).

        Raises ``CrossSpecError`` as ``encode`` does where time goes back by more than the format can say.
        """
        before = max(int(self._state[_TIME]), 0)
        blocks = (t_us >> 24) - (before >> 24)
        if blocks < 0 or blocks > _MOST_BLOCKS or (before >> 12) - (t_us >> 12) > _BACK_STEPS:
            raise CrossSpecError(f't_us must be at most 40 ms before and 12.7 days after {before} in evt3, got {t_us}')
        said = [0x8FFF, 0x8000] * blocks + [0x8000 | t_us >> 12 & 0xFFF, 0x6000 | t_us & 0xFFF, *words]
        self._state[_TIME] = t_us
        return np.array(said, '<u2').view(np.uint8)


def encode_evt3(events: Events) -> np.ndarray:
    """Events as one evt3 payload, uint8 (B,), for a decoder that has seen nothing yet. Errors as in
    ``Evt3Encoder.encode``.
    """
    return Evt3Encoder().encode(events)


def encode_mono(events: Events, time_base_ns: int) -> np.ndarray:
    """Events as one mono payload, uint8 (8 N,): u64 each, dt ns bits 0-31, x 32-47, y 48-62, polarity 63.

    Raises ``CrossSpecError`` where an event is before ``time_base_ns`` or 2**32 ns (4.29 s) or more after it, or y
    has more than 15 bits.
    """
    if not len(events):
        return np.empty(0, np.uint8)
    since = events.t_ns - time_base_ns
    if int(since.min()) < 0 or int(since.max()) >= _MONO_SPAN_NS:
        raise CrossSpecError(
            f't_ns must be 0 to 2**32 - 1 ns after time_base_ns in mono, got {int(since.min())} to {int(since.max())}: '
            'make shorter packets'
        )
    if int(events.y.max()) >= 1 << 15:
        raise CrossSpecError(f'y must be < 32768 in mono, got {int(events.y.max())}')
    words = since.astype('<u8')
    words |= events.x.astype('<u8') << np.uint64(32)
    words |= events.y.astype('<u8') << np.uint64(48)
    words |= (events.p != 0).astype('<u8') << np.uint64(63)
    return words.view(np.uint8)


class Packetizer:
    """Cut one stream into the packets of a camera: rising ``seq``, ``time_base_ns`` where the encoding has one.

    Raises ``CrossSpecError`` on an encoding that cannot be written and on sizes no sensor has.
    """

    def __init__(self, encoding: str, width: int, height: int, *, first_seq: int = 0) -> None:
        check_sensor(width, height)
        if encoding not in ENCODERS:
            raise CrossSpecError(f'encoding must be one of {", ".join(ENCODERS)} to be written, got {encoding!r}')
        self.encoding, self.width, self.height = encoding, width, height
        self.next_seq = first_seq
        self._evt3 = Evt3Encoder()

    def packet(self, events: Events, stamp_ns: int) -> Packet:
        """One packet that holds exactly these events; ``stamp_ns`` is the host's time of its arrival."""
        time_base_ns = int(events.t_ns[0]) if self.encoding == 'mono' and len(events) else 0
        payload = self._evt3.encode(events) if self.encoding == 'evt3' else encode_mono(events, time_base_ns)
        self.next_seq += 1
        return Packet(self.encoding, self.width, self.height, self.next_seq - 1, time_base_ns, stamp_ns, payload)

    def packets(self, events: Events, packet_ns: int, *, stamp_offset_ns: int = 0) -> Iterator[Packet]:
        """Packets of at most ``packet_ns`` on the grid of its multiples, none empty; the stamp is the first event's
        time plus ``stamp_offset_ns``. Events must be sorted by time.
        """
        if packet_ns < 1:
            raise CrossSpecError(f'packet_ns must be >= 1, got {packet_ns}')
        start = 0
        while start < len(events):
            edge_ns = (int(events.t_ns[start]) // packet_ns + 1) * packet_ns
            stop = start + max(1, int(np.searchsorted(events.t_ns[start:], edge_ns)))
            yield self.packet(events.part(start, stop), int(events.t_ns[start]) + stamp_offset_ns)
            start = stop


def _pixels(events: Events) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (np.ascontiguousarray(events.x), np.ascontiguousarray(events.y), np.ascontiguousarray(events.p))


@kernel(nbt.int64(read_only(nbt.int64), read_only(nbt.uint16), read_only(nbt.uint16), read_only(nbt.uint8),
                  writable(nbt.int64), writable(nbt.uint16)))
def _write_evt3(times_us, x, y, p, state, words):
    """Number of words written, or -(index + 1) of the first event whose time goes back too far."""
    n = 0
    count = len(times_us)
    time = max(state[_TIME], 0)
    high_said = -1
    low_said = -1
    y_said = -1
    next_base = -1              # where the vector base of the decoder stands, -1: unknown
    base_polarity = -1
    i = 0
    while i < count:
        t = times_us[i]
        high = (t >> 12) & 0xFFF
        if (t >> 24) < (time >> 24) or (t < time and ((time >> 12) & 0xFFF) - high > 10):
            return -(i + 1)
        for _ in range((t >> 24) - (time >> 24)):
            words[n] = 0x8FFF
            words[n + 1] = 0x8000
            n += 2
            high_said = 0
        time = t
        if high != high_said:
            words[n] = 0x8000 | high
            n += 1
            high_said = high
        low = t & 0xFFF
        if low != low_said:
            words[n] = 0x6000 | low
            n += 1
            low_said = low
        if y[i] != y_said:
            y_said = y[i]
            words[n] = y_said
            n += 1
        sign = 1 if p[i] else 0
        stop = i + 1  # events i to stop are one run: same time, row and polarity, x rising
        while (
            stop < count
            and times_us[stop] == t
            and y[stop] == y_said
            and (p[stop] != 0) == (sign == 1)
            and x[stop] > x[stop - 1]
        ):
            stop += 1
        while i < stop:
            going_on = base_polarity == sign and 0 <= next_base <= x[i] < next_base + 12
            base = next_base if going_on else np.int64(x[i])
            bits = 0
            last = i
            while last < stop and x[last] < base + 12:
                bits |= 1 << (x[last] - base)
                last += 1
            if last - i >= (2 if going_on else 3):
                if not going_on:
                    words[n] = 0x3000 | sign << 11 | base
                    n += 1
                words[n] = 0x4000 | bits
                n += 1
                next_base = base + 12
                base_polarity = sign
                i = last
            else:
                words[n] = 0x2000 | sign << 11 | x[i]
                n += 1
                i += 1
    state[_TIME] = time
    return n
