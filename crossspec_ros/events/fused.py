"""Events straight into the moments of a slice of time; where the words are evt3, with no event arrays in between.

A slice keeps two whole numbers a cell: S0, the sum of the signs of its events (ON +1, OFF -1), and S1, the sum of sign
times the time since the slice began, ns. Whatever is linear in time within the slice, such as the shares of two time
bins, follows from them exactly and in whatever order the events came: ``moments.py``.

Both grow in one number, ``packed = S0 * 2**shift + S1``, so that an event is one addition. ``capacity`` events fit;
before there can be more, they move to ``sums``, int64 (2 * cells,), where both are kept apart: S0, then S1.
"""
from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
from numba import types as nbt

from crossspec_ros.events.evt3 import (
    ADDR_X,
    ADDR_Y,
    BASE,
    BIT,
    EIGHT,
    EXT_TRIGGER,
    FAR,
    HIGH,
    LAST,
    LOW,
    LOW11,
    LOW12,
    MALFORMED,
    MALFORMED_CODES,
    MAX_EVENTS_PER_WORD,
    ONE,
    OUTSIDE,
    POLARITY,
    SHIFT,
    SHIFT11,
    SKIPPED_CODES,
    SYNC,
    SYNCED,
    TIME_BACK,
    TIME_HIGH,
    TIME_LOW,
    TWELVE,
    VECT_8,
    VECT_12,
    VECT_BASE_X,
    Y,
    find_time,
    next_high,
)
from crossspec_ros.events.jit import kernel, read_only, writable
from crossspec_ros.events.representations import cell_table

# What is carried from call to call beside the decoder's state (int64): how ``packed`` is divided and how many events it
# holds, the newest event and how far one may be behind it (sensor time, ns), counts, whether many words say
# nothing, and the first event that `add_words` came upon, or NO_TIME_NS.
SHIFT_BITS, CAPACITY, PACKED, NEWEST, MAX_BACK, HITS, LATE, TRIGGERS, IDLE, FIRST = range(10)
CARRY_SIZE = 10
NO_TIME_NS = -(1 << 62)
CLOSED = (0, NO_TIME_NS)    # bounds of no slice: the first event ends the pass

# The table of a sensor, int32: cells by column, then by row.
_SIDE = 1 << 11             # pixels a side that evt3 can name
_BY_ROW = _SIDE + MAX_EVENTS_PER_WORD
_ROWS, _BEYOND = np.uint32(_BY_ROW), np.uint32(_SIDE)

_LONG_RUN = 100             # words that are enough to tell whether many say nothing
_MANY_IDLE = 16             # one in so many is a lot
SCRATCH_SIZE = 1024         # words looked at in one go where many do

# Lowest bit set of a vector word: jumping from event to event spares a branch for each lane.
_LOWEST = np.array([(bits & -bits).bit_length() - 1 if bits else 0 for bits in range(1 << 12)], np.uint8)


@lru_cache(maxsize=16)
def word_table(width: int, height: int, shape: tuple[int, int]) -> np.ndarray:
    """The table that ``add_words`` takes for a sensor of this size and cells (H, W).

    What lies outside the sensor has the cell H * W, so that the sum of row and column tells.
    """
    rows, columns = shape
    table = np.full(_BY_ROW + _SIDE, rows * columns, np.int32)
    by_column = cell_table(width, columns, 1)[:_SIDE]
    by_row = cell_table(height, rows, columns)[:_SIDE]
    table[:len(by_column)] = by_column
    table[_BY_ROW:_BY_ROW + len(by_row)] = by_row
    table.flags.writeable = False
    return table


_INT64 = writable(nbt.int64)
_RESULT = nbt.Tuple((nbt.int64, nbt.int64))


@numba.njit
def _run(words, start, end, first_ns, last_ns, offset_ns, cells, packed, carry, state, counts):
    """As ``add_words``, once the time is known and while ``packed`` has room."""
    i, stop = np.uint64(start), np.uint64(end)
    plane = np.uint32(len(packed))
    least = np.int64(1) << carry[SHIFT_BITS]
    most = least + last_ns - first_ns
    bias = least + offset_ns - first_ns         # from sensor time to what an event adds
    max_back = carry[MAX_BACK]
    high, low = state[HIGH], state[LOW]
    y, base, polarity = np.uint32(state[Y]), np.uint32(state[BASE]), np.uint32(state[POLARITY])
    high_word = TIME_HIGH << SHIFT | np.uint32((high >> 12) & 0xFFF)
    row = np.uint32(cells[_ROWS + y])
    high_value = high * 1000 + bias
    value = high_value + low * 1000
    newest = max(carry[NEWEST] + bias, least + 1)
    late_value, late_hits = state[LAST] + bias, 0       # the last event, where that is not the newest one
    hits = 0
    idles = 0
    while i < stop:
        word = np.uint32(words[i])
        code = word >> SHIFT
        # Cameras send TIME_HIGH, TIME_LOW, ADDR_Y, ADDR_X in this order, with some left out: follow it without
        # dispatch.
        if code == TIME_HIGH:
            if word == high_word:
                idles += 1
            else:
                high_word = word
                high = next_high(high, np.int64(word & LOW12))
                high_value = high * 1000 + bias
                value = high_value + low * 1000
            i += ONE
            if i >= stop:
                break
            word = np.uint32(words[i])
            code = word >> SHIFT
        if code == TIME_LOW:
            low = np.int64(word & LOW12)
            value = high_value + low * 1000
            i += ONE
            if i >= stop:
                break
            word = np.uint32(words[i])
            code = word >> SHIFT
        if code == ADDR_Y:
            y = word & LOW11
            row = np.uint32(cells[_ROWS + y])
            i += ONE
            if i >= stop:
                break
            word = np.uint32(words[i])
            code = word >> SHIFT
        if code == ADDR_X:
            cell = row + np.uint32(cells[word & LOW11])
            if cell >= plane or value < newest or value > most:
                if cell >= plane:
                    counts[OUTSIDE] += 1
                    i += ONE
                    continue
                if value > most or value <= least or newest - value > max_back:
                    break
                counts[TIME_BACK] += value < (late_value if late_hits == hits else newest)
                carry[LATE] += 1
                late_value, late_hits = value, hits + 1
            newest = max(newest, value)
            sign = np.int64((word >> SHIFT11) & BIT) - 1
            packed[cell] += (value ^ sign) - sign
            hits += 1
            i += ONE
        elif code == VECT_12 or code == VECT_8:
            lanes = TWELVE if code == VECT_12 else EIGHT
            bits = word & ((BIT << lanes) - BIT)
            first = min(base, _BEYOND)
            sign = np.int64(polarity) - 1
            signed = (value ^ sign) - sign
            in_order = newest <= value <= most
            in_slice = in_order or (least < value <= most and newest - value <= max_back)
            found = 0
            beside = 0
            while bits:
                cell = row + np.uint32(cells[first + np.uint32(_LOWEST[bits])])
                bits &= bits - BIT
                if cell >= plane:
                    beside += 1
                else:
                    found += 1
                    if in_slice:
                        packed[cell] += signed
            if found:
                if not in_slice:
                    break
                if not in_order:
                    counts[TIME_BACK] += value < (late_value if late_hits == hits else newest)
                    carry[LATE] += found
                    late_value, late_hits = value, hits + found
                newest = max(newest, value)
                hits += found
            counts[OUTSIDE] += beside
            base = min(base + lanes, FAR)
            i += ONE
        elif code == VECT_BASE_X:
            base = word & LOW11
            polarity = (word >> SHIFT11) & BIT
            i += ONE
        elif code != TIME_HIGH and code != TIME_LOW and code != ADDR_Y:
            idles += np.int64((SKIPPED_CODES >> code) & BIT)
            counts[MALFORMED] += (MALFORMED_CODES >> code) & BIT
            carry[TRIGGERS] += code == EXT_TRIGGER
            i += ONE
    state[HIGH], state[LOW], state[LAST] = high, low, (late_value if late_hits == hits else newest) - bias
    state[Y], state[BASE], state[POLARITY] = y, base, polarity
    if hits:
        carry[NEWEST] = max(carry[NEWEST], newest - bias)
    carry[HITS] += hits
    carry[PACKED] += hits
    return np.int64(i), idles


@numba.njit(inline='always')
def _says_something(word, high_word):
    """Neither the TIME_HIGH of before, nor a code that is skipped: these come where no branch can foresee them."""
    return np.uint64((word != high_word) & (((SKIPPED_CODES >> (word >> SHIFT)) & BIT) == 0))


@numba.njit(inline='always')
def _compact(words, start, end, high, busy):
    """Copy to ``busy`` the words that say something; how many."""
    high_word = TIME_HIGH << SHIFT | np.uint32((high >> 12) & 0xFFF)
    n = np.uint64(0)
    for i in range(np.uint64(start), np.uint64(end)):
        word = np.uint32(words[i])
        busy[n] = word
        n += _says_something(word, high_word)
        high_word = word if word >> SHIFT == TIME_HIGH else high_word
    return np.int64(n)


@numba.njit
def _find_busy(words, start, number, high):
    """Index of the word that `_compact` would copy to ``number``."""
    high_word = TIME_HIGH << SHIFT | np.uint32((high >> 12) & 0xFFF)
    at = start
    left = number
    while True:
        word = np.uint32(words[at])
        if _says_something(word, high_word):
            if left == 0:
                return at
            left -= 1
        high_word = word if word >> SHIFT == TIME_HIGH else high_word
        at += 1


@numba.njit
def _run_busy(words, start, end, first_ns, last_ns, offset_ns, cells, packed, carry, state, counts, busy):
    """As ``_run``, faster where many words say nothing."""
    at = start
    idles = 0
    while at < end:
        high = state[HIGH]
        stop = min(end, at + len(busy))
        filled = _compact(words, at, stop, high, busy)
        done, _ = _run(busy, 0, filled, first_ns, last_ns, offset_ns, cells, packed, carry, state, counts)
        if done < filled:
            next_at = _find_busy(words, at, done, high)
            return next_at, idles + next_at - at - done
        idles += stop - at - filled
        at = stop
    return at, idles


@numba.njit
def _unpack(packed, sums, carry):
    shift = carry[SHIFT_BITS]
    half = np.int64(1) << (shift - 1)
    plane = len(packed)
    for cell in range(plane):
        both = packed[cell]
        s0 = (both + half) >> shift
        sums[cell] += s0
        sums[plane + cell] += both - (s0 << shift)
        packed[cell] = 0
    carry[PACKED] = 0


@kernel(nbt.void(read_only(nbt.int64), read_only(nbt.int64), nbt.int64, nbt.float64, nbt.float64,
                 writable(nbt.float32), writable(nbt.float32)))
def add_bins(packed, sums, shift, rate, share, near, far):
    """Add a slice to the time bin before it and the one after it, ``near`` and ``far``, float32 (cells,).

    ``far`` gets ``share`` of an event on the slice's start, and ``rate`` more a ns; ``near`` gets the rest.
    """
    half = np.int64(1) << (shift - 1)
    for cell in range(len(packed)):
        s0 = (packed[cell] + half) >> shift
        part = (packed[cell] - (s0 << shift)) * rate + s0 * share
        near[cell] += np.float32(s0 - part)
        far[cell] += np.float32(part)
    if len(sums):
        plane = len(packed)
        for cell in range(plane):
            part = sums[plane + cell] * rate + sums[cell] * share
            near[cell] += np.float32(sums[cell] - part)
            far[cell] += np.float32(part)


@kernel(_RESULT(read_only(nbt.uint16), nbt.int64, nbt.int64, nbt.int64, nbt.int64, nbt.int64, read_only(nbt.int32),
                nbt.int64, nbt.int64, _INT64, _INT64, _INT64, _INT64, _INT64, writable(nbt.uint16)))
def add_words(words, start, end, first_ns, last_ns, offset_ns, table, earliest_ns, latest_ns, packed, sums, carry,
              state, counts, busy):
    """Add the events of the evt3 ``words[start:end]`` to the slice (first, last] of the grid's time.

    ``offset_ns`` is what sensor time lacks to the grid's; it holds where the first event is from ``earliest_ns`` to
    ``latest_ns`` of the sensor's. ``state`` and ``counts`` are the decoder's; ``busy``, uint16, is scratch. Returns
    (next word, time of its event): ``end`` all words are used, else the offset does not hold, or the next event is in
    another slice or behind the newest by more than is allowed; where its time is NO_TIME_NS, ``packed`` is full and
    ``sums`` is empty.
    """
    carry[FIRST] = NO_TIME_NS
    if state[SYNC] != SYNCED:
        start += find_time(words[start:end], state, counts)
    at, _ = _run(words, start, end, CLOSED[0], CLOSED[1], 0, table, packed, carry, state, counts)
    if at < end:
        carry[FIRST] = (state[HIGH] | state[LOW]) * 1000
        if not earliest_ns <= carry[FIRST] <= latest_ns:
            return at, carry[FIRST]
    while at < end:
        if 2 * carry[PACKED] > carry[CAPACITY]:
            if not len(sums):
                break
            _unpack(packed, sums, carry)
        stop = min(end, at + (carry[CAPACITY] - carry[PACKED]) // MAX_EVENTS_PER_WORD)
        from_at = at
        if carry[IDLE]:
            at, idles = _run_busy(words, at, stop, first_ns, last_ns, offset_ns, table, packed, carry, state, counts,
                                  busy)
        else:
            at, idles = _run(words, at, stop, first_ns, last_ns, offset_ns, table, packed, carry, state, counts)
        if at - from_at >= _LONG_RUN:
            carry[IDLE] = _MANY_IDLE * idles > at - from_at
        if at < stop:
            return at, (state[HIGH] | state[LOW]) * 1000
    return at, NO_TIME_NS


@kernel(_RESULT(read_only(nbt.int64), read_only(nbt.uint16), read_only(nbt.uint16), read_only(nbt.uint8), nbt.int64,
                nbt.int64, nbt.int64, nbt.int64, read_only(nbt.int32), read_only(nbt.int32), _INT64, _INT64, _INT64))
def add_events(t_ns, x, y, p, start, first_ns, last_ns, offset_ns, columns, rows, packed, sums, carry):
    """As ``add_words``, of decoded events, all of them inside the sensor, from index ``start`` on."""
    unit = np.int64(1) << carry[SHIFT_BITS]
    newest = carry[NEWEST]
    for i in range(start, len(t_ns)):
        t = t_ns[i]
        since = t + offset_ns - first_ns
        if since <= 0 or since > last_ns - first_ns or newest - t > carry[MAX_BACK]:
            carry[NEWEST] = newest
            return i, t
        if carry[PACKED] == carry[CAPACITY]:
            if not len(sums):
                carry[NEWEST] = newest
                return i, np.int64(NO_TIME_NS)
            _unpack(packed, sums, carry)
        value = unit + since
        packed[rows[y[i]] + columns[x[i]]] += value if p[i] else -value
        carry[HITS] += 1
        carry[PACKED] += 1
        carry[LATE] += t < newest
        newest = max(newest, t)
    carry[NEWEST] = newest
    return len(t_ns), np.int64(NO_TIME_NS)
