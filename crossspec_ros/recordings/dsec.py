"""A DSEC sequence as it lies on the disk: the events. Its pictures are in ``dsec_pictures``.

Layout (left cameras)::

    events/left/events.h5           /events/{p,t,x,y}, /t_offset, /ms_to_idx
    events/left/rectify_map.h5      /rectify_map, (480, 640, 2)
    images/left/rectified/*.png
    images/timestamps.txt           one time a picture, us
    images/left/exposure_timestamps.txt     start and end of the exposures, us (may be absent)
    calibration/cam_to_cam.yaml

Event times are us since ``t_offset``; all times given out here are us of the image clock (event time + ``t_offset``).
What the columns hold is looked at, not believed: see ``dsec_columns``. ``ms_to_idx`` is not needed: times are searched.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.dsec_columns import Clock, clock_of, polarity_of, sensor_of

try:
    import hdf5plugin  # noqa: F401  (registers the filters that DSEC is packed with)
except ImportError:
    hdf5plugin = None

CHUNK_EVENTS = 1 << 20
_SAMPLES, _SAMPLE_EVENTS = 48, 1 << 16
_ENDS = 1024                            # events at either end that tell when a recording starts and ends
_STRAY_US = 10_000_000
_AROUND = 8                             # neighbours that a probed time is the median of
_INDEX_PROBES = 64
_MOST_WAITING = 3 * CHUNK_EVENTS


class EventFile:
    """``events.h5``, read in pieces; a context manager.

    ``pictures_us`` are the first and last time of the pictures, ``sensor`` the sensor's size as something beside the
    events (``giver``) says it. ``found`` has a line for each thing that is not as in DSEC and what was done;
    ``given``, ``sorted`` and ``dropped`` count
    events while they are read. Raises CrossSpecError naming the file when it is missing,
    cut, without its entries, packed with a filter that is not installed, or of a meaning that cannot be known.
    """

    def __init__(self, path: Path, pictures_us: tuple[int, int] | None = None,
                 sensor: tuple[int, int] | None = None, giver: str = '') -> None:
        self.path = path
        self.found: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.sorted = self.given = 0
        if not path.is_file():
            raise CrossSpecError(f'events {path} are missing; unpack the events of the sequence into {path.parent}')
        try:
            self._file = h5py.File(path, 'r')
        except OSError as error:
            raise CrossSpecError(f'events {path} cannot be opened, the file is cut or no HDF5 ({error}); '
                                 'download it again') from error
        try:
            self._open()
            self._understand(pictures_us, sensor, giver)
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        try:
            self._columns = {name: self._file[f'events/{name}'] for name in ('t', 'x', 'y', 'p')}
            lengths = {name: len(column) for name, column in self._columns.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise CrossSpecError(f'events {self.path} must hold events/t, x, y, p and t_offset as DSEC has them; '
                                 f'{error}') from error
        if len(set(lengths.values())) != 1:
            raise CrossSpecError(f'events {self.path}: t, x, y and p must be equally long, got {lengths}')
        self.count = lengths['t']
        for name, column in self._columns.items():
            _check_filters(self.path, name, column)

    def _understand(self, pictures_us: tuple[int, int] | None, sensor: tuple[int, int] | None, giver: str) -> None:
        """Find what the columns mean, in a sample of them."""
        parts = self._sample()
        self.polarity, line = self._known(polarity_of, *self._values_of_p(parts))
        self._find(line)
        largest = [max((int(self._read(name, part).max()) for part in parts), default=0) for name in ('x', 'y')]
        (self.width, self.height), line = self._known(sensor_of, *largest, sensor, giver)
        self._find(line)
        offset = self._scalar('t_offset')
        index = self._file.get('ms_to_idx')
        index_ms = len(index) if isinstance(index, h5py.Dataset) and index.ndim == 1 else None
        first, last = (self._middle(edge) for edge in self._edges())
        self._clock: Clock
        self._clock, line = self._known(clock_of, first, last, offset, pictures_us, index_ms)
        self._find(line)
        self._limits_us = self._limits()
        self._check_index(index_ms)

    def _known(self, find: Any, *values: Any) -> Any:
        try:
            return find(*values)
        except ValueError as error:
            raise CrossSpecError(f'events {self.path}: {error}') from error

    def _find(self, line: str) -> None:
        if line:
            self.found.append(f'{self.path}: {line}')

    def _sample(self) -> list[slice]:
        """Parts that are looked at: everything, or pieces evenly over a long file."""
        if self.count <= CHUNK_EVENTS:
            return [slice(0, self.count)] if self.count else []
        starts = np.unique(np.linspace(0, self.count - _SAMPLE_EVENTS, _SAMPLES).astype(np.int64))
        return [slice(int(start), int(start) + _SAMPLE_EVENTS) for start in starts]

    def _values_of_p(self, parts: list[slice]) -> tuple[list[float], np.dtype]:
        values: set[float] = set()
        for part in parts:
            column = self._read('p', part)
            column = column.astype(np.uint8) if column.dtype.kind == 'b' else column
            if column.dtype.kind not in 'iuf' or not np.isfinite(column).all():
                raise CrossSpecError(f'events {self.path}: events/p must hold two numbers, got {column.dtype}')
            values |= set(np.unique(column).tolist())
        return sorted(values)[:1000], self._columns['p'].dtype

    def _scalar(self, name: str) -> float | None:
        if name not in self._file:
            return None
        value = np.ravel(self._read(name, ()))
        if value.size != 1 or value.dtype.kind not in 'iuf' or not np.isfinite(value).all():
            raise CrossSpecError(f'events {self.path}: {name} must be one number, got {value.dtype} {value.shape}')
        return value[0].item()

    def _edges(self) -> tuple[slice, slice]:
        """The first and the last few events, which tell when the recording starts and ends."""
        few = max(1, min(_ENDS, self.count // 10))
        return slice(0, few), slice(max(0, self.count - few), self.count)

    def _middle(self, edge: slice) -> float:
        if not self.count:
            return 0.0
        times = self._read('t', edge)
        if times.dtype.kind not in 'iuf' or not np.isfinite(times).all():
            raise CrossSpecError(f'events {self.path}: events/t must hold finite numbers, got {times.dtype}')
        return float(np.median(times))

    def _limits(self) -> tuple[int, int]:
        """First and last time without the offset, us; a time far from its neighbours is not one of them."""
        if not self.count:
            return 0, 0
        block = min(self.count, CHUNK_EVENTS)
        near = []
        for edge, whole in zip(self._edges(), (slice(0, block), slice(self.count - block, self.count)), strict=True):
            low, middle, high = np.quantile(self._times(edge), (0.25, 0.5, 0.75))
            times = self._times(whole)
            near.append(times[np.abs(times - middle) <= max(_STRAY_US, 10 * (high - low))])
        # A short file's blocks are all of it: either limit may be anywhere there.
        return int(near[0].min()), int(near[1].max())

    def _check_index(self, index_ms: int | None) -> None:
        if 'ms_to_idx' not in self._file:
            self._find('ms_to_idx is absent: times are searched')
        elif index_ms is None or self._file['ms_to_idx'].dtype.kind not in 'iu':
            self._find('ms_to_idx is no list of indices: it is not used, times are searched')
        elif index_ms:
            index = self._read('ms_to_idx', slice(None))
            ms = np.unique(np.linspace(0, index_ms - 1, _INDEX_PROBES).astype(np.int64))
            ms = ms[ms * 1000 <= self._limits_us[1]]
            wrong = [number for number in ms.tolist() if not self._splits(int(index[number]), number * 1000)]
            if wrong:
                self._find(f'ms_to_idx does not fit events/t ({len(wrong)} of {len(ms)} looked at; '
                           f'{int(index[wrong[0]])} instead of {self._search(wrong[0] * 1000)} at {wrong[0]} ms): '
                           'it is not used, times are searched')

    def _splits(self, at: int, time_us: int) -> bool:
        """Whether ``at`` is between the events before a time and those from it on, judged by the few around it."""
        if not 0 <= at <= self.count:
            return False
        before = self._times(slice(max(0, at - _AROUND), at))
        after = self._times(slice(at, min(at + _AROUND, self.count)))
        return (not len(before) or np.median(before) <= time_us) and (not len(after) or np.median(after) >= time_us)

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def _read(self, name: str, part: Any) -> np.ndarray:
        column = self._columns.get(name)
        try:
            return np.asarray((self._file[name] if column is None else column)[part])
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            ends = isinstance(part, slice) and part.stop
            where = f' from {part.start} to {part.stop} of {self.count}' if ends else ''
            raise CrossSpecError(f'events {self.path}: {name} cannot be read{where}, the file is damaged ({error}); '
                                 'download it again') from error

    def _times(self, part: slice) -> np.ndarray:
        return self._clock.read(self._read('t', part))

    @property
    def first_us(self) -> int:
        """Time of the first event, us (t_offset of no events)."""
        return self._clock.offset_us + self._limits_us[0]

    @property
    def last_us(self) -> int:
        """Time of the last event, us (t_offset of no events)."""
        return self._clock.offset_us + self._limits_us[1]

    def index_at(self, time_us: int) -> int:
        """Index of the first event at or after ``time_us``; about it where times go back there."""
        return self._search(time_us - self._clock.offset_us)

    def _search(self, since_us: int) -> int:
        low, high = 0, self.count
        while high - low > CHUNK_EVENTS:
            middle = (low + high) // 2
            probe = np.median(self._times(slice(middle - _AROUND, middle + _AROUND + 1)))
            low, high = (middle, high) if probe < since_us else (low, middle)
        return low + int(np.searchsorted(self._times(slice(low, high)), since_us))

    def last_before(self, time_us: int) -> Events:
        """The event before ``time_us`` that ``events`` gives last, or none."""
        middle = self.index_at(time_us)
        part = slice(max(0, middle - CHUNK_EVENTS), min(self.count, middle + CHUNK_EVENTS))
        events = self._between(part, self.first_us, time_us, Counter())
        return events.part(max(0, len(events) - 1), len(events))

    def events(self, start_us: int, stop_us: int) -> Iterator[Events]:
        """Events of [start_us, stop_us) in the order of time, in pieces.

        Times that go back by less than about 2**20 events are put in order (``sorted`` counts the events that were out
        of it); events that come later than that are dropped as ``times_back``.
        """
        low = max(0, self.index_at(start_us) - CHUNK_EVENTS)
        high = min(self.count, self.index_at(stop_us) + CHUNK_EVENTS)
        waiting, done_ns = Events.empty(self.width, self.height), -1
        for first in range(low, high, CHUNK_EVENTS):
            fresh = self._between(slice(first, min(first + CHUNK_EVENTS, high)), start_us, stop_us, self.dropped)
            # What waits is settled up to the first of what came; no more than a few pieces wait.
            if not len(fresh):
                continue
            settled = max(int(np.searchsorted(waiting.t_ns, fresh.t_ns[0], side='right')),
                          len(waiting) - _MOST_WAITING)
            if settled > 0:
                self.given += settled
                yield waiting.part(0, settled)
                done_ns = int(waiting.t_ns[settled - 1])
                waiting = waiting.part(settled, len(waiting))
            late = int(np.searchsorted(fresh.t_ns, done_ns))
            self.dropped['times_back'] += late
            fresh = fresh.part(late, len(fresh))
            if len(waiting) and len(fresh):
                self.sorted += int(np.searchsorted(fresh.t_ns, waiting.t_ns[-1]))
                waiting = _in_order(join_events([waiting, fresh]))
            elif len(fresh):
                waiting = fresh
        if len(waiting):
            self.given += len(waiting)
            yield waiting

    def _between(self, part: slice, start_us: int, stop_us: int, dropped: Counter[str]) -> Events:
        """Events of a part of the file that are in [start_us, stop_us), in order, without those that are none."""
        t_us = self._times(part) + self._clock.offset_us
        inside = (t_us >= start_us) & (t_us < stop_us)
        if not inside.any():
            return Events.empty(self.width, self.height)
        x, y = self._read('x', part), self._read('y', part)
        p, known = self.polarity.read(self._read('p', part))
        on_sensor = (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)
        keep = inside & on_sensor & (True if known is None else known)
        if dropped is self.dropped:
            dropped['outside_sensor'] += int(np.count_nonzero(inside & ~on_sensor))
            dropped['unknown_polarity'] += int(np.count_nonzero(inside & on_sensor & ~keep))
        columns = (t_us * 1000, x.astype(np.uint16), y.astype(np.uint16), p)
        if not keep.all():
            columns = tuple(column[keep] for column in columns)
        events = Events(*columns, self.width, self.height)
        back = np.count_nonzero(events.t_ns < np.maximum.accumulate(events.t_ns)) if _goes_back(events) else 0
        if back and dropped is self.dropped:
            self.sorted += int(back)
        return _in_order(events) if back else events


def _goes_back(events: Events) -> bool:
    return bool(np.any(events.t_ns[1:] < events.t_ns[:-1]))


def _in_order(events: Events) -> Events:
    """Events by time; those of one time stay as they were."""
    order = np.argsort(events.t_ns, kind='stable')
    return Events(events.t_ns[order], events.x[order], events.y[order], events.p[order], events.width, events.height)


def _check_filters(path: Path, name: str, column: h5py.Dataset) -> None:
    filters = column.id.get_create_plist()
    for number in range(filters.get_nfilters()):
        code = filters.get_filter(number)[0]
        if not h5py.h5z.filter_avail(code):
            raise CrossSpecError(f'events {path}: events/{name} is packed with HDF5 filter {code}, which is not '
                                 'installed; install the Python package hdf5plugin')


def read_rectify_map(path: Path) -> np.ndarray:
    """``rectify_map`` float32 (H, W, 2); CrossSpecError naming the file when it cannot be had."""
    if not path.is_file():
        raise CrossSpecError(f'rectify map {path} is missing; it comes with the events of the sequence')
    try:
        with h5py.File(path, 'r') as file:
            return file['rectify_map'][()].astype(np.float32)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise CrossSpecError(f'rectify map {path} cannot be read ({error}); download it again') from error


def rectify_map_size(path: Path) -> tuple[int, int] | None:
    """(width, height) of the sensor that a rectify map is of; None where there is none that tells."""
    try:
        with h5py.File(path, 'r') as file:
            height, width, two = file['rectify_map'].shape
    except (OSError, KeyError, RuntimeError, ValueError):
        return None
    return (width, height) if two == 2 and width and height else None
