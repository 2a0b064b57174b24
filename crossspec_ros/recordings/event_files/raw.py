"""RAW files: EVT 3.0 (its words as they are, or decoded), EVT 2.0 and EVT 2.1."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import Decoder, Trigger
from crossspec_ros.events.types import Packet
from crossspec_ros.recordings.bag import ImageFrame
from crossspec_ros.recordings.event_files import evt3_stream
from crossspec_ros.recordings.event_files.evt2 import Evt2Decoder, Evt2Encoder
from crossspec_ros.recordings.event_files.headers import Header, first_bytes, read_header
from crossspec_ros.recordings.event_files.piece import NONE, Piece, columns

_WINDOW = 1 << 21                   # words looked at in one go
_MOST_WORDS = 1 << 22               # of one packet, where the stream says no time
_LOOK = 1 << 18                    # words that tell the order of halves
_WORD = {'evt3': '<u2', 'evt2': '<u4', 'evt21': '<u8'}
NAMES = {'evt3': ('3.0', 'EVT3'), 'evt2': ('2.0', 'EVT2'), 'evt21': ('2.1', 'EVT21')}


class RawFile:
    """A RAW file; an ``EventFile``. Bytes after the last whole word are left out and counted as truncated_bytes."""

    def __init__(self, path: Path, encoding: str, size: tuple[int, int] | None = None) -> None:
        self.path, self.format, self.offset_ns = path, encoding, 0
        header = read_header(first_bytes(path))
        self.width, self.height = header.size(path, size)
        self.header = header.text
        self.dropped: Counter[str] = Counter()
        self.words, self._excess = _words(path, header, np.dtype(_WORD[encoding]))
        if encoding == 'evt21' and (_looks_swapped(self.words) if header.swapped is None else header.swapped):
            self.words = self.words.view('<u4').reshape(-1, 2)
        self._start_dropped()

    def _start_dropped(self) -> None:
        """Counts anew for every reading: what is read twice is not dropped twice."""
        self.dropped.clear()
        if self._excess:
            self.dropped['truncated_bytes'] = self._excess

    def span_ns(self) -> tuple[int, int]:
        if self.format == 'evt3':
            spans = [(first, last) for _, first, last in self.cuts(1 << 40) if first >= 0]
            return (spans[0][0] * 1000, max(last for _, last in spans) * 1000) if spans else (0, 0)
        first_ns, last_ns = None, 0
        for piece in self.pieces():
            if len(piece.events):
                first_ns = int(piece.events.t_ns[0]) if first_ns is None else first_ns
                last_ns = max(last_ns, int(piece.events.t_ns.max()))
        return first_ns or 0, last_ns

    def cuts(self, slice_us: int) -> Iterator[tuple[int, int, int]]:
        """(index after the last word, first time, last time in us or -1) of each packet of evt3, in order."""
        state = evt3_stream.new_cut_state()
        start = 0
        for window in range(0, len(self.words), _WINDOW):
            words = np.ascontiguousarray(self.words[window:window + _WINDOW])
            cuts = np.empty(3 * (int(np.count_nonzero(words >> 12 == 8)) + 1), np.int64)
            count = evt3_stream.find_cuts.compiled(words, state, slice_us, cuts)
            for at, first, last in cuts[:3 * count].reshape(-1, 3).tolist():
                start = window + at
                yield start, first, last
        if start < len(self.words):
            yield len(self.words), int(state[3]), int(state[4])

    def payloads(self, slice_us: int) -> Iterator[tuple[np.ndarray, int, int]]:
        """(payload, first time, last time in us or -1) of packets that together are the words of the file."""
        self._start_dropped()
        start = 0
        for stop, first, last in self.cuts(slice_us):
            while stop - start > _MOST_WORDS:
                yield np.array(self.words[start:start + _MOST_WORDS]).view(np.uint8), first, first
                start += _MOST_WORDS
            yield np.array(self.words[start:stop]).view(np.uint8), first, last
            start = stop

    def pieces(self) -> Iterator[Piece]:
        self._start_dropped()
        return self._pieces_evt3() if self.format == 'evt3' else self._pieces_evt2()

    def _pieces_evt2(self) -> Iterator[Piece]:
        decoder = Evt2Decoder(self.width, self.height, self.dropped, wide=self.format == 'evt21')
        for start in range(0, len(self.words), _WINDOW):
            words = self.words[start:start + _WINDOW]
            if words.ndim == 2:
                words = words[:, ::-1].copy().view('<u8').reshape(-1)
            yield decoder.decode(np.ascontiguousarray(words))
        yield decoder.finish()

    def _pieces_evt3(self) -> Iterator[Piece]:
        decoder = PacketDecoder('evt3', self.width, self.height)
        for start in range(0, len(self.words), _WINDOW):
            payload = np.array(self.words[start:start + _WINDOW]).view(np.uint8)
            yield decoder.piece(Packet('evt3', self.width, self.height, start // _WINDOW, 0, 0, payload))
        yield decoder.finish()
        self.dropped.update(decoder.dropped)

    def frames(self) -> Iterator[ImageFrame]:
        return iter(())

    def close(self) -> None:
        self.words = self.words[:0]


def _words(path: Path, header: Header, kind: np.dtype) -> tuple[np.ndarray, int]:
    """The words of a file, mapped, and how many bytes are left after the last whole one."""
    count, excess = divmod(path.stat().st_size - header.length, kind.itemsize)
    if not count:
        return np.empty(0, kind), excess
    try:
        return np.memmap(path, kind, 'r', header.length, (count,)), excess
    except (OSError, ValueError) as error:
        raise CrossSpecError(f'{path} cannot be read ({error})') from error


def _looks_swapped(words: np.ndarray) -> bool:
    """Whether 64-bit words have their halves the other way round: cameras do, and old headers do not say so.

    Read in the right way, TIME_HIGH rises again and again; read in the other, what looks like it is a mask of pixels.
    """
    halves = np.array(words[:_LOOK]).view('<u4').reshape(-1, 2)
    steps = [np.sign(np.diff(half[half >> 28 == 8].astype(np.int64))) for half in halves.T]
    lower, upper = (int(np.count_nonzero(step > 0)) - 2 * int(np.count_nonzero(step < 0)) for step in steps)
    return lower > upper


class PacketDecoder:
    """Packets of one stream to pieces: events, the triggers that came with them, and the monitors of evt3."""

    def __init__(self, encoding: str, width: int, height: int) -> None:
        self._decoder = Decoder(encoding, width, height)
        self._monitors = evt3_stream.MonitorReader() if encoding == 'evt3' else None

    @property
    def dropped(self) -> Counter[str]:
        """What was dropped so far, by cause."""
        return Counter({cause: count for cause, count in self._decoder.dropped.items() if count})

    def piece(self, packet: Packet) -> Piece:
        """What a packet holds."""
        before = self._decoder.trigger_count
        events = self._decoder.decode(packet)
        found = self._decoder.trigger_count - before
        triggers = self._decoder.triggers[-found:] if found else []
        monitors = NONE
        if self._monitors is not None and packet.encoding == 'evt3':
            payload = np.ascontiguousarray(packet.payload[:len(packet.payload) // 2 * 2])
            monitors = self._monitors.read(payload.view('>u2' if packet.is_bigendian else '<u2').astype(np.uint16))
        return Piece(events, _rows(triggers), monitors)

    def finish(self) -> Piece:
        """What only the end of the stream tells."""
        from crossspec_ros.events.types import Events
        monitors = self._monitors.finish() if self._monitors is not None else NONE
        return Piece(Events.empty(self._decoder.width, self._decoder.height), NONE, monitors)


def _rows(triggers: list[Trigger]) -> np.ndarray:
    return columns([tuple(trigger) for trigger in triggers]) if triggers else NONE


class RawWriter:
    """Writes a RAW file; an ``EventWriter``. ``header`` is that of a file whose words are written again, or ''."""

    def __init__(self, path: Path, encoding: str, width: int, height: int, header: str = '') -> None:
        version, name = NAMES[encoding]
        same = header and read_header(header.encode('latin-1'))
        if not same or same.encoding != encoding or encoding == 'evt21' or same.length != len(header):
            # As the maker's cameras write EVT2.1: some readers know it in no other order.
            order = ';endianness=legacy' if encoding == 'evt21' else ''
            header = (f'% evt {version}\n% format {name};height={height};width={width}{order}\n'
                      f'% geometry {width}x{height}\n% end\n')
        self.left_out: Counter[str] = Counter()
        if encoding == 'evt3':
            self._encode = evt3_stream.Evt3PieceEncoder(self.left_out).encode
        else:
            self._encode = Evt2Encoder(self.left_out, wide=encoding == 'evt21').encode
        self._file = open(path, 'wb')
        self._file.write(header.encode('latin-1'))

    def write(self, piece: Piece) -> None:
        words = self._encode(piece)
        self._file.write((words.view('<u4').reshape(-1, 2)[:, ::-1] if words.itemsize == 8 else words).tobytes())

    def write_payload(self, payload: np.ndarray) -> None:
        """Words as they are."""
        self._file.write(payload.tobytes())

    def close(self) -> None:
        self._file.close()
