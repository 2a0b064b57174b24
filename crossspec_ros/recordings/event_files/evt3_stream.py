"""A stream of evt3 words cut into packets as it is, what else than events is in it, and pieces as such words.

The words themselves are those of ``events.evt3``; a monitor is an OTHERS word (E, 12 bits of subtype) and, where it
has a value, CONTINUED_12 (F), CONTINUED_12 and CONTINUED_4 (7) with its 28 bits, lowest first.
"""
from __future__ import annotations

from collections import Counter

import numpy as np
from numba import types as nbt

from crossspec_ros.events.encode import Evt3Encoder
from crossspec_ros.events.evt3 import next_high
from crossspec_ros.events.jit import kernel, read_only, writable
from crossspec_ros.recordings.event_files.piece import NO_VALUE, Piece, whole_us



def new_cut_state() -> np.ndarray:
    """State before the first word for ``find_cuts``."""
    return np.array([0, 0, 0, -1, -1, -1], np.int64)


@kernel(nbt.int64(read_only(nbt.uint16), writable(nbt.int64), nbt.int64, writable(nbt.int64)))
def find_cuts(words, state, slice_us, cuts):
    """Where packets end: before each TIME_HIGH that leads into another slice of time.

    ``cuts`` is (K * 3,): index of the first word of the next packet, first and last time in the packet that ends there
    (us, -1 where it has none). Returns how many; stops where ``cuts`` is full.
    """
    high, low, sync, first, last, piece = state[0], state[1], state[2], state[3], state[4], state[5]
    k = 0
    for i in range(len(words)):
        word = np.int64(words[i])
        code = word >> 12
        if code == 8:
            high = next_high(high, word & 0xFFF)
            sync |= 1
            if high // slice_us != piece:
                if piece >= 0 and 3 * k + 3 <= len(cuts):
                    cuts[3 * k], cuts[3 * k + 1], cuts[3 * k + 2] = i, first, last
                    k += 1
                    first, last = -1, -1
                piece = high // slice_us
        elif code == 6:
            low = word & 0xFFF
            sync |= (sync & 1) << 1
        elif sync == 3 and (code == 2 or code == 4 or code == 5 or code == 10):
            last = high | low
            if first < 0:
                first = last
    state[0], state[1], state[2], state[3], state[4], state[5] = high, low, sync, first, last, piece
    return k


def new_monitor_state() -> np.ndarray:
    """State before the first word for ``find_monitors``."""
    return np.array([0, 0, 0, -1, 0, 0, 0], np.int64)


@kernel(nbt.int64(read_only(nbt.uint16), writable(nbt.int64), writable(nbt.int64)))
def find_monitors(words, state, rows):
    """Monitors in ``words`` into ``rows`` (M * 3,): time in ns, subtype, value or -1; returns how many.

    ``rows`` must have room for one a word and one more.
    """
    high, low, sync, subtype, time, value, bits = (state[0], state[1], state[2], state[3], state[4], state[5], state[6])
    k = 0
    for i in range(len(words)):
        word = np.int64(words[i])
        code = word >> 12
        if subtype >= 0 and (code == 15 or code == 7):
            taken = 12 if code == 15 else 4
            if bits + taken <= 28:
                value |= (word & ((1 << taken) - 1)) << bits
                bits += taken
        elif subtype >= 0:
            rows[3 * k], rows[3 * k + 1], rows[3 * k + 2] = time, subtype, value if bits else -1
            k += 1
            subtype = -1
        if code == 8:
            high = next_high(high, word & 0xFFF)
            sync |= 1
        elif code == 6:
            low = word & 0xFFF
            sync |= (sync & 1) << 1
        elif code == 14 and sync == 3:
            subtype, time, value, bits = word & 0xFFF, (high | low) * 1000, 0, 0
    state[0], state[1], state[2], state[3], state[4], state[5], state[6] = high, low, sync, subtype, time, value, bits
    return k


class MonitorReader:
    """Monitors of consecutive words of one stream."""

    def __init__(self) -> None:
        self._state = new_monitor_state()

    def read(self, words: np.ndarray) -> np.ndarray:
        """Monitors that are whole by the end of ``words``, int64 (M, 3)."""
        rows = np.empty(3 * (int(np.count_nonzero(words >> 12 == 14)) + 1), np.int64)
        count = find_monitors.compiled(words, self._state, rows)
        return rows[:3 * count].reshape(-1, 3).copy()

    def finish(self) -> np.ndarray:
        """The one that the stream ended with, if any."""
        return self.read(np.array([0xB000], np.uint16))


class Evt3PieceEncoder:
    """Pieces of one stream to evt3 payloads, triggers and monitors at their times among the events.

    ``left_out`` counts what evt3 cannot say: ids of more than 4 bits, subtypes of more than 12.
    """

    def __init__(self, left_out: Counter[str]) -> None:
        self._encoder = Evt3Encoder()
        self._left_out = left_out

    def encode(self, piece: Piece) -> np.ndarray:
        """Payload, uint8 (B,). Raises CrossSpecError like ``Evt3Encoder.encode``."""
        whole_us(piece.events.t_ns, self._left_out)
        extras = [(int(t), self._trigger(int(edge), int(name))) for t, edge, name in piece.triggers]
        extras += [(int(t), self._monitor(int(subtype), int(value))) for t, subtype, value in piece.monitors]
        extras.sort(key=lambda extra: extra[0])
        parts, at = [], 0
        for t_ns, words in extras:
            if words:
                stop = max(at, int(np.searchsorted(piece.events.t_ns, t_ns, side='right')))
                parts.append(self._encoder.encode(piece.events.part(at, stop)))
                parts.append(self._encoder.encode_words(t_ns // 1000, words))
                at = stop
        parts.append(self._encoder.encode(piece.events.part(at, len(piece.events))))
        return np.concatenate(parts)

    def _trigger(self, edge: int, name: int) -> list[int]:
        if name > 0xF:
            self._left_out['triggers_id'] += 1
            return []
        return [0xA000 | name << 8 | edge & 1]

    def _monitor(self, subtype: int, value: int) -> list[int]:
        if subtype > 0xFFF or value >= 1 << 28:
            self._left_out['monitors'] += 1
            return []
        if value == NO_VALUE:
            return [0xE000 | subtype]
        return [0xE000 | subtype, 0xF000 | value & 0xFFF, 0xF000 | value >> 12 & 0xFFF, 0x7000 | value >> 24 & 0xF]
