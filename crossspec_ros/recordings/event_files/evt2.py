"""EVT 2.0 and EVT 2.1 words to pieces of a stream and back.

EVT 2.0, little-endian uint32, type in bits 31-28: 0 OFF and 1 ON (time bits 27-22, x 21-11, y 10-0), 8 TIME_HIGH (time
>> 6, 28 bits), A EXT_TRIGGER (time bits 27-22, id 12-8, edge 0), E OTHER (time bits 27-22, subtype 15-0), F CONTINUED
(28 bits of the value of the OTHER before it). EVT 2.1, little-endian uint64: the same upper 32 bits, of which x is that
of the first of 32 pixels; the lower 32 bits say which of them had an event, or are the value of an OTHER.
``endianness=legacy`` has the two halves the other way round. Time is us. Source: the EVT 2.0 and 2.1 data formats as
published by Prophesee.

Ours: evutils reads the same events (a test compares them), but no reader tried gives the monitors or says what it left
out.
"""
from __future__ import annotations

from collections import Counter

import numpy as np

from crossspec_ros.events.types import Events
from crossspec_ros.recordings.event_files.piece import NO_VALUE, Piece, check_turns, columns, inside, whole_us

_TIME_HIGH, _TRIGGER, _OTHER, _CONTINUED = 8, 0xA, 0xE, 0xF
_TURN = 1 << 28                     # of TIME_HIGH: 4 h 46 min
_HALF_MASK = np.uint64(0xFFFFFFFF)


class Evt2Decoder:
    """Words of one stream, in pieces of any length, with what is carried from piece to piece.

    ``dropped`` counts malformed_words, before_first_time (words before the first TIME_HIGH) and outside_sensor.
    """

    def __init__(self, width: int, height: int, dropped: Counter[str], *, wide: bool = False) -> None:
        self.width, self.height, self.dropped, self._wide = width, height, dropped, wide
        self._high: int | None = None                   # with the turns in it
        self._other: tuple[int, int] | None = None      # time and subtype of an OTHER whose value is still to come

    def decode(self, words: np.ndarray) -> Piece:
        """uint32 (or, ``wide``, uint64) words to a piece."""
        lower = (words & _HALF_MASK).astype(np.uint32) if self._wide else np.zeros(0, np.uint32)
        upper = (words >> np.uint64(32)).astype(np.uint32) if self._wide else words
        code = (upper >> np.uint32(28)).astype(np.uint8)
        highs = np.flatnonzero(code == _TIME_HIGH)
        known = self._times_high(upper[highs])          # (H + 1,): before the first of them, after each of them
        start = int(highs[0]) if len(highs) else len(words)
        if self._high is None:
            self._drop('before_first_time', code[:start] != _TIME_HIGH)
            upper, lower, code, highs = upper[start:], lower[start:], code[start:], highs - start
        high = np.repeat(known, np.diff(np.concatenate([[0], highs, [len(code)]])))
        if len(highs):
            self._high = int(known[-1])
        time_us = (high << 6) + (upper >> np.uint32(22) & np.uint32(63))
        self._drop('malformed_words', (code != _TIME_HIGH) & (code != _TRIGGER) & (code < _OTHER) & (code > 1))
        events = self._events(time_us, upper, lower, code)
        at = np.flatnonzero(code == _TRIGGER)
        triggers = np.stack([time_us[at] * 1000, upper[at] & 1, upper[at] >> np.uint32(8) & 31], 1).astype(np.int64)
        return Piece(events, triggers, self._monitors(time_us, upper, lower, code))

    def _drop(self, cause: str, which: np.ndarray) -> None:
        if count := int(np.count_nonzero(which)):
            self.dropped[cause] += count

    def _times_high(self, words: np.ndarray) -> np.ndarray:
        """TIME_HIGH with its turns: what was known before these words, then what each of them says."""
        values = (words & np.uint32(_TURN - 1)).astype(np.int64)
        if not len(values):
            return np.array([self._high or 0])
        before = values[0] if self._high is None else self._high
        # A fall by more than half a turn is the counter beginning anew; a smaller one is noise of the sensor.
        turns = np.cumsum(np.diff(values, prepend=before % _TURN) < -_TURN // 2) + before // _TURN
        return np.concatenate([[before], values + turns * _TURN])

    def _events(self, time_us: np.ndarray, upper: np.ndarray, lower: np.ndarray, code: np.ndarray) -> Events:
        at = np.flatnonzero(code <= 1)
        x, y, p = upper[at] >> np.uint32(11) & np.uint32(0x7FF), upper[at] & np.uint32(0x7FF), code[at]
        t_ns = time_us[at] * 1000
        if self._wide:
            word, lane = np.nonzero(lower[at, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1))
            t_ns, x, y, p = t_ns[word], x[word] + lane.astype(np.uint32), y[word], p[word]
        return inside(t_ns, x, y, p, self.width, self.height, self.dropped)

    def _monitors(self, time_us: np.ndarray, upper: np.ndarray, lower: np.ndarray, code: np.ndarray) -> np.ndarray:
        if self._wide:
            at = np.flatnonzero(code == _OTHER)
            return np.stack([time_us[at] * 1000, upper[at] & 0xFFFF, lower[at]], 1).astype(np.int64)
        rows: list[tuple[int, int, int]] = []
        for at in np.flatnonzero(code >= _OTHER).tolist():
            if code[at] == _OTHER:
                self._end_other(rows)
                self._other = (int(time_us[at]) * 1000, int(upper[at]) & 0xFFFF)
            elif self._other is not None:
                rows.append((*self._other, int(upper[at]) & 0xFFFFFFF))
                self._other = None
        # Only at the very end of these words may the value still come with the next ones.
        if len(code) and code[-1] != _OTHER:
            self._end_other(rows)
        return columns(rows)

    def _end_other(self, rows: list[tuple[int, int, int]]) -> None:
        if self._other is not None:
            rows.append((*self._other, NO_VALUE))
            self._other = None

    def finish(self) -> Piece:
        """What only the end of the stream tells."""
        rows: list[tuple[int, int, int]] = []
        self._end_other(rows)
        return Piece(Events.empty(self.width, self.height), monitors=columns(rows))


class Evt2Encoder:
    """Pieces of one stream to words; what is encoded here decodes to the same."""

    def __init__(self, left_out: Counter[str], *, wide: bool = False) -> None:
        self._left_out, self._wide = left_out, wide
        self._high = -1

    def encode(self, piece: Piece) -> np.ndarray:
        """Words, uint32 (N,) or uint64 (N,)."""
        t_us = whole_us(piece.events.t_ns, self._left_out)
        order = np.maximum.accumulate(t_us) if len(t_us) else t_us
        words, t_us, order = self._of_events(piece.events, t_us, order)
        for extra, times in (self._of_triggers(piece.triggers), self._of_monitors(piece.monitors)):
            at = np.searchsorted(order, times, side='right')
            words, t_us, order = np.insert(words, at, extra), np.insert(t_us, at, times), np.insert(order, at, times)
        high = t_us >> 6
        check_turns(t_us, _TURN << 6, self._high << 6, 'EVT 2')
        new = np.flatnonzero(np.diff(high, prepend=self._high))
        if len(high):
            self._high = int(high[-1])
        said = (np.uint64(_TIME_HIGH) << np.uint64(28)) | (high[new] % _TURN).astype(np.uint64)
        words = np.insert(words, new, said << np.uint64(32) if self._wide else said)
        return words.astype('<u8' if self._wide else '<u4')

    def _of_events(self, events: Events, t_us: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, ...]:
        x, y, p = (column.astype(np.uint64) for column in (events.x, events.y, events.p != 0))
        low = t_us.astype(np.uint64) & np.uint64(63)
        first_x = x & np.uint64(0x7E0) if self._wide else x
        upper = p << np.uint64(28) | low << np.uint64(22) | first_x << np.uint64(11) | y
        if not self._wide or not len(x):
            return upper, t_us, order
        # One word takes neighbours that follow each other with x rising, so that the order of events stays.
        new = (np.diff(t_us, prepend=-1) != 0) | (np.diff(upper, prepend=~upper[0]) != 0) | (
            np.diff(x.astype(np.int64), prepend=1 << 20) <= 0)
        starts = np.flatnonzero(new)
        lanes = np.bitwise_or.reduceat(np.uint64(1) << (x & np.uint64(31)), starts)
        return upper[starts] << np.uint64(32) | lanes, t_us[starts], order[starts]

    def _of_triggers(self, triggers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        times = triggers[:, 0] // 1000
        words = 0xA << 28 | (times & 63) << 22 | (triggers[:, 2] & 31) << 8 | triggers[:, 1] & 1
        return words.astype(np.uint64) << np.uint64(32 if self._wide else 0), times

    def _of_monitors(self, monitors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        times, subtypes, values = monitors[:, 0] // 1000, monitors[:, 1], monitors[:, 2]
        words = (_OTHER << 28 | (times & 63) << 22 | subtypes & 0xFFFF).astype(np.uint64)
        if self._wide:
            return words << np.uint64(32) | np.maximum(values, 0).astype(np.uint64), times
        told = np.repeat(words, 1 + (values != NO_VALUE))
        second = np.cumsum(1 + (values != NO_VALUE))[values != NO_VALUE] - 1
        told[second] = (_CONTINUED << 28 | values[values != NO_VALUE] & 0xFFFFFFF).astype(np.uint64)
        return told, np.repeat(times, 1 + (values != NO_VALUE))
