"""evt3 words straight to the picture that the drafter eats, with no event arrays in between.

The result is equal, to the last bit, to ``representations.voxel_grid`` or ``histogram`` of the decoded events: the same operations on the
same numbers in the same order. Faster, because the share of the two time bins is worked out once a time word and the row once a y word.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import types as nbt

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import Decoder
from crossspec_ros.events.evt3 import (
    BASE,
    DONE,
    HIGH,
    LAST,
    LOW,
    MALFORMED,
    OUTSIDE,
    POLARITY,
    SYNC,
    SYNCED,
    TIME_BACK,
    UNTIL,
    Y,
    find_time,
    next_high,
)
from crossspec_ros.events.jit import kernel, read_only, writable
from crossspec_ros.events.representations import cell_table, check_shape, time_scale
from crossspec_ros.events.types import Packet

BACK = 3                    # reason of the kernel beside those of evt3: time is before the window by more than the slack
FUSED = ('voxel_grid', 'histogram')
"""Representations that can be made without event arrays."""


@dataclass(frozen=True)
class WindowFrame:
    """The representation ``grid``, float32 (C, H, W), of the events in (``start_ns``, ``end_ns``], and how many they are."""

    start_ns: int
    end_ns: int
    grid: np.ndarray
    on: int
    off: int


class FusedWindows:
    """Fill the window that runs, on the grid of the multiples of ``window_ns``, from the packets of one evt3 stream.

    ``offset_ns`` is what is added to sensor time to get the time of the grid. Windows without any event give no frame. An event before the
    window that runs is left out and counted in ``late``; where time jumps back by more than a window, the window is given up and the
    one there is begun. ``dropped`` is the decoder's count by cause; triggers are not kept.
    Raises ``CrossSpecError`` on a representation, shape or window that cannot be.
    """

    def __init__(self, width: int, height: int, *, window_ns: int, shape: tuple[int, int], representation: str = 'voxel_grid',
                 bins: int = 5, offset_ns: int = 0) -> None:
        if representation not in FUSED:
            raise CrossSpecError(f'representation must be one of {", ".join(FUSED)}, got {representation!r}')
        if window_ns < 1:
            raise CrossSpecError(f'window_ns must be >= 1, got {window_ns}')
        rows, columns = check_shape(shape, bins)
        self._bins = bins if representation == 'voxel_grid' else 0
        self.shape = (bins if self._bins else 2, rows, columns)
        self._decoder = Decoder('evt3', width, height)
        self._columns = cell_table(width, columns, 1)
        self._rows = cell_table(height, rows, columns)
        self._window_ns = window_ns
        self._offset_ns = offset_ns
        self._fill = _fill.compiled
        self.late = 0
        self.reset()

    def reset(self) -> None:
        """Forget the stream and the window that runs."""
        self._decoder.reset()
        self._end_ns: int | None = None
        self._grid = np.zeros(int(np.prod(self.shape)), np.float32)
        self._on = self._off = 0

    @property
    def dropped(self) -> dict[str, int]:
        """What was dropped so far, by cause."""
        return self._decoder.dropped

    def current(self) -> WindowFrame | None:
        """The window that runs, as far as it is filled (a copy); None before the first event."""
        if self._end_ns is None:
            return None
        return WindowFrame(self._end_ns - self._window_ns, self._end_ns, self._grid.reshape(self.shape).copy(), self._on, self._off)

    def feed(self, packet: Packet) -> list[WindowFrame]:
        """Use a packet; returns the windows that an event behind their end has closed, oldest first."""
        words = self._decoder.words_of(packet)
        done: list[WindowFrame] = []
        at = 0
        while words is not None and at < len(words):
            end_ns = self._end_ns if self._end_ns is not None else -(1 << 62)
            bins, plane = self._bins, self.shape[1] * self.shape[2]
            scale = time_scale(end_ns - self._window_ns, end_ns, bins) if bins else 0.0
            at, reason, on, off, late = self._fill(
                words, at, len(words), end_ns - self._window_ns - self._offset_ns, end_ns - self._offset_ns, self._window_ns,
                self._columns, self._rows, scale, bins, plane, self._grid, self._decoder.state, self._decoder.counts)
            self._on, self._off, self.late = self._on + on, self._off + off, self.late + late
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
        self._grid = np.zeros(int(np.prod(self.shape)), np.float32)
        self._on = self._off = 0


@kernel(nbt.Tuple((nbt.int64, nbt.int64, nbt.int64, nbt.int64, nbt.int64))(
    read_only(nbt.uint16), nbt.int64, nbt.int64, nbt.int64, nbt.int64, nbt.int64, read_only(nbt.int32), read_only(nbt.int32),
    nbt.float64, nbt.int64, nbt.int64, writable(nbt.float32), writable(nbt.int64), writable(nbt.int64)))
def _fill(words, begin, end, start_ns, end_ns, slack_ns, columns, rows, scale, bins, plane, grid, state, counts):
    """Add the events of ``words[begin:end]`` in (start, end] to ``grid``: voxels, or a histogram where ``bins`` is 0.

    Returns (next word, reason, ON, OFF, late events): UNTIL the next event is after the window, BACK it is before it by more than the slack.
    """
    i = begin
    if state[SYNC] != SYNCED:
        i = begin + find_time(words[begin:end], state, counts)
    width = len(columns)
    height = len(rows)
    high, low, y, base, polarity, last = state[HIGH], state[LOW], state[Y], state[BASE], state[POLARITY], state[LAST]
    row = np.int64(rows[y]) if y < height else np.int64(-1)
    malformed = 0
    outside = 0
    back = 0
    late = 0
    on = 0
    off = 0
    t = (high | low) * 1000
    fresh = True                # the shares below are not those of t
    inside = False
    two = False                 # the event touches two time bins
    lower = np.int64(0)
    near = np.float32(1.0)
    far = np.float32(0.0)
    reason = DONE
    while i < end:
        word = np.int64(words[i])
        code = word >> 12
        if code == 2 or code == 4 or code == 5:
            if fresh:
                if t > end_ns:
                    reason = UNTIL
                    break
                if t + slack_ns <= start_ns:
                    reason = BACK
                    break
                fresh = False
                inside = t > start_ns
                if inside and bins:
                    position = (t - start_ns) * scale
                    first = min(np.int64(position), bins - 1)
                    far = np.float32(position - first)
                    near = np.float32(1.0) - far
                    two = first + 1 < bins
                    lower = first * plane
            if code == 2:
                x = word & 0x7FF
                bits = np.int64(1)
                sign = (word >> 11) & 1
            else:
                x = base
                bits = word & (0xFFF if code == 4 else 0xFF)
                sign = polarity
                base += 12 if code == 4 else 8
            found = 0
            while bits:
                if bits & 1:
                    if x < width and row >= 0:
                        found += 1
                        if inside:
                            cell = row + columns[x]
                            if bins == 0:
                                grid[cell + (plane if sign else 0)] += np.float32(1.0)
                            elif sign:
                                grid[lower + cell] += near
                                if two:
                                    grid[lower + plane + cell] += far
                            else:
                                grid[lower + cell] -= near
                                if two:
                                    grid[lower + plane + cell] -= far
                    else:
                        outside += 1
                bits >>= 1
                x += 1
            if found:
                back += t < last
                last = t
                if not inside:
                    late += found
                elif sign:
                    on += found
                else:
                    off += found
        elif code == 0:
            y = word & 0x7FF
            row = np.int64(rows[y]) if y < height else np.int64(-1)
        elif code == 6:
            low = word & 0xFFF
            t = (high | low) * 1000
            fresh = True
        elif code == 8:
            high = next_high(high, word & 0xFFF)
            t = (high | low) * 1000
            fresh = True
        elif code == 3:
            base = word & 0x7FF
            polarity = (word >> 11) & 1
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
    return i, reason, on, off, late
