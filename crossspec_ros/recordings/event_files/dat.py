"""DAT files: 8 bytes an event, uint32 us and uint32 with x in bits 0-13, y 14-27, polarity 28-31; after 71 minutes the
time begins anew.

Triggers lie in a second file beside (``NAME_trigger.dat`` for ``NAME.dat`` or ``NAME_cd.dat``): type 14, edge in bit
0, id in bits 8-12. Source: the DAT format as published by Prophesee. Ours, since a reader has to take both files and
tell what is cut.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.bag import ImageFrame
from crossspec_ros.recordings.event_files.headers import first_bytes, read_header
from crossspec_ros.recordings.event_files.piece import CHUNK_EVENTS, NONE, Piece, check_turns, inside, whole_us

_CD, _CD_OLD, _TRIGGER = 12, 0, 14
_RECORD = np.dtype([('t', '<u4'), ('data', '<u4')])
_TURN_US = 1 << 32
_SIDE = 1 << 14


class DatFile:
    """A DAT file and the file of triggers beside it; an ``EventFile``."""

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        self.path, self.format, self.offset_ns = path, 'dat', 0
        self.dropped: Counter[str] = Counter()
        header = read_header(first_bytes(path))
        self.header = header.text
        self._records, self._excess, kind = _records(path)
        if kind not in (_CD, _CD_OLD):
            raise CrossSpecError(f'{path} holds events of type {kind}, not those of pixels (12 or 0); give the file of '
                                 'the same recording that ends in _cd.dat')
        if header.fields.get('version', '2') not in ('2', '2.0'):
            raise CrossSpecError(f'{path} is DAT of version {header.fields["version"]}; only version 2 is read')
        self.width, self.height = header.size(path, size)
        self._triggers = self._read_triggers()

    def _read_triggers(self) -> np.ndarray:
        beside = trigger_path(self.path)
        if not beside.is_file() or beside == self.path:
            return NONE
        records, excess, kind = _records(beside)
        if kind != _TRIGGER:
            raise CrossSpecError(f'{beside} holds events of type {kind}, not triggers (14); rename or remove it')
        self._excess += excess
        data = records['data'].astype(np.int64)
        return np.stack([_Times()(records['t']) * 1000, data & 1, data >> 8 & 31], 1)

    def span_ns(self) -> tuple[int, int]:
        if not len(self._records):
            return 0, 0
        times = _Times()
        first = int(self._records['t'][0])
        highest = max(int(times(self._records['t'][at:at + CHUNK_EVENTS]).max())
                      for at in range(0, len(self._records), CHUNK_EVENTS))
        return first * 1000, highest * 1000

    def pieces(self) -> Iterator[Piece]:
        self.dropped.clear()
        if self._excess:
            self.dropped['truncated_bytes'] = self._excess
        times, given = _Times(), 0
        for at in range(0, len(self._records), CHUNK_EVENTS):
            records = self._records[at:at + CHUNK_EVENTS]
            t_ns, data = times(records['t']) * 1000, records['data']
            events = inside(t_ns, data & np.uint32(_SIDE - 1), data >> np.uint32(14) & np.uint32(_SIDE - 1),
                            data >> np.uint32(28), self.width, self.height, self.dropped)
            stop = int(np.searchsorted(self._triggers[:, 0], t_ns[-1], side='right'))
            yield Piece(events, self._triggers[given:max(given, stop)])
            given = max(given, stop)
        yield Piece(Events.empty(self.width, self.height), self._triggers[given:])

    def frames(self) -> Iterator[ImageFrame]:
        return iter(())

    def close(self) -> None:
        self._records = self._records[:0]


class _Times:
    """Times in us, int64, over the turns of the counter."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, low: np.ndarray) -> np.ndarray:
        if not len(low):
            return np.empty(0, np.int64)
        low = low.astype(np.int64)
        turns = np.cumsum(np.diff(low, prepend=self._last % _TURN_US) < -_TURN_US // 2) + self._last // _TURN_US
        times = low + turns * _TURN_US
        self._last = int(times[-1])
        return times


def _records(path: Path) -> tuple[np.ndarray, int, int]:
    """(records, bytes left after the last whole one, type of the events)."""
    data = first_bytes(path)
    header = read_header(data)
    if len(data) < header.length + 2 or data[header.length + 1] != _RECORD.itemsize:
        raise CrossSpecError(f'{path} is no DAT file of events of 8 bytes; it is cut within its header, or another '
                             'format')
    at = header.length + 2
    count, excess = divmod(path.stat().st_size - at, _RECORD.itemsize)
    records = np.memmap(path, _RECORD, 'r', at, (count,)) if count else np.empty(0, _RECORD)
    return records, excess, data[header.length]


def trigger_path(path: Path) -> Path:
    """The file of triggers beside a DAT file."""
    return path.with_name(path.stem.removesuffix('_cd').removesuffix('_td') + '_trigger.dat')


class DatWriter:
    """Writes a DAT file, and one of triggers at ``triggers`` where there are any; an ``EventWriter``."""

    def __init__(self, path: Path, triggers: Path, width: int, height: int) -> None:
        self.left_out: Counter[str] = Counter()
        self._size = width, height
        self._triggers_path, self._triggers = triggers, None
        self._before_us: dict[BinaryIO, int] = {}
        self._file = self._open(path, 'CD', _CD)

    def _open(self, path: Path, what: str, kind: int) -> BinaryIO:
        file = open(path, 'wb')
        file.write(f'% Data file containing {what} events.\n% Version 2\n% Width {self._size[0]}\n'
                   f'% Height {self._size[1]}\n'.encode() + bytes([kind, _RECORD.itemsize]))
        return file

    def write(self, piece: Piece) -> None:
        self.left_out['monitors'] += len(piece.monitors)
        events = piece.events
        x, y, p = (column.astype(np.uint32) for column in (events.x, events.y, events.p != 0))
        self._put(self._file, events.t_ns, x | y << np.uint32(14) | p << np.uint32(28))
        if len(piece.triggers):
            if self._triggers is None:
                self._triggers = self._open(self._triggers_path, 'External Trigger', _TRIGGER)
            data = piece.triggers[:, 1] & 1 | (piece.triggers[:, 2] & 31) << 8
            self._put(self._triggers, piece.triggers[:, 0], data.astype(np.uint32))

    def _put(self, file: BinaryIO, t_ns: np.ndarray, data: np.ndarray) -> None:
        t_us = whole_us(t_ns, self.left_out)
        check_turns(t_us, _TURN_US, self._before_us.get(file, -1), 'DAT')
        if len(t_us):
            self._before_us[file] = int(t_us[-1])
        records = np.empty(len(t_us), _RECORD)
        records['t'], records['data'] = t_us % _TURN_US, data
        file.write(records.tobytes())

    def close(self) -> None:
        self._file.close()
        if self._triggers is not None:
            self._triggers.close()
