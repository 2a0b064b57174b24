"""EVT 3.0 words to events.

Little-endian uint16 words, type in bits 15-12: 0 ADDR_Y, 2 ADDR_X (one event), 3 VECT_BASE_X, 4 VECT_12, 5 VECT_8, 6
TIME_LOW, 8 TIME_HIGH, A EXT_TRIGGER; 7, E, F continue or say something else; the rest is malformed. Time is TIME_HIGH
<< 12 | TIME_LOW in us. Source: the EVT 3.0 data format as published by Prophesee.

State (int64, carried from packet to packet) and counts are small arrays, indexed by the constants below.
"""
from __future__ import annotations

import numba
import numpy as np
from numba import types as nbt

from crossspec_ros.events.jit import kernel, read_only, writable

# State of the stream. TIME_HIGH is kept shifted and with the rollovers in it: its unit is us.
HIGH, LOW, Y, BASE, POLARITY, SYNC, LAST = range(7)
STATE_SIZE = 7
SYNCED = 2                  # 0: no time yet; 1: TIME_HIGH seen; 2: TIME_HIGH, then TIME_LOW

# What was dropped, and words after which time went back (those events are kept).
MALFORMED, OUTSIDE, UNSYNCED, TIME_BACK, INVALID = range(5)
COUNTS_SIZE = 5

# Why a kernel returned.
DONE, FULL, UNTIL = range(3)

MAX_EVENTS_PER_WORD = 12

# Words and codes as uint32: numba would make a float of a uint64 and a literal.
ONE = np.uint64(1)
BIT, TWO, FOUR, SIX, EIGHT, SHIFT11, SHIFT, TWELVE = (np.uint32(bits) for bits in (1, 2, 4, 6, 8, 11, 12, 12))
LOW2, LOW4, LOW11, LOW12, FAR = (np.uint32(mask) for mask in (0x3, 0xF, 0x7FF, 0xFFF, 0xFFFF))
ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH, EXT_TRIGGER = (
    np.uint32(code) for code in (0, 2, 3, 4, 5, 6, 8, 10))
SKIPPED_CODES = np.uint32(1 << 7 | 1 << 14 | 1 << 15)
MALFORMED_CODES = np.uint32(1 << 1 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 13)
_LOW_MASK = 0xFFF
_ROLLOVER_US = 1 << 24
AHEAD = 3
TAIL_SIZE = 2 * AHEAD
_PADDING = 0xF000           # a word that says nothing
_FOURS = 3                  # of lanes in a vector word
_JITTER = 10                # a fall of TIME_HIGH by up to this much is noise of the sensor, not a rollover


def _set_lanes(bits: int) -> int:
    """The lanes that are set in four bits, two bits each from the lowest on, and above them how many they are."""
    lanes = [lane for lane in range(4) if bits >> lane & 1]
    return len(lanes) << 8 | sum(lane << 2 * place for place, lane in enumerate(lanes))


_SET_LANES = np.array([_set_lanes(bits) for bits in range(16)], np.uint16)


def new_state() -> np.ndarray:
    """State before the first word: nothing is decoded until a TIME_HIGH and then a TIME_LOW have been seen."""
    return np.zeros(STATE_SIZE, np.int64)


@numba.njit(inline='always')
def next_high(high: int, value: int) -> int:
    """TIME_HIGH (with rollovers, us) after a TIME_HIGH word with these 12 bits."""
    last = (high >> 12) & _LOW_MASK
    if last - value > _JITTER:
        high += _ROLLOVER_US
    return (high & ~(_ROLLOVER_US - 1)) | (value << 12)


@numba.njit(inline='always')
def find_time(words: np.ndarray, state: np.ndarray, counts: np.ndarray) -> int:
    """Index after the TIME_LOW that makes the time known (``len(words)`` where none does); state and counts follow."""
    for i in range(len(words)):
        word = np.int64(words[i])
        code = word >> 12
        if code == 8:
            state[HIGH] = next_high(state[HIGH], word & _LOW_MASK)
            state[SYNC] = 1
        elif code == 6:
            state[LOW] = word & _LOW_MASK
            if state[SYNC] == 1:
                state[SYNC] = SYNCED
                return i + 1
        elif code == 2 or code == 4 or code == 5 or code == 10:
            counts[UNSYNCED] += 1
        elif code == 1 or code == 9 or (11 <= code <= 13):
            counts[MALFORMED] += 1
    return len(words)


@numba.njit(inline='always')
def pad_tail(words, at, end, tail):
    """The last words, with words after them that say nothing, for a loop that reads ahead."""
    for k in range(TAIL_SIZE):
        tail[k] = words[at + k] if at + k < end else _PADDING


@numba.njit
def _decode_run(words, start, end, until_ns, width, height, t_out, x_out, y_out, p_out, filled,
                triggers, trigger_count, state, counts):
    """As ``decode_evt3``, once the time is known; may use and must be able to read up to three words after ``end``."""
    # Indices are unsigned: numba then leaves out the test for negative ones, a fifth of the time of this loop.
    i, stop, n, room = np.uint64(start), np.uint64(end), np.uint64(filled), np.uint64(len(t_out) - MAX_EVENTS_PER_WORD)
    k = trigger_count
    columns, rows = np.uint32(width), np.uint32(height)
    high, low, last = state[HIGH], state[LOW], state[LAST]
    y, base, polarity = np.uint32(state[Y]), np.uint32(state[BASE]), np.uint32(state[POLARITY])
    high_word = np.uint32((high >> 12) & 0xFFF)
    malformed = 0
    outside = 0
    back = 0
    t = (high | low) * 1000
    reason = DONE
    while i < stop:
        word = np.uint32(words[i])
        code = word >> SHIFT
        # Cameras send TIME_HIGH, TIME_LOW, ADDR_Y, ADDR_X in this order, with some left out: follow it without
        # dispatch.
        if code == TIME_HIGH:
            if word & LOW12 != high_word:
                high_word = word & LOW12
                high = next_high(high, np.int64(high_word))
                t = (high | low) * 1000
            i += ONE
            word = np.uint32(words[i])
            code = word >> SHIFT
        if code == TIME_LOW:
            low = np.int64(word & LOW12)
            t = (high | low) * 1000
            i += ONE
            word = np.uint32(words[i])
            code = word >> SHIFT
        if code == ADDR_Y:
            y = word & LOW11
            i += ONE
            word = np.uint32(words[i])
            code = word >> SHIFT
        if code == ADDR_X:
            if t >= until_ns or n > room:
                reason = UNTIL if t >= until_ns else FULL
                break
            x = word & LOW11
            t_out[n] = t
            x_out[n] = x
            y_out[n] = y
            p_out[n] = (word >> SHIFT11) & BIT
            inside = (x < columns) & (y < rows)
            n += np.uint64(inside)
            outside += not inside
            back += inside & (t < last)
            last = t if inside else last
            i += ONE
        elif (SKIPPED_CODES >> code) & BIT:
            # What a camera says of itself comes as several of these words in a row.
            i += ONE
            while i < stop and (SKIPPED_CODES >> (np.uint32(words[i]) >> SHIFT)) & BIT:
                i += ONE
        elif code == VECT_12 or code == VECT_8:
            if t >= until_ns or n > room:
                reason = UNTIL if t >= until_ns else FULL
                break
            first = n
            lanes = TWELVE if code == VECT_12 else EIGHT
            bits = word & ((BIT << lanes) - BIT)
            if base + lanes <= columns and y < rows:
                # Write more than are set and step on by how many are: no branch that depends on the bits.
                for lane in range(MAX_EVENTS_PER_WORD):
                    t_out[n + np.uint64(lane)] = t
                for lane in range(MAX_EVENTS_PER_WORD):
                    y_out[n + np.uint64(lane)] = y
                for lane in range(MAX_EVENTS_PER_WORD):
                    p_out[n + np.uint64(lane)] = polarity
                x = base
                for _ in range(_FOURS):
                    found = np.uint32(_SET_LANES[bits & LOW4])
                    x_out[n] = x + (found & LOW2)
                    x_out[n + ONE] = x + ((found >> TWO) & LOW2)
                    x_out[n + ONE + ONE] = x + ((found >> FOUR) & LOW2)
                    x_out[n + ONE + ONE + ONE] = x + ((found >> SIX) & LOW2)
                    n += np.uint64(found >> EIGHT)
                    bits >>= FOUR
                    x += FOUR
            else:
                for lane in range(lanes):
                    if (bits >> np.uint32(lane)) & BIT:
                        if base + lane < columns and y < rows:
                            t_out[n] = t
                            x_out[n] = base + lane
                            y_out[n] = y
                            p_out[n] = polarity
                            n += ONE
                        else:
                            outside += 1
            if n > first:
                back += t < last
                last = t
            base = min(base + lanes, FAR)
            i += ONE
        elif code == VECT_BASE_X:
            base = word & LOW11
            polarity = (word >> SHIFT11) & BIT
            i += ONE
        elif code == EXT_TRIGGER:
            if t >= until_ns or 3 * k + 3 > len(triggers):
                reason = UNTIL if t >= until_ns else FULL
                break
            triggers[3 * k] = t
            triggers[3 * k + 1] = word & BIT
            triggers[3 * k + 2] = (word >> EIGHT) & LOW4
            k += 1
            i += ONE
        elif code != TIME_HIGH and code != TIME_LOW and code != ADDR_Y:
            malformed += (MALFORMED_CODES >> code) & BIT
            i += ONE
    state[HIGH], state[LOW], state[LAST] = high, low, last
    state[Y], state[BASE], state[POLARITY] = y, base, polarity
    counts[MALFORMED] += malformed
    counts[OUTSIDE] += outside
    counts[TIME_BACK] += back
    return np.int64(i), np.int64(n), k, reason


@kernel(nbt.Tuple((nbt.int64, nbt.int64, nbt.int64, nbt.int64))(
    read_only(nbt.uint16), nbt.int64, nbt.int64, nbt.int64, nbt.int64, nbt.int64,
    writable(nbt.int64), writable(nbt.uint16), writable(nbt.uint16), writable(nbt.uint8), nbt.int64,
    writable(nbt.int64), nbt.int64, writable(nbt.int64), writable(nbt.int64), writable(nbt.uint16)))
def decode_evt3(words, start, end, until_ns, width, height, t_out, x_out, y_out, p_out, filled,
                triggers, trigger_count, state, counts, tail):
    """Decode ``words[start:end]`` after the ``filled`` events already in the outputs.

    ``triggers`` is (K * 3,): time in ns, edge, id; ``tail`` is scratch of TAIL_SIZE. Returns (next word, events in
    the outputs, triggers, reason): DONE all words are used, FULL an output has no room for another word, UNTIL the
    next event has t >= ``until_ns``.
    """
    if state[SYNC] != SYNCED:
        start += find_time(words[start:end], state, counts)
    # The loop looks up to three words ahead without asking for the end: the last ones follow in a padded copy.
    edge = max(start, end - AHEAD)
    at, filled, trigger_count, reason = _decode_run(
        words, start, edge, until_ns, width, height, t_out, x_out, y_out, p_out, filled, triggers, trigger_count, state,
        counts)
    if reason != DONE or at >= end:
        return at, filled, trigger_count, reason
    pad_tail(words, at, end, tail)
    used, filled, trigger_count, reason = _decode_run(
        tail, 0, end - at, until_ns, width, height, t_out, x_out, y_out, p_out, filled, triggers, trigger_count, state,
        counts)
    return min(at + used, end), filled, trigger_count, reason
