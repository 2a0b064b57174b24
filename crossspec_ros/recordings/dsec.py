"""A DSEC sequence as it lies on the disk: events, images and their times.

Layout (left cameras)::

    events/left/events.h5           /events/{p,t,x,y}, /t_offset, /ms_to_idx
    events/left/rectify_map.h5      /rectify_map, (480, 640, 2)
    images/left/rectified/*.png
    images/timestamps.txt           one time a picture, us
    images/left/exposure_timestamps.txt     start and end of the exposures, us (may be absent)
    calibration/cam_to_cam.yaml

Event times are us since ``t_offset``; all times given out here are us of the image clock (event time + ``t_offset``).
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events

try:
    import hdf5plugin  # noqa: F401  (registers the filters that DSEC is packed with)
except ImportError:
    hdf5plugin = None

WIDTH, HEIGHT = 640, 480
CHUNK_EVENTS = 1 << 20


@dataclass(frozen=True)
class Picture:
    """One image file; ``stamp_us`` is the middle of its exposure, ``ready_us`` the end of it."""

    path: Path
    stamp_us: int
    ready_us: int


class EventFile:
    """``events.h5``, read in pieces; a context manager.

    Raises CrossSpecError naming the file when it is missing, cut, without its entries, or packed with a filter that
    is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise CrossSpecError(f'events {path} are missing; unpack the events of the sequence into {path.parent}')
        try:
            self._file = h5py.File(path, 'r')
        except OSError as error:
            raise CrossSpecError(f'events {path} cannot be opened, the file is cut or no HDF5 ({error}); '
                                 'download it again') from error
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        try:
            self._columns = {name: self._file[f'events/{name}'] for name in ('t', 'x', 'y', 'p')}
            self.t_offset_us = int(self._file['t_offset'][()])
        except (KeyError, TypeError, ValueError) as error:
            raise CrossSpecError(f'events {self.path} must hold events/t, x, y, p and t_offset as DSEC has them; '
                                 f'{error}') from error
        lengths = {name: len(column) for name, column in self._columns.items()}
        if len(set(lengths.values())) != 1:
            raise CrossSpecError(f'events {self.path}: t, x, y and p must be equally long, got {lengths}')
        self.count = lengths['t']
        for name, column in self._columns.items():
            _check_filters(self.path, name, column)
        self._first_of_ms = self._read('ms_to_idx', slice(None)).astype(np.int64) if 'ms_to_idx' in self._file else None
        if self._first_of_ms is not None and (np.any(np.diff(self._first_of_ms) < 0) or
                                              np.any(self._first_of_ms > self.count) or np.any(self._first_of_ms < 0)):
            raise CrossSpecError(f'events {self.path}: ms_to_idx must rise and stay within the events; '
                                 'the file is damaged, download it again')

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def _read(self, name: str, part: Any) -> np.ndarray:
        column = self._columns.get(name)
        try:
            return (self._file[name] if column is None else column)[part]
        except (OSError, RuntimeError, ValueError) as error:
            raise CrossSpecError(f'events {self.path}: {name} cannot be read, the file is damaged ({error}); '
                                 'download it again') from error

    @property
    def first_us(self) -> int:
        """Time of the first event, us (t_offset of no events)."""
        return self.t_offset_us + (int(self._read('t', 0)) if self.count else 0)

    @property
    def last_us(self) -> int:
        """Time of the last event, us (t_offset of no events)."""
        return self.t_offset_us + (int(self._read('t', self.count - 1)) if self.count else 0)

    def index_at(self, time_us: int) -> int:
        """Index of the first event at or after ``time_us``; with ms_to_idx it reads one millisecond of times."""
        since_us = time_us - self.t_offset_us
        low, high = 0, self.count
        if since_us <= 0 and (not self.count or int(self._read('t', 0)) >= since_us):
            return 0
        if self._first_of_ms is not None and len(self._first_of_ms):
            ms = max(0, since_us // 1000)
            low = int(self._first_of_ms[min(ms, len(self._first_of_ms) - 1)])
            high = int(self._first_of_ms[ms + 1]) if ms + 1 < len(self._first_of_ms) else self.count
        while high - low > CHUNK_EVENTS:
            middle = (low + high) // 2
            low, high = (middle, high) if int(self._read('t', middle)) < since_us else (low, middle)
        return low + int(np.searchsorted(self._read('t', slice(low, high)).astype(np.int64), since_us))

    def one(self, index: int) -> Events:
        """The event at an index."""
        return self._piece(slice(index, index + 1))

    def _piece(self, part: slice) -> Events:
        t_ns = (self._read('t', part).astype(np.int64) + self.t_offset_us) * 1000
        return Events(t_ns, self._read('x', part).astype(np.uint16), self._read('y', part).astype(np.uint16),
                      self._read('p', part).astype(np.uint8), WIDTH, HEIGHT)

    def events(self, start_us: int, stop_us: int) -> Iterator[Events]:
        """Events of [start_us, stop_us) in pieces of at most 2**20."""
        stop = self.index_at(stop_us)
        for start in range(self.index_at(start_us), stop, CHUNK_EVENTS):
            yield self._piece(slice(start, min(start + CHUNK_EVENTS, stop)))


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


def read_pictures(root: Path) -> list[Picture]:
    """The left RGB images with their times, in order.

    Raises CrossSpecError when images or times are missing, do not fit each other in number, or times do not rise.
    """
    folder = root / 'images' / 'left' / 'rectified'
    if not folder.is_dir():
        raise CrossSpecError(f'images {folder} are missing; unpack the left rectified images of the sequence there')
    files = sorted(folder.glob('*.png'))
    if not files:
        raise CrossSpecError(f'images {folder} holds no *.png; unpack the left rectified images of the sequence there')
    stamps = _table(_first_of(root / 'images', ('timestamps.txt', '*image_timestamps.txt')), 1)[:, 0]
    if len(stamps) != len(files):
        raise CrossSpecError(f'images {folder}: {len(files)} pictures but {len(stamps)} times in '
                             'images/timestamps.txt; some files are missing, unpack them again')
    if np.any(np.diff(stamps) <= 0):
        raise CrossSpecError(f'{root / "images" / "timestamps.txt"}: times must rise')
    ready = stamps
    exposures = _find(root / 'images' / 'left', ('exposure_timestamps.txt', '*exposure_timestamps*.txt'))
    if exposures is not None:
        table = _table(exposures, 2)
        if len(table) != len(files):
            raise CrossSpecError(f'{exposures}: {len(table)} exposures but {len(files)} pictures')
        ready = np.maximum(table[:, 1], stamps)
    return [Picture(path, int(stamp), int(end)) for path, stamp, end in zip(files, stamps, ready, strict=True)]


def _find(folder: Path, patterns: Sequence[str]) -> Path | None:
    return next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None)


def _first_of(folder: Path, patterns: Sequence[str]) -> Path:
    path = _find(folder, patterns)
    if path is None:
        raise CrossSpecError(f'{folder / patterns[0]} is missing; unpack the image timestamps of the sequence there')
    return path


def _table(path: Path, columns: int) -> np.ndarray:
    """Whole numbers in lines, separated by commas; lines that begin with # are headings."""
    try:
        table = np.loadtxt(path, np.int64, comments='#', delimiter=',', ndmin=2)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise CrossSpecError(f'{path} must hold {columns} whole number(s) a line, us; {error}') from error
    if table.size and table.shape[1] != columns:
        raise CrossSpecError(f'{path} must hold {columns} whole number(s) a line, us; got {table.shape[1]}')
    return table.reshape(-1, columns)
