"""Voxel grids of windows that are built while the packets come, so that at a window's end almost nothing is left to do.

Events go to slices of time (``slices.py``) as two moments a cell (``fused.py``). A time bin's share is linear in time
within a slice, so the voxel grid of any window made of whole slices is a sum of their moments with weights: the early
and the final look at a window, tumbling and sliding windows share one pass over the events, out of order ones find
their place, and the result depends neither on how the stream was cut into packets nor on rounding on the way.
"""
from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.activity import activity_map
from crossspec_ros.events.decode import Decoder
from crossspec_ros.events.fused import (
    CAPACITY,
    CARRY_SIZE,
    CLOSED,
    FIRST,
    HITS,
    IDLE,
    LATE,
    MAX_BACK,
    NEWEST,
    NO_TIME_NS,
    PACKED,
    SCRATCH_SIZE,
    SHIFT_BITS,
    TRIGGERS,
    add_bins,
    add_events,
    add_words,
    word_table,
)
from crossspec_ros.events.representations import cell_table, check_shape
from crossspec_ros.events.slices import Slicing
from crossspec_ros.events.types import Packet

logger = logging.getLogger(__name__)

ALWAYS = (NO_TIME_NS, -NO_TIME_NS)
NEVER = ALWAYS[::-1]
CAUSES = ('bytes', 'late', 'time_back', 'size_change', 'expired')
_NOTHING = np.zeros(0, np.int64)
_BYTES_PER_CELL = 24        # of a slice: packed, and both sums
_SPARE = 32                 # arrays kept for slices to come: fresh memory costs more than to clear it
_BITS = 61                  # of a packed number that time and two counts of events share


class _Slice:
    """Moments of (``first_ns``, ``last_ns``]: ``held`` events in ``packed``, int64 (cells,), others in ``sums``, which
    is empty until they no longer fit.
    """

    __slots__ = ('first_ns', 'last_ns', 'packed', 'sums', 'events', 'held')

    def __init__(self, bounds_ns: tuple[int, int], packed: np.ndarray) -> None:
        self.first_ns, self.last_ns = bounds_ns
        self.packed, self.sums = packed, _NOTHING
        self.events = self.held = 0


class WindowMoments:
    """The newest events of a stream as moments of slices, from which the voxel grids of windows are made.

    ``shape`` is (H, W) of the grids; ``keep_ns`` how far back windows are asked for; ``max_bytes`` bounds the slices
    kept (at least one). An event earlier than one before it still counts, and is counted as ``late``; one earlier by
    more than ``max_back_ns`` means that time jumped back: everything before it is forgotten.

    ``dropped`` counts events by cause: ``bytes`` (their slice had to go), ``time_back``, ``size_change`` (another
    sensor); ``late`` ones are used all the same, ``expired`` ones have only grown old. For one thread. Raises
    ``CrossSpecError`` on a shape that cannot be.
    """

    def __init__(self, slicing: Slicing, shape: tuple[int, int], *, keep_ns: int, max_bytes: int,
                 max_back_ns: int = 100_000_000) -> None:
        rows, columns = check_shape(shape, slicing.bins)
        self.shape = (slicing.bins, rows, columns)
        self._slicing, self._keep_ns = slicing, keep_ns
        self._cells = rows * columns
        self._max_slices = max(1, max_bytes // (_BYTES_PER_CELL * self._cells))
        wanted = slicing.count(slicing.span_ns)
        if self._max_slices < wanted:
            logger.warning('a window of events needs %d MB and may use %d: its start will be missing; allow more',
                           1 + (_BYTES_PER_CELL * self._cells * wanted >> 20), max_bytes >> 20)
        bits = slicing.longest_ns.bit_length()
        self._carry = np.zeros(CARRY_SIZE, np.int64)
        self._carry[CAPACITY] = 1 << (_BITS - bits) // 2
        self._carry[SHIFT_BITS] = bits + (_BITS - bits) // 2 + 1
        self._carry[MAX_BACK], self._carry[NEWEST] = max_back_ns, NO_TIME_NS
        self._now = memoryview(self._carry)                     # the same numbers, at half the price from here
        self._busy = np.empty(SCRATCH_SIZE, np.uint16)
        self._dropped = dict.fromkeys(CAUSES, 0)
        self._slices: dict[int, _Slice] = {}
        self._spare: list[np.ndarray] = []
        self._none = self._open = _Slice(CLOSED, np.zeros(self._cells, np.int64))
        self._opened_at = 0                                     # HITS when the open slice was opened
        self._offset_ns = 0
        self._decoder: Decoder | None = None
        self._add_words, self._add_events, self._add_bins = add_words.compiled, add_events.compiled, add_bins.compiled

    @property
    def dropped(self) -> dict[str, int]:
        """Events by what became of them: see above."""
        return self._dropped | {'late': self._now[LATE]}

    @property
    def triggers(self) -> int:
        """External triggers that the decoder in use would have told of, where its words were evt3."""
        return self._now[TRIGGERS]

    @property
    def nbytes(self) -> int:
        """Memory of the slices kept."""
        kept = sum(each.packed.nbytes + each.sums.nbytes for each in self._slices.values())
        return kept + sum(packed.nbytes for packed in self._spare)

    @property
    def newest_ns(self) -> int | None:
        """Time of the newest event on the grid's clock; None while there is none."""
        newest_ns = self._now[NEWEST]
        return newest_ns + self._offset_ns if newest_ns != NO_TIME_NS else None

    def use(self, decoder: Decoder) -> None:
        """Take packets of this decoder's stream from now on; events of the one before are forgotten."""
        self._dropped['size_change'] += self.clear()
        self._decoder = decoder
        self._now[TRIGGERS] = self._now[IDLE] = 0
        self._table = word_table(decoder.width, decoder.height, self.shape[1:])
        self._columns = cell_table(decoder.width, self.shape[2], 1)
        self._rows = cell_table(decoder.height, *self.shape[1:])
        self._carried = self._carry, decoder.state, decoder.counts, self._busy

    def clear(self) -> int:
        """Forget all events; returns how many."""
        self._close()
        forgotten = sum(each.events for each in self._slices.values())
        for first_ns in list(self._slices):
            self._remove(first_ns)
        self._now[NEWEST] = NO_TIME_NS
        return forgotten

    def add_packet(self, packet: Packet, offset_of: Callable[[int], int], settled_ns: tuple[int, int] = NEVER) -> int:
        """Add a packet's events; returns how many.

        ``offset_of`` is asked once, with the sensor time of the packet's first event, ns, what is to be added to get
        the grid's time; it may call `clear`. It is promised to answer as the last time where the first event is in
        ``settled_ns``, both ends included: that saves looking at the packet twice. Raises ``CrossSpecError`` before
        `use` was called.
        """
        decoder = self._decoder
        if decoder is None:
            raise CrossSpecError('use(decoder) must be called before add_packet')
        if decoder.encoding == 'evt3':
            return self._take_words(decoder, packet, offset_of, settled_ns)
        events = decoder.decode(packet)
        if not len(events):
            return 0

        def step(at: int, into: _Slice) -> tuple[int, int]:
            return self._add_events(events.t_ns, events.x, events.y, events.p, at, into.first_ns, into.last_ns,
                                    self._offset_ns, self._columns, self._rows, into.packed, into.sums, self._carry)

        first_ns, before = int(events.t_ns[0]), self._now[HITS]
        self._offset_ns = offset_of(first_ns)
        self._take_rest(step, 0, first_ns, len(events))
        return self._now[HITS] - before

    def _take_words(self, decoder: Decoder, packet: Packet, offset_of: Callable[[int], int],
                    settled_ns: tuple[int, int]) -> int:
        words = decoder.words_of(packet)
        if words is None:
            return 0
        into, now, count, before = self._open, self._now, len(words), self._now[HITS]
        at, t_ns = self._add_words(words, 0, count, into.first_ns, into.last_ns, self._offset_ns, self._table,
                                   *settled_ns, into.packed, into.sums, *self._carried)
        first_ns = now[FIRST]
        if first_ns == NO_TIME_NS:
            return 0
        self._offset_ns = offset_of(first_ns)
        if at < count:
            def step(at: int, into: _Slice) -> tuple[int, int]:
                return self._add_words(words, at, count, into.first_ns, into.last_ns, self._offset_ns, self._table,
                                       *ALWAYS, into.packed, into.sums, *self._carried)

            self._take_rest(step, at, t_ns, count)
        return now[HITS] - before

    def _take_rest(self, step: Callable[[int, _Slice], tuple[int, int]], at: int, t_ns: int, count: int) -> None:
        """Take words or events from ``at``, with an event at ``t_ns``, to ``count``; a step gives the next ones."""
        while at < count:
            into = self._open
            if t_ns == NO_TIME_NS:
                self._widen()
            elif not into.first_ns < t_ns + self._offset_ns <= into.last_ns \
                    or self._now[NEWEST] - t_ns > self._now[MAX_BACK]:
                into = self._select(t_ns, t_ns + self._offset_ns)
            at, t_ns = step(at, into)

    def _select(self, t_ns: int, grid_ns: int) -> _Slice:
        """Open the slice of an event at ``grid_ns`` on the grid's clock, ``t_ns`` on the sensor's."""
        if self._now[NEWEST] - t_ns > self._now[MAX_BACK]:
            self._dropped['time_back'] += self.clear()
        self._close()
        first_ns, last_ns = self._slicing.around(grid_ns)
        found = self._slices.get(first_ns)
        if found is None:
            self._make_room(max(grid_ns, self._now[NEWEST] + self._offset_ns))
            found = self._slices[first_ns] = _Slice((first_ns, last_ns), self._cleared())
        self._open, self._now[PACKED] = found, found.held
        return found

    def _widen(self) -> None:
        """Give the open slice room for any number of events."""
        self._open.sums = np.zeros(2 * self._cells, np.int64)

    def _close(self) -> None:
        """Write down what the open slice has got, and open none."""
        hits = self._now[HITS]
        self._open.events += hits - self._opened_at
        self._open.held = self._now[PACKED]
        self._open, self._opened_at, self._now[PACKED] = self._none, hits, 0

    def _make_room(self, newest_ns: int) -> None:
        """Let go of slices that are too old, and of the oldest where there are too many."""
        for each in [each for each in self._slices.values() if each.last_ns <= newest_ns - self._keep_ns]:
            self._dropped['expired'] += each.events
            self._remove(each.first_ns)
        while len(self._slices) >= self._max_slices:
            oldest = self._slices[min(self._slices)]
            self._dropped['bytes'] += oldest.events
            self._remove(oldest.first_ns)

    def _remove(self, first_ns: int) -> None:
        packed = self._slices.pop(first_ns).packed
        if len(self._spare) < _SPARE:
            self._spare.append(packed)

    def _cleared(self) -> np.ndarray:
        """Cells for a new slice. A spare array is cleared here, not when it was given back: then it is in the cache by
        the time the events come.
        """
        if not self._spare:
            return np.zeros(self._cells, np.int64)
        packed = self._spare.pop()
        packed.fill(0)
        return packed

    def voxel_grid(self, end_ns: int) -> tuple[np.ndarray, int]:
        """Voxel grid, float32 (B, H, W), of the window that ends at ``end_ns``, and how many events are in it.

        It is what ``representations.voxel_grid`` gives of the events, up to rounding. Raises ``CrossSpecError`` where
        no window ends there.
        """
        slicing = self._slicing
        if not slicing.fits(end_ns):
            raise CrossSpecError(f'end_ns must be the end of a window, or one moved back by a lead, got {end_ns}')
        self._close()
        start_ns, bins = end_ns - slicing.span_ns, slicing.bins
        rate = (bins - 1) / slicing.span_ns
        # One bin more: what an event gives to the bin after a single one is 0.
        grid = np.zeros((bins + (bins == 1), self._cells), np.float32)
        events = 0
        for first_ns in sorted(self._slices):                   # in order, so that rounding is the same each time
            each = self._slices[first_ns]
            if first_ns >= start_ns and each.last_ns <= end_ns:
                lower = slicing.bin_of(first_ns, end_ns)
                share = (first_ns - start_ns) * rate - lower
                self._add_bins(each.packed, each.sums, self._now[SHIFT_BITS], rate, share, grid[lower], grid[lower + 1])
                events += each.events
        return grid[:bins].reshape(self.shape), events

    def activity(self, start_ns: int, end_ns: int) -> np.ndarray:
        """How much moved where in (start, end], of whole slices: `activity.activity_map`."""
        self._close()
        halves = np.zeros((2, self._cells), np.float32)
        rate = 1.0 / (end_ns - start_ns)
        for first_ns in sorted(self._slices):
            each = self._slices[first_ns]
            if first_ns >= start_ns and each.last_ns <= end_ns:
                share = (first_ns - start_ns) * rate
                self._add_bins(each.packed, each.sums, self._now[SHIFT_BITS], rate, share, *halves)
        return activity_map(halves.reshape(2, *self.shape[1:]))
