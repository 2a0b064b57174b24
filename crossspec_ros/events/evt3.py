"""EVT 3.0 words to events.

Little-endian uint16 words, type in bits 15-12: 0 ADDR_Y, 2 ADDR_X (one event), 3 VECT_BASE_X, 4 VECT_12, 5 VECT_8, 6 TIME_LOW,
8 TIME_HIGH, A EXT_TRIGGER; 7, E, F continue or say something else; the rest is malformed. Time is TIME_HIGH << 12 | TIME_LOW
in us. Source: the EVT 3.0 data format as published by Prophesee.

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
_LOW_MASK = 0xFFF
_ROLLOVER_US = 1 << 24
_JITTER = 10                # a fall of TIME_HIGH by up to this much is noise of the sensor, not a rollover


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


@kernel(nbt.Tuple((nbt.int64, nbt.int64, nbt.int64, nbt.int64))(
    read_only(nbt.uint16), nbt.int64, nbt.int64, nbt.int64, nbt.int64, nbt.int64,
    writable(nbt.int64), writable(nbt.uint16), writable(nbt.uint16), writable(nbt.uint8), nbt.int64,
    writable(nbt.int64), nbt.int64, writable(nbt.int64), writable(nbt.int64)))
def decode_evt3(words, begin, end, until_ns, width, height, t_out, x_out, y_out, p_out, filled,
                triggers, trigger_count, state, counts):
    """Decode ``words[begin:end]`` behind the ``filled`` events already in the outputs.

    ``triggers`` is (K * 3,): time in ns, edge, id. Returns (next word, events in the outputs, triggers, reason): DONE all
    words are used, FULL an output has no room for another word, UNTIL the next event has t >= ``until_ns``.
    """
    i = begin
    if state[SYNC] != SYNCED:
        i = begin + find_time(words[begin:end], state, counts)
    n = filled
    room = len(t_out) - 12
    k = trigger_count
    trigger_room = len(triggers) // 3
    high = state[HIGH]
    low = state[LOW]
    y = state[Y]
    base = state[BASE]
    polarity = state[POLARITY]
    last = state[LAST]
    malformed = 0
    outside = 0
    back = 0
    t = (high | low) * 1000
    reason = DONE
    while i < end:
        word = np.int64(words[i])
        code = word >> 12
        if code == 2:
            if t >= until_ns:
                reason = UNTIL
                break
            if n > room:
                reason = FULL
                break
            x = word & 0x7FF
            if x < width and y < height:
                t_out[n] = t
                x_out[n] = x
                y_out[n] = y
                p_out[n] = (word >> 11) & 1
                n += 1
                back += t < last
                last = t
            else:
                outside += 1
        elif code == 0:
            y = word & 0x7FF
        elif code == 6:
            low = word & _LOW_MASK
            t = (high | low) * 1000
        elif code == 8:
            high = next_high(high, word & _LOW_MASK)
            t = (high | low) * 1000
        elif code == 4 or code == 5:
            if t >= until_ns:
                reason = UNTIL
                break
            if n > room:
                reason = FULL
                break
            lanes = 12 if code == 4 else 8
            bits = word & ((1 << lanes) - 1)
            if bits:
                first = n
                if base + lanes <= width and y < height:
                    for lane in range(lanes):
                        t_out[n] = t
                        x_out[n] = base + lane
                        y_out[n] = y
                        p_out[n] = polarity
                        n += (bits >> lane) & 1
                else:
                    for lane in range(lanes):
                        if (bits >> lane) & 1:
                            if base + lane < width and y < height:
                                t_out[n] = t
                                x_out[n] = base + lane
                                y_out[n] = y
                                p_out[n] = polarity
                                n += 1
                            else:
                                outside += 1
                if n > first:
                    back += t < last
                    last = t
            base += lanes
        elif code == 3:
            base = word & 0x7FF
            polarity = (word >> 11) & 1
        elif code == 10:
            if t >= until_ns:
                reason = UNTIL
                break
            if k >= trigger_room:
                reason = FULL
                break
            triggers[3 * k] = t
            triggers[3 * k + 1] = word & 1
            triggers[3 * k + 2] = (word >> 8) & 0xF
            k += 1
        elif code == 1 or code == 9 or (11 <= code <= 13):
            malformed += 1
        i += 1
    state[HIGH] = high
    state[LOW] = low
    state[Y] = y
    state[BASE] = base
    state[POLARITY] = polarity
    state[LAST] = last
    counts[MALFORMED] += malformed
    counts[OUTSIDE] += outside
    counts[TIME_BACK] += back
    return i, n, k, reason
