"""HDF5 files of events: Prophesee's own, and the layouts of DSEC, MVSEC and M3ED.

| Layout | Events | Times | Besides |
| --- | --- | --- | --- |
| Prophesee | ``CD/events`` (x, y, p, t) | us | ``EXT_TRIGGER/events`` (p, t, id) |
| DSEC | ``events/{t,x,y,p}`` | us since ``t_offset`` | ``ms_to_idx`` |
| M3ED | ``prophesee/left/{t,x,y,p}`` | us | ``ms_map_idx``; pictures ``ovc/rgb/data`` with ``ovc/ts`` |
| MVSEC | ``davis/left/events`` float64 (N, 4): x, y, t, p (-1, 1) | s | pictures ``image_raw``, ``image_raw_ts`` |

Prophesee's recordings are packed with the maker's ECF filter (36559), which no Python package has: they are read where
its plugin is found (``HDF5_PLUGIN_PATH``), and refused in one line elsewhere.
"""
from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.bag import ImageFrame, rgb_frame
from crossspec_ros.recordings.event_files.headers import parse_size
from crossspec_ros.recordings.event_files.piece import CHUNK_EVENTS, NONE, Piece, inside, whole_us

try:
    import hdf5plugin  # noqa: F401  (registers the filters that DSEC and M3ED are packed with)
except ImportError:
    hdf5plugin = None

LAYOUTS = {'prophesee': 'CD/events', 'dsec': 'events/t', 'm3ed': 'prophesee/left/t', 'mvsec': 'davis/left/events'}
ECF_FILTER = 36559
_MOST_STEPS = 50_000_000        # of the index: 14 hours of ms
_SIZES = {'dsec': (640, 480), 'm3ed': (1280, 720), 'mvsec': (346, 260)}
_PICTURES = {'m3ed': ('ovc/rgb/data', 'ovc/ts', 1_000),
             'mvsec': ('davis/left/image_raw', 'davis/left/image_raw_ts', None)}


class Hdf5File:
    """An HDF5 file of events in one of the four layouts; an ``EventFile``."""

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        self.path, self.header = path, ''
        self.dropped: Counter[str] = Counter()
        try:
            self._file = h5py.File(path, 'r')
        except OSError as error:
            raise CrossSpecError(f'{path} cannot be opened as HDF5, it is cut or damaged ({error}); copy it again'
                                 ) from error
        try:
            self.format = self._layout()
            self._columns = self._open_columns()
            self.offset_ns = self._offset_ns()
            self.count = min(len(column) for column in self._columns.values())
            longest = max(len(column) for column in self._columns.values())
            if longest != self.count:
                self.dropped['columns_of_other_length'] = longest - self.count
            self.width, self.height = size or self._size()
            self._triggers = self._read_triggers()
        except BaseException:
            self._file.close()
            raise

    def _layout(self) -> str:
        for name, place in LAYOUTS.items():
            if place in self._file:
                return name
        there = ', '.join(self._file) or 'nothing'
        raise CrossSpecError(f'{self.path} has none of {", ".join(LAYOUTS.values())}; it holds {there}, which is no '
                             'layout '
                             'of events known here; write a source of your own for it (crossspec.sources)')

    def _open_columns(self) -> dict[str, h5py.Dataset]:
        place = LAYOUTS[self.format]
        if self.format in ('prophesee', 'mvsec'):
            found = {'events': self._file[place]}
        else:
            group = self._file[place.rpartition('/')[0]]
            missing = [name for name in 'txyp' if name not in group]
            if missing:
                raise CrossSpecError(f'{self.path}: {group.name} has no {", ".join(missing)}; copy it again')
            found = {name: group[name] for name in 'txyp'}
        for name, column in found.items():
            self._check(name, column)
        return found

    def _check(self, name: str, column: Any) -> None:
        if not isinstance(column, h5py.Dataset) or not column.shape:
            raise CrossSpecError(f'{self.path}: {name} is no column of events; copy the file again')
        if self.format == 'mvsec' and (column.ndim != 2 or column.shape[1] != 4):
            raise CrossSpecError(f'{self.path}: davis/left/events must be (N, 4), got {column.shape}')
        if self.format == 'prophesee' and not {'x', 'y', 'p', 't'} <= set(column.dtype.names or ()):
            raise CrossSpecError(f'{self.path}: CD/events must have x, y, p and t, got {column.dtype}')
        packed = column.id.get_create_plist()
        for number in range(packed.get_nfilters()):
            code = packed.get_filter(number)[0]
            if not h5py.h5z.filter_avail(code):
                way = ('the ECF filter of Prophesee; set HDF5_PLUGIN_PATH to the folder of its plugin (it comes with '
                       'Metavision SDK and OpenEB), or write RAW there' if code == ECF_FILTER else
                       f'HDF5 filter {code}, which is not there; pip install hdf5plugin')
                raise CrossSpecError(f'{self.path} is packed with {way}')

    def _offset_ns(self) -> int:
        if self.format != 'dsec' or 't_offset' not in self._file:
            return 0
        return int(np.asarray(self._file['t_offset'])[()]) * 1000

    def _size(self) -> tuple[int, int]:
        attributes = self._file.attrs
        if 'geometry' in attrs_of(attributes) and (size := parse_size(attrs_of(attributes)['geometry'])):
            return size
        if {'width', 'height'} <= set(attributes):
            return int(attributes['width']), int(attributes['height'])
        if self.format == 'm3ed' and 'prophesee/left/calib/resolution' in self._file:
            width, height = np.asarray(self._file['prophesee/left/calib/resolution']).reshape(-1)[:2]
            return int(width), int(height)
        if self.format not in _SIZES:
            raise CrossSpecError(f'{self.path} does not say how large its sensor is; give it with --size WIDTHxHEIGHT')
        return _SIZES[self.format]

    def _read(self, column: Any, part: slice) -> np.ndarray:
        try:
            return np.asarray(column[part])
        except (OSError, RuntimeError, ValueError) as error:
            raise CrossSpecError(f'{self.path}: {column.name} cannot be read, the file is damaged '
                                 f'({str(error).splitlines()[0]}); copy it again') from error

    def _part(self, part: slice) -> tuple[np.ndarray, ...]:
        """(t in ns, x, y, p) of a range of events."""
        if self.format == 'mvsec':
            table = self._read(self._columns['events'], part)
            return (np.round(table[:, 2] * 1e6).astype(np.int64) * 1000, table[:, 0].astype(np.int64),
                    table[:, 1].astype(np.int64), table[:, 3])
        if self.format == 'prophesee':
            table = self._read(self._columns['events'], part)
            return table['t'].astype(np.int64) * 1000, table['x'], table['y'], table['p']
        t, x, y, p = (self._read(self._columns[name], part) for name in 'txyp')
        return t.astype(np.int64) * 1000, x, y, p

    def _read_triggers(self) -> np.ndarray:
        if self.format != 'prophesee' or 'EXT_TRIGGER/events' not in self._file:
            return NONE
        table = self._read(self._file['EXT_TRIGGER/events'], slice(None))
        return np.stack([table['t'].astype(np.int64) * 1000, table['p'].astype(np.int64) & 1,
                         table['id'].astype(np.int64)], 1) if len(table) else NONE

    def span_ns(self) -> tuple[int, int]:
        if not self.count:
            return 0, 0
        return int(self._part(slice(0, 1))[0][0]), int(self._part(slice(self.count - 1, self.count))[0][0])

    def pieces(self) -> Iterator[Piece]:
        self.dropped.pop('outside_sensor', None)
        given = 0
        for start in range(0, self.count, CHUNK_EVENTS):
            t_ns, x, y, p = self._part(slice(start, min(start + CHUNK_EVENTS, self.count)))
            stop = max(given, int(np.searchsorted(self._triggers[:, 0], t_ns[-1], side='right')))
            yield Piece(inside(t_ns, x, y, p, self.width, self.height, self.dropped), self._triggers[given:stop])
            given = stop
        yield Piece(Events.empty(self.width, self.height), self._triggers[given:])

    def between(self, start_ns: int, stop_ns: int) -> Events:
        """Events of [``start_ns``, ``stop_ns``) of a file whose times rise, those outside the sensor left out."""
        first, last = (bisect_left(range(self.count), at_ns, key=self._time_ns) for at_ns in (start_ns, stop_ns))
        return inside(*self._part(slice(first, last)), self.width, self.height, Counter())

    def _time_ns(self, number: int) -> int:
        return int(self._part(slice(number, number + 1))[0][0])

    def picture_times_ns(self) -> list[int]:
        """Times of the pictures beside the events; none where the layout or the file has none."""
        pictures, times, unit_ns = _PICTURES.get(self.format, ('', '', 0))
        if not pictures or pictures not in self._file or times not in self._file:
            return []
        stamps = self._read(self._file[times], slice(0, len(self._file[pictures])))
        return [round(float(stamp) * 1e6) * 1000 if unit_ns is None else int(stamp) * unit_ns for stamp in stamps]

    def picture(self, number: int) -> np.ndarray:
        """A picture beside the events, uint8 (H, W, 3) RGB."""
        picture = self._read(self._file[_PICTURES[self.format][0]], slice(number, number + 1))[0]
        grey = picture.ndim == 2 or picture.shape[-1] == 1
        rgb = np.repeat(picture.reshape(*picture.shape[:2], 1), 3, axis=2) if grey else picture[:, :, ::-1]
        return np.ascontiguousarray(rgb[:, :, :3], np.uint8)

    def frames(self) -> Iterator[ImageFrame]:
        for number, stamp_ns in enumerate(self.picture_times_ns()):
            yield rgb_frame(stamp_ns, self.picture(number))

    def close(self) -> None:
        self._file.close()


def attrs_of(attributes: Any) -> dict[str, str]:
    """Attributes as text."""
    return {name: value.decode() if isinstance(value, bytes) else str(value) for name, value in attributes.items()}


class Hdf5Writer:
    """Writes an HDF5 file in one of the four layouts; an ``EventWriter``.

    ``offset_ns`` is what DSEC keeps as its ``t_offset``. Times must be >= 0.
    """

    def __init__(self, path: Path, layout: str, width: int, height: int, offset_ns: int = 0) -> None:
        self.left_out: Counter[str] = Counter()
        self._layout, self._offset_us = layout, offset_ns // 1000
        self._file = h5py.File(path, 'w')
        self._file.attrs.update({'width': width, 'height': height, 'geometry': f'{width}x{height}'})
        self._firsts: list[np.ndarray] = []             # index of the first event of each ms, or of each 2 ms
        self._count = self._steps = 0
        self._make: Callable[[], None] = {'prophesee': self._make_prophesee, 'mvsec': self._make_mvsec}.get(
            layout, self._make_columns)
        self._make()

    def _dataset(self, name: str, kind: Any, shape: tuple[int, ...] = ()) -> h5py.Dataset:
        plain = hdf5plugin is None or self._layout == 'prophesee'
        packing = {} if plain else dict(hdf5plugin.Blosc(cname='zstd', clevel=3))
        return self._file.create_dataset(name, (0, *shape), kind, maxshape=(None, *shape), chunks=(1 << 16, *shape),
                                         **packing)

    def _make_prophesee(self) -> None:
        # Not packed: what has no filter is read by every HDF5 library, the maker's included.
        self._file.attrs.update({'format': 'HDF5', 'version': '1.0'})
        self._events = self._dataset('CD/events', [('x', '<u2'), ('y', '<u2'), ('p', '<i2'), ('t', '<i8')])
        self._triggers = self._dataset('EXT_TRIGGER/events', [('p', '<i2'), ('t', '<i8'), ('id', '<i2')])

    def _make_mvsec(self) -> None:
        self._events = self._dataset('davis/left/events', '<f8', (4,))

    def _make_columns(self) -> None:
        place = LAYOUTS[self._layout].rpartition('/')[0]
        kinds = {'t': '<u4' if self._layout == 'dsec' else '<i8', 'x': '<u2', 'y': '<u2', 'p': 'u1'}
        self._split = {name: self._dataset(f'{place}/{name}', kind) for name, kind in kinds.items()}
        if self._layout == 'dsec':
            self._file['t_offset'] = np.int64(self._offset_us)

    def write(self, piece: Piece) -> None:
        events = piece.events
        t_us = whole_us(events.t_ns, self.left_out)
        self.left_out['monitors'] += len(piece.monitors)
        if self._layout == 'prophesee':
            self._append_records(events, t_us, piece.triggers)
        else:
            self.left_out['triggers'] += len(piece.triggers)
            self._append_columns(events, t_us)
        self._count_steps(t_us)

    def _append_records(self, events: Events, t_us: np.ndarray, triggers: np.ndarray) -> None:
        table = np.empty(len(events), self._events.dtype)
        table['x'], table['y'], table['p'], table['t'] = events.x, events.y, events.p, t_us
        _append(self._events, table)
        table = np.empty(len(triggers), self._triggers.dtype)
        table['t'], table['p'], table['id'] = triggers[:, 0] // 1000, triggers[:, 1], triggers[:, 2]
        _append(self._triggers, table)

    def _append_columns(self, events: Events, t_us: np.ndarray) -> None:
        if self._layout == 'mvsec':
            _append(self._events, np.stack([events.x, events.y, t_us / 1e6, np.where(events.p, 1.0, -1.0)], 1))
            return
        if self._layout == 'dsec' and len(t_us) and int(t_us.max()) >= 1 << 32:
            raise CrossSpecError('DSEC keeps us since its start in 32 bits (71 minutes), and these times are later; '
                                 'give '
                                 '--offset with the start of the recording, negative, or choose --format prophesee')
        for name, column in (('t', t_us), ('x', events.x), ('y', events.y), ('p', events.p)):
            _append(self._split[name], column)

    def _count_steps(self, t_us: np.ndarray) -> None:
        """Note where each further ms (2 ms of Prophesee's) begins."""
        if len(t_us) and self._layout in ('dsec', 'm3ed', 'prophesee'):
            step_us = 2000 if self._layout == 'prophesee' else 1000
            highest = np.maximum.accumulate(t_us)
            last = int(highest[-1]) // step_us
            if last > _MOST_STEPS or int(t_us.min()) < 0:
                raise CrossSpecError(f'{self._layout} has an index of every {step_us // 1000} ms from 0 on, and these '
                                     'times are '
                                     f'{int(t_us.min()) / 1e6:.6f} to {int(t_us.max()) / 1e6:.6f} s; give --offset '
                                     'with the '
                                     'start of the recording, negative')
            if last >= self._steps:
                edges = np.arange(self._steps, last + 1) * step_us
                self._firsts.append(self._count + np.searchsorted(highest, edges))
                self._steps = last + 1
        self._count += len(t_us)

    def close(self) -> None:
        firsts = np.concatenate(self._firsts) if self._firsts else np.empty(0, np.int64)
        if self._layout == 'dsec':
            self._file['ms_to_idx'] = firsts.astype('<u8')
        elif self._layout == 'm3ed':
            self._file['prophesee/left/ms_map_idx'] = firsts.astype('<u8')
        elif self._layout == 'prophesee':
            table = np.empty(len(firsts), [('id', '<u8'), ('ts', '<i8')])
            table['id'], table['ts'] = firsts, np.arange(len(firsts)) * 2000
            self._file['CD/indexes'] = table
            self._file['CD/indexes'].attrs['offset'] = '0'
        self._file.close()


def _append(column: h5py.Dataset, values: np.ndarray) -> None:
    start = len(column)
    column.resize(start + len(values), axis=0)
    column[start:] = values
