"""Packets to events, with the state that an encoding carries from packet to packet.

``Decoder`` never raises on what a packet holds: what cannot be used is left out and counted by cause. Times are
sensor time, int64 ns. Semantics follow the C++ decoders of event_camera_codecs, event for event.
"""
from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events import evt3, flat
from crossspec_ros.events.jit import Kernel
from crossspec_ros.events.types import Events, Packet

if TYPE_CHECKING:
    from crossspec_ros.events.binding import BindingDecoder

MAX_SIDE = 8192
"""Widest and highest sensor accepted, pixels."""

FOREVER_NS = (1 << 63) - 1
_MAX_TIME_BASE_NS = 1 << 62
# Of these, `view` takes half the time that it takes of the types.
_BYTE, _U16, _U32, _U64 = (np.dtype(kind) for kind in (np.uint8, np.uint16, np.uint32, np.uint64))
_MAX_TRIGGERS = 100_000
_MAX_PENDING_BYTES = 64 << 20
_ARENA_EVENTS = 1 << 14
_ARENAS_KEPT = 4
_TRIGGER_ROOM = 1024
_LARGEST_GAP = 1_000_000

_KERNEL_CAUSES = ('malformed_words', 'outside_sensor', 'before_first_time', 'time_back', 'invalid_events')
CAUSES = (
    *_KERNEL_CAUSES,
    'truncated',
    'lost_packets',
    'seq_back',
    'seq_repeated',
    'duplicate_packet',
    'wrong_encoding',
    'wrong_size',
    'time_base',
    'backlog',
    'triggers',
)
"""Causes counted in ``Decoder.dropped``. Words: malformed_words, before_first_time (event words while evt3 does not
know the time); events: outside_sensor, invalid_events (libcaer's valid bit is 0), time_back (kept: an event earlier
than the one before); packets: truncated (cut inside a word; the whole words are used), lost_packets (gaps of seq),
seq_back (the stream starts over: state is reset), seq_repeated (kept), duplicate_packet, wrong_encoding, wrong_size,
time_base (beyond 2**62 ns), backlog (fed but not drained); triggers: the oldest ones, when more than 100,000 are
kept.
"""


class Trigger(NamedTuple):
    """An external trigger: sensor time in ns, edge (1 rising, 0 falling), id of the input."""

    t_ns: int
    edge: int
    id: int


@dataclass(frozen=True)
class _Encoding:
    kernel: Kernel
    unit: int                       # bytes that make one record; a packet is cut to whole ones
    word: np.dtype
    swap: np.dtype                  # what to swap where the packet says it is big-endian
    has_time_base: bool
    per_packet: tuple[int, ...]     # entries of the state that start at 0 in each packet


_ENCODINGS = {
    'evt3': _Encoding(evt3.decode_evt3, 2, _U16, _U16, False, ()),
    'mono': _Encoding(flat.decode_mono, 8, _U32, _U64, True, ()),
    'trigger': _Encoding(flat.decode_trigger, 8, _U32, _U64, True, ()),
    'libcaer': _Encoding(flat.decode_libcaer, 8, _U32, _U32, True, (flat.WRAPPED, flat.TICK)),
    'libcaer_cmp': _Encoding(flat.decode_libcaer_cmp, 2, _U16, _U16, True, (flat.CMP_TIME,)),
}
ENCODINGS = tuple(_ENCODINGS)
"""Names of the encodings that can be decoded."""


_FIELDS = ('t_ns', 'x', 'y', 'p')


class _Arena:
    """Arrays that are filled from the front; events handed out are views of the filled part, which stays as it is while
    anybody holds it.
    """

    __slots__ = ('capacity', 'used', 't_ns', 'x', 'y', 'p')

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.t_ns = np.empty(capacity, np.int64)
        self.x = np.empty(capacity, np.uint16)
        self.y = np.empty(capacity, np.uint16)
        self.p = np.empty(capacity, np.uint8)

    def is_free(self) -> bool:
        """Nobody holds a view: every view counts as a reference to the array it looks into."""
        return self.references() == _UNSHARED

    def references(self) -> list[int]:
        """References to each array."""
        return [sys.getrefcount(array) for array in (self.t_ns, self.x, self.y, self.p)]

    def take(self, other: _Arena, start: int, stop: int) -> None:
        """Begin with a copy of ``start`` to ``stop`` of another arena."""
        for name in _FIELDS:
            getattr(self, name)[:stop - start] = getattr(other, name)[start:stop]
        self.used = stop - start


_UNSHARED = _Arena(1).references()      # of arrays that only their arena holds; versions of Python count differently


class _Arenas:
    """Arenas in turn. One whose events nobody holds any more is filled anew: fresh memory costs more than decoding."""

    def __init__(self) -> None:
        self._kept: deque[_Arena] = deque()
        self.current = _Arena(_ARENA_EVENTS)

    def next(self, least: int) -> _Arena:
        """Make an arena with room for ``least`` events the current one."""
        if self.current.capacity == _ARENA_EVENTS:
            self._kept.append(self.current)
        if least <= _ARENA_EVENTS and self._kept and self._kept[0].is_free():
            self.current = self._kept.popleft()
            self.current.used = 0
        else:
            self.current = _Arena(max(_ARENA_EVENTS, least))
            while len(self._kept) > _ARENAS_KEPT:
                self._kept.popleft()
        return self.current


@dataclass
class _Pending:
    words: np.ndarray
    time_base_ns: int
    next_word: int = 0


def check_sensor(width: int, height: int) -> None:
    """Raise ``CrossSpecError`` where a sensor of this size cannot be."""
    for field, value in (('width', width), ('height', height)):
        if not 1 <= value <= MAX_SIDE:
            raise CrossSpecError(f'{field} must be 1 to {MAX_SIDE} pixels, got {value}: check the event camera driver')


class Decoder:
    """Decode the packets of one stream, in order.

    ``width`` and ``height`` are the sensor's: nothing outside it ever comes out. Events handed out are views into
    larger arrays that are not written again; keep them as long as you like, copy them if you keep a few for long.

    A packet with ``is_bigendian`` has the bytes of each word swapped first, as the message's definition has it.
    """

    def __init__(self, encoding: str, width: int, height: int) -> None:
        check_sensor(width, height)
        if encoding not in _ENCODINGS:
            raise CrossSpecError(f'encoding must be one of {", ".join(ENCODINGS)}, got {encoding!r}: '
                                 'choose another output of the event camera driver')
        self.encoding = encoding
        self.width = int(width)
        self.height = int(height)
        self._format = _ENCODINGS[encoding]
        self._decode: Callable[..., tuple[int, int, int, int]] = self._format.kernel.compiled
        self._arenas = _Arenas()
        self._tail = np.empty(evt3.TAIL_SIZE, np.uint16)
        self._trigger_scratch = np.empty(3 * _TRIGGER_ROOM, np.int64)
        self.counts = np.zeros(evt3.COUNTS_SIZE, np.int64)
        self._other_counts = dict.fromkeys(CAUSES[len(_KERNEL_CAUSES):], 0)
        self._triggers: deque[Trigger] = deque()
        self.trigger_count = 0
        self.refused = 0                                        # whole packets
        self.state = evt3.new_state()
        self.reset()

    def reset(self) -> None:
        """Forget the stream (time, sequence, what is pending); counts and triggers are kept."""
        self.state.fill(0)
        self._last_seq: int | None = None
        self._last_stamp_ns = 0
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0

    @property
    def dropped(self) -> dict[str, int]:
        """What was dropped or found wrong so far, by cause: see ``CAUSES``."""
        counted = {cause: int(count) for cause, count in zip(_KERNEL_CAUSES, self.counts)}
        return counted | self._other_counts

    @property
    def triggers(self) -> list[Trigger]:
        """The newest external triggers (at most 100,000), oldest first; ``trigger_count`` counts all."""
        return list(self._triggers)

    def decode(self, packet: Packet) -> Events:
        """All events of a packet (after those still pending from ``feed``)."""
        if self._pending:
            self.feed(packet)
            return self.decode_until(FOREVER_NS)
        words = self.words_of(packet)
        if words is None:
            return Events.empty(self.width, self.height)
        return self._run(words, 0, packet.time_base_ns, FOREVER_NS)[0]

    def feed(self, packet: Packet) -> bool:
        """Take a packet for later ``decode_until``; False where it is refused (counted). At most 64 MiB wait."""
        words = self.words_of(packet)
        if words is None:
            return False
        self._pending.append(_Pending(words, int(packet.time_base_ns)))
        self._pending_bytes += words.nbytes
        while self._pending_bytes > _MAX_PENDING_BYTES and len(self._pending) > 1:
            self._pending_bytes -= self._pending.popleft().words.nbytes
            self._other_counts['backlog'] += 1
        return True

    def decode_until(self, until_ns: int) -> Events:
        """Events with t < ``until_ns`` of the packets fed; stops before the first later one and keeps the rest for
        the next call.
        """
        parts = []
        while self._pending:
            pending = self._pending[0]
            events, pending.next_word = self._run(pending.words, pending.next_word, pending.time_base_ns, until_ns)
            parts.append(events)
            if pending.next_word < len(pending.words):
                break
            self._pending.popleft()
            self._pending_bytes -= pending.words.nbytes
        if len(parts) == 1:
            return parts[0]
        return join_events(parts) if parts else Events.empty(self.width, self.height)

    def _run(self, words: np.ndarray, at: int, time_base_ns: int, until_ns: int) -> tuple[Events, int]:
        """Events with t < ``until_ns`` of ``words`` from index ``at`` on, and the index of the first word not used."""
        if at == 0:
            for entry in self._format.per_packet:
                self.state[entry] = 0
        arena = self._arenas.current
        least = len(words) - at + evt3.MAX_EVENTS_PER_WORD
        if arena.capacity - arena.used < least:
            arena = self._arenas.next(least)
        start = filled = arena.used
        last = time_base_ns if self._format.has_time_base else self._tail
        while True:
            at, filled, found, reason = self._decode(
                words, at, len(words), until_ns, self.width, self.height,
                arena.t_ns, arena.x, arena.y, arena.p, filled, self._trigger_scratch, 0, self.state, self.counts, last)
            if found:
                self._keep_triggers(found)
            if reason != evt3.FULL:
                break
            if filled + evt3.MAX_EVENTS_PER_WORD > arena.capacity:
                larger = self._arenas.next(2 * (filled - start) + len(words) - at + evt3.MAX_EVENTS_PER_WORD)
                larger.take(arena, start, filled)
                arena, start, filled = larger, 0, larger.used
        arena.used = filled
        return Events(arena.t_ns[start:filled], arena.x[start:filled], arena.y[start:filled], arena.p[start:filled],
                      self.width, self.height), at

    def _keep_triggers(self, found: int) -> None:
        self.trigger_count += found
        for t_ns, edge, trigger_id in self._trigger_scratch[:3 * found].reshape(-1, 3).tolist():
            self._triggers.append(Trigger(t_ns, edge, trigger_id))
        while len(self._triggers) > _MAX_TRIGGERS:
            self._triggers.popleft()
            self._other_counts['triggers'] += 1

    def words_of(self, packet: Packet) -> np.ndarray | None:
        """The payload as whole words in native order; None (and counted) where the packet must not be used."""
        cause = self._refusal(packet)
        if cause is not None:
            self._other_counts[cause] += 1
            self.refused += 1
            return None
        payload = packet.payload
        if payload.dtype is not _BYTE or payload.strides != (1,):
            payload = np.ascontiguousarray(payload).reshape(-1).view(np.uint8)
        excess = len(payload) % self._format.unit
        if excess:
            self._other_counts['truncated'] += 1
            payload = payload[:len(payload) - excess]
        words = payload.view(self._format.word)
        if not words.flags.aligned:
            words = words.copy()
        if packet.is_bigendian:
            words = np.ascontiguousarray(words).view(self._format.swap).byteswap().view(self._format.word)
        return words

    def _refusal(self, packet: Packet) -> str | None:
        """Why a packet must not be used, or None; follows the sequence numbers."""
        if packet.encoding != self.encoding:
            return 'wrong_encoding'
        if packet.width != self.width or packet.height != self.height:
            return 'wrong_size'
        if self._format.has_time_base and not 0 <= packet.time_base_ns < _MAX_TIME_BASE_NS:
            return 'time_base'
        last, self._last_seq = self._last_seq, packet.seq
        last_stamp_ns, self._last_stamp_ns = self._last_stamp_ns, packet.stamp_ns
        if last is None or packet.seq == last + 1:
            return None
        if packet.seq == last:
            # Simple publishers leave seq at 0: only the same stamp makes it the same packet.
            if packet.stamp_ns == last_stamp_ns:
                return 'duplicate_packet'
            self._other_counts['seq_repeated'] += 1
        elif packet.seq < last:
            self._other_counts['seq_back'] += 1
            seq, stamp_ns = self._last_seq, self._last_stamp_ns
            self.reset()
            self._last_seq, self._last_stamp_ns = seq, stamp_ns
        else:
            self._other_counts['lost_packets'] += min(packet.seq - last - 1, _LARGEST_GAP)
        return None


def make_decoder(encoding: str, width: int, height: int, *, backend: str = 'numba') -> Decoder | BindingDecoder:
    """A decoder for one stream; compiles (or loads) its kernel, so that the first packet does not wait.

    ``backend`` is ``numba``, or ``event_camera_py`` where the host has that binding (evt3 only; the same events).
    Raises ``CrossSpecError`` on an unknown encoding or backend, and on a size that no sensor has.
    """
    if backend == 'numba':
        return Decoder(encoding, width, height)
    if backend != 'event_camera_py':
        raise CrossSpecError(f'backend must be numba or event_camera_py, got {backend!r}')
    from crossspec_ros.events.binding import BindingDecoder
    return BindingDecoder(encoding, width, height)


def join_events(parts: Sequence[Events]) -> Events:
    """Parts of one stream as one; a single part is returned as it is. Raises ``CrossSpecError`` on no parts."""
    if not parts:
        raise CrossSpecError('parts must not be empty: the size of the sensor is not known')
    if len(parts) == 1:
        return parts[0]
    return Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in ('t_ns', 'x', 'y', 'p')),
                  parts[0].width, parts[0].height)
