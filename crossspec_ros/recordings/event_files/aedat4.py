"""AEDAT4 files: read with ``aedat``, written with ``dv-processing``.

``aedat`` gives the packets of a file that was cut up to where it was cut, which ``dv-processing`` refuses as a whole;
event by event the two agree. A damaged header can end the process in
``aedat``: it is checked before. Both come with the extra ``formats``.
"""
from __future__ import annotations

import importlib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.bag import ImageFrame, rgb_frame
from crossspec_ros.recordings.event_files.headers import first_bytes
from crossspec_ros.recordings.event_files.piece import NONE, Piece, columns, inside, whole_us

_MAGIC = 14                         # bytes: #!AER-DAT4.0, CR, LF
# Triggers whose edge is that of a signal; others (resets, frames, exposures) say nothing of one.
_EDGES = {1: (1, 0), 2: (0, 0), 3: (1, 0), 4: (1, 1), 5: (0, 1)}


def needs(module: str, package: str, what: str) -> Any:
    """A module of the extra ``formats``; CrossSpecError in one line where it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CrossSpecError(f'{what} needs the Python package {package}, which is not there ({error}); '
                             'pip install "crossspec_ros[formats]"') from error


class Aedat4File:
    """An AEDAT4 file: its first stream of events, its triggers and frames; an ``EventFile``.

    A file that is cut gives what it holds up to there, and ``dropped`` has cut_files 1.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        self.path, self.format, self.offset_ns, self.header = path, 'aedat4', 0, ''
        self.dropped: Counter[str] = Counter()
        self._aedat = needs('aedat', 'aedat', 'AEDAT4')
        check_header(path)
        streams = self._decoder().id_to_stream()
        found = [(number, stream) for number, stream in streams.items() if stream['type'] == 'events']
        if not found:
            there = ', '.join(stream['type'] for stream in streams.values())
            raise CrossSpecError(f'{path} holds no stream of events; it has {there or "none"}')
        self._stream, stream = min(found, key=lambda pair: pair[0])
        self.width, self.height = size or (int(stream['width']), int(stream['height']))
        self._triggers, self._span = self._look_through()

    def _decoder(self) -> Any:
        try:
            return self._aedat.Decoder(str(self.path))
        except BaseException as error:
            if not _of_damage(error):
                raise
            raise CrossSpecError(f'{self.path} cannot be read as AEDAT4, it is damaged ({error}); '
                                 'copy it again') from error

    def _packets(self) -> Iterator[dict[str, Any]]:
        """Packets up to the end, or up to where the file is cut."""
        decoder = iter(self._decoder())
        while True:
            try:
                packet = next(decoder, None)
            except BaseException as error:
                if not _of_damage(error):
                    raise
                self.dropped['cut_files'] = 1
                return
            if packet is None:
                return
            yield packet

    def _look_through(self) -> tuple[np.ndarray, tuple[int, int]]:
        """Triggers, and first and last time of events."""
        rows: list[tuple[int, int, int]] = []
        first_us, last_us = None, 0
        for packet in self._packets():
            for t_us, source in zip(*_trigger_columns(packet), strict=True):
                if source in _EDGES:
                    rows.append((int(t_us) * 1000, *_EDGES[source]))
                else:
                    self.dropped['other_triggers'] += 1
            if packet['stream_id'] == self._stream and len(events := packet['events']):
                first_us = int(events['t'][0]) if first_us is None else first_us
                last_us = max(last_us, int(events['t'].max()))
        rows.sort(key=lambda row: row[0])
        return columns(rows), ((first_us or 0) * 1000, last_us * 1000)

    def span_ns(self) -> tuple[int, int]:
        return self._span

    def pieces(self) -> Iterator[Piece]:
        self.dropped.pop('outside_sensor', None)
        given = 0
        for packet in self._packets():
            if packet['stream_id'] != self._stream or not len(packet['events']):
                continue
            columns_of = packet['events']
            t_ns = columns_of['t'].astype(np.int64) * 1000
            events = inside(t_ns, columns_of['x'], columns_of['y'], columns_of['on'], self.width, self.height,
                            self.dropped)
            stop = max(given, int(np.searchsorted(self._triggers[:, 0], t_ns[-1], side='right')))
            yield Piece(events, self._triggers[given:stop])
            given = stop
        yield Piece(Events.empty(self.width, self.height), self._triggers[given:])

    def frames(self) -> Iterator[ImageFrame]:
        for packet in self._packets():
            if 'frame' in packet:
                frame = packet['frame']
                yield rgb_frame(int(frame['t']) * 1000, _rgb(frame['pixels'], str(frame.get('format', ''))))

    def close(self) -> None:
        """Nothing stays open."""


def _of_damage(error: BaseException) -> bool:
    """Whether an error is what ``aedat`` makes of a damaged file: a panic of its Rust code is no ``Exception``."""
    return isinstance(error, (RuntimeError, OSError, ValueError)) or type(error).__name__ == 'PanicException'


def check_header(path: Path) -> None:
    """Raise CrossSpecError where the header, which ``aedat`` trusts, is cut or damaged.

    It is a FlatBuffer behind its size, with the identifier IOHE, whose one text is XML that lists the streams.
    """
    data = first_bytes(path)
    size = int.from_bytes(data[_MAGIC:_MAGIC + 4], 'little')
    header = data[_MAGIC + 4:_MAGIC + 4 + size]
    text = header[header.find(b'<dv'):header.rfind(b'</dv>') + 5]
    try:
        start = header.find(b'<dv')
        # The text is the last thing in the FlatBuffer, its length in front of it.
        length = int.from_bytes(header[start - 4:start], 'little')
        whole = (len(header) == size and header[4:8] == b'IOHE' and start > 0 and 0 <= size - start - length < 16
                 and int.from_bytes(header[:4], 'little') < start)
        ElementTree.fromstring(text.decode('ascii'))
    except (ElementTree.ParseError, UnicodeDecodeError):
        whole = False
    if not whole:
        raise CrossSpecError(f'{path} cannot be read as AEDAT4, its header is cut or damaged; copy it again')


def _trigger_columns(packet: dict[str, Any]) -> tuple[Any, Any]:
    triggers = packet.get('triggers', NONE)
    return (triggers['t'], triggers['source']) if len(triggers) else ((), ())


def _rgb(pixels: np.ndarray, order: str) -> np.ndarray:
    """uint8 (H, W, 3) of a frame as it lies in the file."""
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels[:, :, :3] if order.upper().startswith('RGB') else pixels[:, :, 2::-1]


class Aedat4Writer:
    """Writes an AEDAT4 file with its events, triggers and pictures; an ``EventWriter``."""

    def __init__(self, path: Path, width: int, height: int, picture_size: tuple[int, int] | None = None) -> None:
        self._dv = needs('dv_processing', 'dv-processing', 'writing AEDAT4')
        self.left_out: Counter[str] = Counter()
        config = self._dv.io.MonoCameraWriter.Config('events')
        config.addEventStream((width, height))
        config.addTriggerStream()
        if picture_size is not None:
            config.addFrameStream(picture_size)
        self._pictures = picture_size is not None
        self._writer: Any = self._dv.io.MonoCameraWriter(str(path), config)

    def write(self, piece: Piece) -> None:
        self.left_out['monitors'] += len(piece.monitors)
        events = piece.events
        t_us = whole_us(events.t_ns, self.left_out)
        # The maker's library refuses times that go back.
        if len(t_us) and bool(np.any(np.diff(t_us) < 0)):
            raise CrossSpecError('AEDAT4 needs events in the order of time, and these go back; write HDF5 or DAT '
                                 'instead')
        store = self._dv.EventStore()
        for event in zip(t_us.tolist(), events.x.tolist(), events.y.tolist(), (events.p != 0).tolist(), strict=True):
            store.push_back(*event)
        if len(events):
            self._writer.writeEvents(store)
        kinds = {pair: number for number, pair in reversed(_EDGES.items())}
        for t_ns, edge, name in piece.triggers.tolist():
            kind = kinds.get((edge, name))
            if kind is None:
                self.left_out['triggers_id'] += 1
            else:
                self._writer.writeTrigger(self._dv.Trigger(t_ns // 1000, self._dv.TriggerType(kind)))

    def write_picture(self, t_ns: int, rgb: np.ndarray) -> None:
        """A picture, uint8 (H, W, 3)."""
        self._writer.writeFrame(self._dv.Frame(t_ns // 1000, np.ascontiguousarray(rgb[:, :, ::-1])))

    def close(self) -> None:
        self._writer = None             # the library writes the rest as the last reference goes
