"""The other encodings of event_camera_msgs to events: mono, trigger, libcaer, libcaer_cmp.

Kernels have the calling convention of ``evt3.decode_evt3`` plus ``time_base_ns``; words are uint32 (two make one
event, low half first) or, for libcaer_cmp, uint16. Sources: the encodings as described by event_camera_codecs; the
polarity event of libcaer.
"""
from __future__ import annotations

import numpy as np
from numba import types as nbt

from crossspec_ros.events.evt3 import DONE, FULL, INVALID, LAST, MALFORMED, OUTSIDE, TIME_BACK, UNTIL
from crossspec_ros.events.jit import kernel, read_only, writable

# State of libcaer (within a packet) and of libcaer_cmp; LAST is shared with evt3.
WRAPPED, TICK = 0, 1        # libcaer: us added by wraps in this packet, last timestamp of this packet
CMP_TIME, CMP_X, CMP_BASE, CMP_POLARITY = 0, 1, 2, 3
_WRAP_US = 1 << 31
_RESULT = nbt.Tuple((nbt.int64, nbt.int64, nbt.int64, nbt.int64))


def _signature(word: nbt.Type) -> object:
    return _RESULT(
        read_only(word), nbt.int64, nbt.int64, nbt.int64, nbt.int64, nbt.int64,
        writable(nbt.int64), writable(nbt.uint16), writable(nbt.uint16), writable(nbt.uint8), nbt.int64,
        writable(nbt.int64), nbt.int64, writable(nbt.int64), writable(nbt.int64), nbt.int64)


@kernel(_signature(nbt.uint32))
def decode_mono(words, start, end, until_ns, width, height, t_out, x_out, y_out, p_out, filled,
                triggers, trigger_count, state, counts, time_base_ns):
    """mono: u64 each, dt ns in bits 0-31, x 32-47, y 48-62, polarity 63; t = time base + dt."""
    i = start
    n = filled
    last = state[LAST]
    reason = DONE
    while i < end:
        t = time_base_ns + np.int64(words[i])
        if t >= until_ns:
            reason = UNTIL
            break
        if n >= len(t_out):
            reason = FULL
            break
        high = np.int64(words[i + 1])
        x = high & 0xFFFF
        y = (high >> 16) & 0x7FFF
        if x < width and y < height:
            t_out[n] = t
            x_out[n] = x
            y_out[n] = y
            p_out[n] = high >> 31
            n += 1
            counts[TIME_BACK] += t < last
            last = t
        else:
            counts[OUTSIDE] += 1
        i += 2
    state[LAST] = last
    return i, n, trigger_count, reason


@kernel(_signature(nbt.uint32))
def decode_trigger(words, start, end, until_ns, width, height, t_out, x_out, y_out, p_out, filled,
                   triggers, trigger_count, state, counts, time_base_ns):
    """trigger: u64 each, dt ns in bits 0-31, id 48-62, edge 63; t = time base + dt. No events."""
    i = start
    k = trigger_count
    last = state[LAST]
    reason = DONE
    while i < end:
        t = time_base_ns + np.int64(words[i])
        if t >= until_ns:
            reason = UNTIL
            break
        if 3 * k + 3 > len(triggers):
            reason = FULL
            break
        high = np.int64(words[i + 1])
        triggers[3 * k] = t
        triggers[3 * k + 1] = high >> 31
        triggers[3 * k + 2] = (high >> 16) & 0x7FFF
        k += 1
        counts[TIME_BACK] += t < last
        last = t
        i += 2
    state[LAST] = last
    return i, filled, k, reason


@kernel(_signature(nbt.uint32))
def decode_libcaer(words, start, end, until_ns, width, height, t_out, x_out, y_out, p_out, filled,
                   triggers, trigger_count, state, counts, time_base_ns):
    """libcaer: u32 with bit 0 valid, 1 polarity, 2-16 y, 17-31 x; then i32 us, 31 bits that may wrap inside a
    packet.
    """
    i = start
    n = filled
    last = state[LAST]
    wrapped = state[WRAPPED]
    tick_before = state[TICK]
    reason = DONE
    while i < end:
        tick = np.int64(words[i + 1])
        data = np.int64(words[i])
        if tick >= _WRAP_US:                                     # a negative i32: no clock of the sensor says that
            counts[MALFORMED] += 1
            i += 2
            continue
        if not data & 1:
            counts[INVALID] += 1
            i += 2
            continue
        turn = _WRAP_US if tick < tick_before else 0
        t = time_base_ns + 1000 * (wrapped + turn + tick)
        if t >= until_ns:
            reason = UNTIL
            break
        if n >= len(t_out):
            reason = FULL
            break
        wrapped += turn
        tick_before = tick
        x = data >> 17
        y = (data >> 2) & 0x7FFF
        if x < width and y < height:
            t_out[n] = t
            x_out[n] = x
            y_out[n] = y
            p_out[n] = (data >> 1) & 1
            n += 1
            counts[TIME_BACK] += t < last
            last = t
        else:
            counts[OUTSIDE] += 1
        i += 2
    state[LAST] = last
    state[WRAPPED] = wrapped
    state[TICK] = tick_before
    return i, n, trigger_count, reason


@kernel(_signature(nbt.uint16))
def decode_libcaer_cmp(words, start, end, until_ns, width, height, t_out, x_out, y_out, p_out, filled,
                       triggers, trigger_count, state, counts, time_base_ns):
    """libcaer_cmp: 0 TIME_HIGH, 1 TIME_LOW, 2 ADDR_X (kept), 3 ADDR_Y (event), 4 VECT_BASE_Y, 5 VECT_8 along y, 6
    reserved.
    """
    i = start
    n = filled
    last = state[LAST]
    time_us = state[CMP_TIME]
    x = state[CMP_X]
    base = state[CMP_BASE]
    polarity = state[CMP_POLARITY]
    t = time_base_ns + 1000 * time_us
    reason = DONE
    while i < end:
        word = np.int64(words[i])
        code = word >> 12
        if code == 3 or code == 5:
            if t >= until_ns:
                reason = UNTIL
                break
            if n + 8 > len(t_out):
                reason = FULL
                break
            if code == 3:
                bits, first_y, sign = 1, word & 0x7FF, (word >> 11) & 1
            else:
                bits, first_y, sign = word & 0xFF, base, polarity
                base += 8
            before = n
            lane = 0
            while bits:
                if bits & 1:
                    if x < width and first_y + lane < height:
                        t_out[n] = t
                        x_out[n] = x
                        y_out[n] = first_y + lane
                        p_out[n] = sign
                        n += 1
                    else:
                        counts[OUTSIDE] += 1
                bits >>= 1
                lane += 1
            if n > before:
                counts[TIME_BACK] += t < last
                last = t
        elif code == 2:
            x = word & 0x7FF
        elif code == 1:
            time_us = (time_us & ~0xFFF) | (word & 0xFFF)
            t = time_base_ns + 1000 * time_us
        elif code == 0:
            time_us = ((word & 0xFFF) << 12) | (time_us & 0xFFF)
            t = time_base_ns + 1000 * time_us
        elif code == 4:
            base = word & 0x7FF
            polarity = (word >> 11) & 1
        elif code != 6:
            counts[MALFORMED] += 1
        i += 1
    state[LAST] = last
    state[CMP_TIME] = time_us
    state[CMP_X] = x
    state[CMP_BASE] = base
    state[CMP_POLARITY] = polarity
    return i, n, trigger_count, reason
