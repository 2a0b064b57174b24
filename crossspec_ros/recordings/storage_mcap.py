"""MCAP files, with or without index, summary and end, through the format's own library."""
from __future__ import annotations

import os
import struct
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Channel as McapChannel
from mcap.records import Chunk, Message, Schema
from mcap.reader import SeekingReader
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.summary import Summary
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.storages import CDR, NO_DEFINITION, Channel, Item, in_order, within

_FORMATS = {'ros2msg': MessageDefinitionFormat.MSG, 'ros1msg': MessageDefinitionFormat.MSG,
            'ros2idl': MessageDefinitionFormat.IDL, 'omgidl': MessageDefinitionFormat.IDL}
_COMPRESSIONS = ('', 'lz4', 'zstd')
_RUN_BYTES = 4 << 20
# What the bytes of a damaged file make the library raise.
_DAMAGE = (McapError, struct.error, ValueError, RuntimeError, KeyError, OverflowError, MemoryError,
           zstandard.ZstdError)


@dataclass(frozen=True)
class _Piece:
    """A chunk (``length`` 0), or messages that stand in the file outside chunks: from ``offset``, ``length`` bytes."""

    offset: int
    length: int
    start_ns: int
    end_ns: int
    channels: frozenset[int]        # empty: not known


@dataclass
class _Contents:
    """What a file holds, from its summary or by reading through it."""

    schemas: dict[int, Schema]
    channels: dict[int, McapChannel]
    pieces: list[_Piece]
    counts: Counter[int]
    trouble: str = ''


class McapStorage:
    """One .mcap file. Without a summary that can be used it is read through once when it is opened.

    Of a file that ends amid a record the whole records are read, and ``trouble`` says so. Raises CrossSpecError when
    nothing of it can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open('rb')
        self._lock = threading.Lock()                   # readers ahead have a thread of their own
        try:
            contents = _indexed(self._file) or _scanned(self._file, path)
        except BaseException:
            self.close()
            raise
        self.trouble = contents.trouble
        self._pieces = contents.pieces
        self._ids = tuple(contents.channels)
        self.channels = tuple(_channel(channel, contents) for channel in contents.channels.values())
        filled = [piece for piece in self._pieces if piece.end_ns >= piece.start_ns]
        self.start_ns = min((piece.start_ns for piece in filled), default=0)
        self.end_ns = max((piece.end_ns for piece in filled), default=0)

    def close(self) -> None:
        self._file.close()

    def messages(self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None) -> Iterator[Item]:
        numbers = {self._ids[number]: number for number in wanted}
        parts = [(piece.start_ns, lambda piece=piece: self._read(piece, numbers, start_ns, stop_ns))
                 for piece in self._pieces
                 if (not piece.channels or piece.channels & numbers.keys())
                 and (start_ns is None or piece.end_ns >= start_ns) and (stop_ns is None or piece.start_ns < stop_ns)]
        return in_order(parts)

    def _read(self, piece: _Piece, numbers: dict[int, int], start_ns: int | None,
              stop_ns: int | None) -> Iterator[Item]:
        with self._lock:
            self._file.seek(piece.offset)
            try:
                if piece.length:
                    chunk = _as_chunk(self._file.read(piece.length))
                else:
                    chunk = next(StreamReader(self._file, skip_magic=True, emit_chunks=True).records)
                records = _unpacked(chunk)
            except (*_DAMAGE, StopIteration) as error:
                raise CrossSpecError(
                    f'{self.path} is damaged: its chunk at byte {piece.offset} cannot be read ({error}); '
                    'run "mcap recover FILE" for what is left, or record it again') from error
        found = [(numbers[record.channel_id], record.log_time, record.data) for record in records
                 if isinstance(record, Message) and record.channel_id in numbers
                 and within(record.log_time, start_ns, stop_ns)]
        return iter(sorted(found, key=lambda item: item[1]))


def _as_chunk(data: bytes) -> Chunk:
    return Chunk(compression='', data=data, message_end_time=0, message_start_time=0, uncompressed_crc=0,
                 uncompressed_size=len(data))


def _unpacked(chunk: object) -> list[object]:
    """Records of a chunk; McapError on an unknown compression, ValueError where its check sum is another."""
    if not isinstance(chunk, Chunk):
        raise McapError(f'the index promises a chunk, there is a {type(chunk).__name__}')
    if chunk.compression not in _COMPRESSIONS:
        raise McapError(f'its compression {chunk.compression!r} is unknown; known are lz4 and zstd')
    return breakup_chunk(chunk, validate_crc=True)


def _channel(channel: McapChannel, contents: _Contents) -> Channel:
    schema = contents.schemas.get(channel.schema_id)
    encoding = schema.encoding if schema else ''
    definition = (MessageDefinition(_FORMATS[encoding], schema.data.decode('utf-8', 'replace'))
                  if schema and encoding in _FORMATS else NO_DEFINITION)
    serialisation = channel.message_encoding or (CDR if encoding.startswith('ros2') else 'unknown')
    name = schema.name if schema else ''
    package, slash, rest = name.partition('/')
    if slash and '/' not in rest:                       # sensor_msgs/Image, as ROS 1 and some writers name it
        name = f'{package}/msg/{rest}'
    return Channel(channel.topic, name, serialisation, definition, contents.counts[channel.id])


def _indexed(file: BinaryIO) -> _Contents | None:
    """The contents by the summary; None where there is none, or one that leaves something out."""
    try:
        file.seek(0)
        summary = SeekingReader(file).get_summary()
    except (*_DAMAGE, OSError):
        return None
    if summary is None or not _is_whole(summary, os.fstat(file.fileno()).st_size):
        return None
    pieces = [_Piece(index.chunk_start_offset, 0, index.message_start_time, index.message_end_time,
                     frozenset(index.message_index_offsets)) for index in summary.chunk_indexes]
    return _Contents(summary.schemas, summary.channels, pieces, Counter(summary.statistics.channel_message_counts))


def _is_whole(summary: Summary, size: int) -> bool:
    statistics = summary.statistics
    if statistics is None or statistics.chunk_count != len(summary.chunk_indexes):
        return False
    counts = statistics.channel_message_counts
    if statistics.message_count and not summary.chunk_indexes:
        return False                                    # messages outside chunks are in no index
    if statistics.message_count != sum(counts.values()) or not counts.keys() <= summary.channels.keys():
        return False
    if any(channel.schema_id and channel.schema_id not in summary.schemas for channel in summary.channels.values()):
        return False
    return all(index.chunk_start_offset + index.chunk_length <= size for index in summary.chunk_indexes)


class _Scan:
    """Gathers what the records of a file say, one after the other."""

    def __init__(self) -> None:
        self.contents = _Contents({}, {}, [], Counter())
        self._run: list[tuple[int, int]] = []           # time and channel of messages outside chunks
        self._run_offset = self._run_end = 0

    def add(self, record: object, offset: int, end: int) -> None:
        """Note a record that stands in the file from ``offset`` to ``end``."""
        if isinstance(record, Chunk):
            self.end_run()
            inside = _unpacked(record)
            self._declare(inside)
            messages = [item for item in inside if isinstance(item, Message)]
            self._note(offset, 0, [(item.log_time, item.channel_id) for item in messages])
        elif isinstance(record, Message):
            if not self._run:
                self._run_offset = offset
            self._run.append((record.log_time, record.channel_id))
            self._run_end = end
            if end - self._run_offset >= _RUN_BYTES:
                self.end_run()
        else:
            self._declare([record])

    def end_run(self) -> None:
        """Close the run of messages outside chunks."""
        if self._run:
            self._note(self._run_offset, self._run_end - self._run_offset, self._run)
            self._run = []

    def _note(self, offset: int, length: int, messages: list[tuple[int, int]]) -> None:
        if messages:
            times = [time for time, _ in messages]
            self.contents.counts.update(channel for _, channel in messages)
            self.contents.pieces.append(_Piece(offset, length, min(times), max(times),
                                               frozenset(channel for _, channel in messages)))

    def _declare(self, records: list[object]) -> None:
        for record in records:
            if isinstance(record, Schema):
                self.contents.schemas[record.id] = record
            elif isinstance(record, McapChannel):
                self.contents.channels[record.id] = record


def _scanned(file: BinaryIO, path: Path) -> _Contents:
    """The contents by reading through the file, up to where it ends or cannot be read."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    scan, offset, records = _Scan(), 8, StreamReader(file, emit_chunks=True, record_size_limit=size).records
    trouble = ''
    try:
        for record in records:
            end = file.tell()
            scan.add(record, offset, end)
            offset = end
    except _DAMAGE as error:
        if isinstance(error, EndOfFile) or file.tell() >= size:
            trouble = (f'has no end: after byte {offset} of {size} no whole record follows; its recorder was stopped '
                       'hard, is still writing, or the copy was cut')
        else:
            trouble = f'is damaged at byte {offset} of {size} ({error}); "mcap recover FILE" may give what lies after'
    scan.end_run()
    contents = scan.contents
    if trouble and not contents.counts:
        raise CrossSpecError(f'{path} holds no message that can be read: it {trouble}; copy it or record it again')
    contents.trouble = trouble
    lost = contents.counts.keys() - contents.channels.keys()
    for number in lost:                                 # its declaration is gone: nobody can tell what it was
        contents.channels[number] = McapChannel(id=number, topic=f'(channel {number}, not declared)',
                                                message_encoding='unknown', metadata={}, schema_id=0)
    return contents
