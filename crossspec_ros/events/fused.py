"""evt3 words straight to the picture that the drafter eats, with no event arrays in between.

The result is equal, to the last bit, to ``representations.voxel_grid`` or ``histogram`` of the decoded events: the
same operations on the same numbers in the same order. Faster, because the share of the two time bins is worked out
once a time word and the row once a y word.
"""
from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numba import types as nbt

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import Decoder
from crossspec_ros.events.evt3 import (
    ADDR_X,
    ADDR_Y,
    AHEAD,
    BASE,
    BIT,
    DONE,
    EIGHT,
    FAR,
    HIGH,
    LAST,
    LOW,
    LOW11,
    LOW12,
    MALFORMED,
    MALFORMED_CODES,
    ONE,
    OUTSIDE,
    POLARITY,
    SHIFT,
    SHIFT11,
    SKIPPED_CODES,
    SYNC,
    SYNCED,
    TAIL_SIZE,
    TIME_BACK,
    TIME_HIGH,
    TIME_LOW,
    TWELVE,
    UNTIL,
    VECT_12,
    VECT_8,
    VECT_BASE_X,
    Y,
    find_time,
    next_high,
    pad_tail,
)
from crossspec_ros.events.jit import kernel, read_only, writable
from crossspec_ros.events.representations import cell_table, check_shape, time_scale
from crossspec_ros.events.types import Packet

BACK = 3  # reason of the kernel beside those of evt3: time is before the window by more than the slack
_BEFORE_NS = -(1 << 62)     # end of a window before any time: the first event opens the right one
# Lowest bit set of a vector word: jumping from event to event spares a branch for each lane.
_LOWEST = np.array([(bits & -bits).bit_length() - 1 if bits else 0 for bits in range(1 << 12)], np.uint8)

FUSED = ('voxel_grid', 'histogram')
"""Representations that can be made without event arrays."""


@dataclass(frozen=True)
class WindowFrame:
    """The representation ``grid``, float32 (C, H, W), of the events in (``start_ns``, ``end_ns``], and how many they
    are.
    """

    start_ns: int
    end_ns: int
    grid: np.ndarray
    on: int
    off: int


class FusedWindows:
    """Fill the window that runs, on the grid of the multiples of ``window_ns``, from the packets of one evt3 stream.

    ``offset_ns`` is what is added to sensor time to get the time of the grid. Windows without any event give no
    frame. An event before the window that runs is left out and counted in ``late``; where time jumps back by more
    than a window, the window is given up and the one there is begun. ``dropped`` is the decoder's count by cause;
    triggers are not kept. Raises ``CrossSpecError`` on a representation, shape or window that cannot be.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        window_ns: int,
        shape: tuple[int, int],
        representation: str = 'voxel_grid',
        bins: int = 5,
        offset_ns: int = 0,
    ) -> None:
        if representation not in FUSED:
            raise CrossSpecError(f'representation must be one of {", ".join(FUSED)}, got {representation!r}')
        if window_ns < 1:
            raise CrossSpecError(f'window_ns must be >= 1, got {window_ns}')
        rows, columns = check_shape(shape, bins)
        self._bins = bins if representation == 'voxel_grid' else 0
        self.shape = (bins if self._bins else 2, rows, columns)
        self._plane = rows * columns
        self._decoder = Decoder('evt3', width, height)
        self._columns = cell_table(width, columns, 1)
        self._rows = cell_table(height, rows, columns)
        self._window_ns = window_ns
        self._offset_ns = offset_ns
        self._fill = _fill.compiled
        self._tail = np.empty(TAIL_SIZE, np.uint16)
        self.late = 0
        self.reset()

    def reset(self) -> None:
        """Forget the stream and the window that runs."""
        self._decoder.reset()
        self._end_ns: int | None = None
        self._begin(_BEFORE_NS)

    @property
    def dropped(self) -> dict[str, int]:
        """What was dropped so far, by cause."""
        return self._decoder.dropped

    def current(self) -> WindowFrame | None:
        """The window that runs, as far as it is filled (a copy); None before the first event."""
        if self._end_ns is None:
            return None
        return WindowFrame(
            self._end_ns - self._window_ns, self._end_ns, self._grid.reshape(self.shape).copy(), self._on, self._off
        )

    def feed(self, packet: Packet) -> list[WindowFrame]:
        """Use a packet; returns the windows that an event behind their end has closed, oldest first."""
        decoder = self._decoder
        words = decoder.words_of(packet)
        done: list[WindowFrame] = []
        at = 0
        while words is not None and at < len(words):
            at, reason, on, off, late = self._fill(
                words, at, len(words), *self._span, self._window_ns, self._columns, self._rows, self._scale, self._bins,
                self._plane, self._grid, decoder.state, decoder.counts, self._tail)
            self._on += on
            self._off += off
            self.late += late
            if reason == DONE:
                break
            if reason == UNTIL and self._end_ns is not None and self._on + self._off:
                done.append(self._close())
            self._open()
        return done

    def _close(self) -> WindowFrame:
        end_ns = self._end_ns
        assert end_ns is not None, 'only a window that runs is closed'
        return WindowFrame(end_ns - self._window_ns, end_ns, self._grid.reshape(self.shape), self._on, self._off)

    def _open(self) -> None:
        """Begin the window of the decoder's time."""
        state = self._decoder.state
        now_ns = int(state[HIGH] | state[LOW]) * 1000 + self._offset_ns
        self._end_ns = -(-now_ns // self._window_ns) * self._window_ns
        self._begin(self._end_ns)

    def _begin(self, end_ns: int) -> None:
        start_ns = end_ns - self._window_ns
        self._span = (start_ns - self._offset_ns, end_ns - self._offset_ns)
        self._scale = time_scale(start_ns, end_ns, self._bins) if self._bins else 0.0
        self._grid = np.zeros(int(np.prod(self.shape)), np.float32)
        self._on = self._off = 0


@numba.njit
def _fill_run(words, begin, end, start_ns, end_ns, slack_ns, columns, rows, scale, bins, plane, grid, state, counts):
    """As ``_fill``, once the time is known; may use and must be able to read up to three words behind ``end``."""
    i, stop = np.uint64(begin), np.uint64(end)
    width, height = np.uint32(len(columns)), np.uint32(len(rows))
    high, low, last = state[HIGH], state[LOW], state[LAST]
    y, base, polarity = np.uint32(state[Y]), np.uint32(state[BASE]), np.uint32(state[POLARITY])
    high_word = np.uint32((high >> 12) & 0xFFF)
    row_inside = y < height
    row = np.uint64(rows[y]) if row_inside else np.uint64(0)
    step = np.uint64(plane)
    malformed = 0
    outside = 0
    back = 0
    late = 0
    on = 0
    hits = 0
    t = (high | low) * 1000
    shared_t = t - 1            # the time that the shares below are for
    lower = np.uint64(0)
    near = np.float32(1.0)
    far = np.float32(0.0)
    two = False                 # an event touches two time bins
    inside = False              # the time is in the window
    reason = DONE
    while i < stop:
        word = np.uint32(words[i])
        code = word >> SHIFT
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
            row_inside = y < height
            row = np.uint64(rows[y]) if row_inside else np.uint64(0)
            i += ONE
            word = np.uint32(words[i])
            code = word >> SHIFT
        if (SKIPPED_CODES >> code) & BIT:
            i += ONE
        elif code == ADDR_X or code == VECT_12 or code == VECT_8:
            if t != shared_t:
                if t > end_ns or t + slack_ns <= start_ns:
                    reason = UNTIL if t > end_ns else BACK
                    break
                shared_t = t
                inside = t > start_ns
                if bins and inside:
                    # The same operations as in representations.py, in the same order: equal to the last bit.
                    position = (t - start_ns) * scale
                    first = min(np.int64(position), bins - 1)
                    far = np.float32(position - first)
                    near = np.float32(1.0) - far
                    two = first + 1 < bins
                    lower = np.uint64(first * plane)
            if code == ADDR_X:
                x, sign = word & LOW11, (word >> SHIFT11) & BIT
                if inside and row_inside and x < width:
                    cell = row + np.uint64(columns[x])
                    if bins == 0:
                        grid[cell + step * np.uint64(sign)] += np.float32(1.0)
                    else:
                        value = np.float32(1.0) if sign else np.float32(-1.0)
                        cell += lower
                        grid[cell] += value * near
                        if two:
                            grid[cell + step] += value * far
                    hits += 1
                    on += np.int64(sign)
                    back += t < last
                    last = t
                    i += ONE
                    continue
                bits = BIT
            else:
                lanes = TWELVE if code == VECT_12 else EIGHT
                x, bits, sign = base, word & ((BIT << lanes) - BIT), polarity
                base = min(base + lanes, FAR)
            start_cell = row + (step * np.uint64(sign) if bins == 0 else lower)
            value = np.float32(1.0) if sign else np.float32(-1.0)
            found = 0
            while bits:
                column = x + np.uint32(_LOWEST[bits])
                bits &= bits - BIT
                if row_inside and column < width:
                    found += 1
                    if inside:
                        cell = start_cell + np.uint64(columns[column])
                        if bins == 0:
                            grid[cell] += np.float32(1.0)
                        else:
                            grid[cell] += value * near
                            if two:
                                grid[cell + step] += value * far
                else:
                    outside += 1
            if found:
                back += t < last
                last = t
                if not inside:
                    late += found
                else:
                    hits += found
                    on += found * np.int64(sign)
            i += ONE
        elif code == VECT_BASE_X:
            base = word & LOW11
            polarity = (word >> SHIFT11) & BIT
            i += ONE
        elif code != TIME_HIGH and code != TIME_LOW and code != ADDR_Y:
            malformed += (MALFORMED_CODES >> code) & BIT
            i += ONE
    state[HIGH], state[LOW], state[LAST] = high, low, last
    state[Y], state[BASE], state[POLARITY] = y, base, polarity
    counts[MALFORMED] += malformed
    counts[OUTSIDE] += outside
    counts[TIME_BACK] += back
    return np.int64(i), reason, on, hits - on, late


@kernel(nbt.Tuple((nbt.int64, nbt.int64, nbt.int64, nbt.int64, nbt.int64))(
    read_only(nbt.uint16), nbt.int64, nbt.int64, nbt.int64, nbt.int64, nbt.int64, read_only(nbt.int32),
    read_only(nbt.int32), nbt.float64, nbt.int64, nbt.int64, writable(nbt.float32), writable(nbt.int64),
    writable(nbt.int64), writable(nbt.uint16)))
def _fill(words, begin, end, start_ns, end_ns, slack_ns, columns, rows, scale, bins, plane, grid, state, counts, tail):
    """Add the events of ``words[begin:end]`` in (start, end] to ``grid``: voxels, or a histogram where ``bins`` is 0.

    Returns (next word, reason, ON, OFF, late events): UNTIL the next event is after the window, BACK it is before it by
    more than the slack. ``tail`` is scratch, as in ``evt3.decode_evt3``.
    """
    if state[SYNC] != SYNCED:
        begin += find_time(words[begin:end], state, counts)
    at, reason, on, off, late = _fill_run(
        words,
        begin,
        max(begin, end - AHEAD),
        start_ns,
        end_ns,
        slack_ns,
        columns,
        rows,
        scale,
        bins,
        plane,
        grid,
        state,
        counts,
    )
    if reason != DONE or at >= end:
        return at, reason, on, off, late
    pad_tail(words, at, end, tail)
    used, reason, more_on, more_off, more_late = _fill_run(tail, 0, end - at, start_ns, end_ns, slack_ns, columns, rows,
                                                           scale, bins, plane, grid, state, counts)
    return min(at + used, end), reason, on + more_on, off + more_off, late + more_late
