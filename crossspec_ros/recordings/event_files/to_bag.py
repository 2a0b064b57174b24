"""Any source to a rosbag2, in segments that are whole, so that one that was stopped goes on where it was.

``OUT.partial`` holds the finished segments and their journal; ``OUT`` appears, whole, by one rename at the end. A
source gives the same messages each time it is asked: going on, what is done is read again and not written again.
"""
from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Packet
from crossspec_ros.recordings.bag import BagWriter, ImageFrame
from crossspec_ros.recordings.bag_edit import check_out, finish, partial_path
from crossspec_ros.recordings.journal import Journal
from crossspec_ros.recordings.replay import ReplayMessage, Source

SEGMENT_NS = 10_000_000_000
SEGMENT_BYTES = 4 << 20              # and not shorter than this: damaged times can span years
NOTE = 'crossspec_events'
EVENT_FRAME = 'event_camera'


@dataclass(frozen=True)
class Written:
    """What a conversion wrote in all, by role, and how many segments an earlier run had done."""

    messages: dict[str, int]
    seconds: float
    resumed_segments: int


def write_bag(source: Source, out: str | Path, *, storage: str = 'mcap', resume: bool = False,
              duration_s: float | None = None,
              made_of: Mapping[str, Any] | None = None, note: Mapping[str, Any] | None = None,
              segment_ns: int = SEGMENT_NS, segment_bytes: int = SEGMENT_BYTES,
              advance: Callable[[float], None] = lambda seconds: None) -> Written:
    """Write what a source gives; ``advance`` gets the recorded seconds done since its last call.

    ``made_of`` tells this work from another with the same ``out``; ``note`` is kept in the bag's metadata. Raises
    CrossSpecError where ``out`` exists, where ``OUT.partial`` does and ``resume`` is not given or it is of another
    work, and where the source has no end and no ``duration_s`` is given. What is done stays in ``OUT.partial``.
    """
    out = Path(out)
    check_out(out)
    partial = partial_path(out)
    if source.end_ns is None and duration_s is None:
        raise CrossSpecError(f'{source.name} has no end; say how much of it with --duration S')
    if partial.exists() and not resume:
        raise CrossSpecError(f'{partial} is left of a conversion that was stopped; go on with --resume, or remove it')
    known = {'source': source.name, 'topics': source.topics, 'storage': storage, 'duration_s': duration_s,
             'segment_ns': segment_ns, **(made_of or {})}
    journal = Journal(partial, json.loads(json.dumps(known)))
    resumed = len(journal.segments)
    writer = _Segments(source, journal, storage, dict(note or {}), (segment_ns, segment_bytes))
    try:
        last_ns = writer.run(None if duration_s is None else source.start_ns + round(duration_s * 1e9), advance)
    except BaseException:
        writer.abort()
        if not journal.segments:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if not journal.segments:
        shutil.rmtree(partial, ignore_errors=True)
        raise CrossSpecError(f'{source.name} has no message to write; nothing was made')
    finish([partial / f'segment_{number:05d}' for number in range(len(journal.segments))], out)
    counts: dict[str, int] = {}
    for segment in journal.segments:
        for role, count in segment['messages'].items():
            counts[role] = counts.get(role, 0) + count
    return Written(counts, (last_ns - source.start_ns) / 1e9, resumed)


class _Segments:
    """Cuts the stream of messages into bags of their own, each noted in the journal when it is whole."""

    def __init__(self, source: Source, journal: Journal, storage: str, note: dict[str, Any],
                 least: tuple[int, int]) -> None:
        self._source, self._journal, self._storage = source, journal, storage
        self._note, (self._segment_ns, self._segment_bytes) = note, least
        self._bag: BagWriter | None = None
        self._counts: dict[str, int] = {}
        self._stop_ns = self._bytes = 0
        self._last_ns = -1

    def run(self, until_ns: int | None, advance: Callable[[float], None]) -> int:
        """Write everything that is not done yet; gives the time of the last message."""
        done_ns = self._journal.segments[-1]['stop_ns'] if self._journal.segments else None
        last_ns = self._source.start_ns
        for message in self._source.messages(self._source.start_ns):
            if until_ns is not None and message.due_ns >= until_ns:
                break
            due_ns = max(message.due_ns, last_ns)
            advance((due_ns - last_ns) / 1e9)
            last_ns = due_ns
            if done_ns is None or due_ns >= done_ns:
                self._write(message, due_ns)
        self._finish_segment(last_ns + 1)
        return last_ns

    def _write(self, message: ReplayMessage, due_ns: int) -> None:
        # Never between two messages of one time: what is done is told by time alone.
        if self._bag is not None and due_ns >= self._stop_ns and due_ns > self._last_ns and (
                self._bytes >= self._segment_bytes):
            self._finish_segment(due_ns)
        self._last_ns = due_ns
        if self._bag is None:
            self._begin_segment(due_ns)
        assert self._bag is not None
        if message.cdr is not None:
            self._bag.write_cdr(message.topic, message.type, due_ns, message.cdr)
            self._bytes += len(message.cdr)
        elif isinstance(message.data, Packet):
            self._bag.write_packet(message.topic, due_ns, message.data, EVENT_FRAME)
            self._bytes += len(message.data.payload)
        elif isinstance(message.data, ImageFrame):
            self._bag.write_frame(message.topic, due_ns, message.data)
            self._bytes += len(message.data.data)
        else:
            raise CrossSpecError(f'{self._source.name}: a message of {message.topic} must be a Packet, an ImageFrame '
                                 'or bytes, '
                                 f'got {type(message.data).__name__}')
        self._counts[message.role] = self._counts.get(message.role, 0) + 1

    def _begin_segment(self, due_ns: int) -> None:
        since = (due_ns - self._source.start_ns) // self._segment_ns
        self._stop_ns = self._source.start_ns + (since + 1) * self._segment_ns
        folder = self._journal.folder / f'segment_{len(self._journal.segments):05d}'
        shutil.rmtree(folder, ignore_errors=True)
        self._bag = BagWriter(folder, self._storage)
        for topic, type_name in self._source.topics.items():
            self._bag.add_topic(topic, type_name)
        if self._note:
            self._bag.note(NOTE, json.dumps(self._note))

    def _finish_segment(self, stop_ns: int) -> None:
        if self._bag is not None:
            self._bag.close()
            self._bag = None
            self._journal.done({'stop_ns': stop_ns, 'messages': self._counts})
            self._counts, self._bytes = {}, 0

    def abort(self) -> None:
        """Leave the segment that is being written without metadata."""
        if self._bag is not None:
            self._bag.abort()
            self._bag = None
