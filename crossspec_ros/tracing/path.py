"""The critical path of each window, read from a timeline: which stage the age of its caption went to.

Until the frame that settled the window's last slot is in the verifier's queue, the time goes to the camera, the
middleware and the callback; from then on to whatever the verifying thread did, and to waiting where it did nothing. The
stages of a window add up to the age of its caption.
"""
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from crossspec_ros.tracing.timeline import Event, Timeline

STAGES = {
    'camera': "from the window's end to the publication of the frame that settles its last slot",
    'transport': 'from there to its receipt by the middleware',
    'callback': 'from there until the node has put it into its queue, unpacking left out',
    'unpack': 'the message made into a picture',
    'settle': 'waiting for the last slot to be settled',
    'rehearsal': 'the verifier was still at something that can wait: a rehearsal, a question, an audit',
    'other window': 'the verifier was still at another window',
    'encode': 'frames through the vision tower',
    'prefill': 'frames through the decoder, before the first pass',
    'propose': 'trees of drafts',
    'first pass': 'the forward with the last frame, the question and the first tree',
    'later passes': 'forwards after the first',
    'accept': 'what a pass said: accepted, committed',
    'learn': 'what a pass said goes to the draft sources, before the next pass',
    'publish': 'verdicts and captions handed to the middleware',
    'garbage': 'collections of garbage in the verifying thread',
    'no core': 'the verifying thread was at work, but had no core: others did, or its other threads were awaited',
    'wait': 'the verifying thread did nothing, or what no slice tells',
}
"""Stages in the order in which they come."""

MONITOR = 'to the monitor'
_BUSY = {'rehearse', 'prepare', 'question', 'audit'}
_BY_NAME = {'encode': 'encode', 'prefill': 'prefill', 'propose': 'propose', 'accept': 'accept', 'commit': 'accept',
            'observe': 'learn', 'publish': 'publish', 'publish verdict': 'publish', 'unpack': 'unpack',
            'gc': 'garbage'}


@dataclass(frozen=True)
class Piece:
    """A stretch of a critical path, us of the timeline. ``busy``: the share in which the thread had a core; ``window``:
    the one that the work is for, where it is for one.
    """

    stage: str
    start_us: float
    end_us: float
    busy: float = 1.0
    window: int | None = None


@dataclass(frozen=True)
class WindowPath:
    """A window's way from its end to its caption; times in us of the timeline. ``monitor_ms``: from the publication to
    the monitor, None where it was not seen there. ``pid``: the verifier's process.
    """

    window_id: int
    pid: int
    pieces: tuple[Piece, ...]
    passes: int
    monitor_ms: float | None = None

    @property
    def age_ms(self) -> float:
        """The age of the caption."""
        return (self.pieces[-1].end_us - self.pieces[0].start_us) / 1000

    def stage_ms(self) -> dict[str, float]:
        """Milliseconds by stage, of all `STAGES`."""
        times = dict.fromkeys(STAGES, 0.0)
        for piece in self.pieces:
            length = (piece.end_us - piece.start_us) / 1000
            times[piece.stage] += length * piece.busy
            times['no core'] += length * (1.0 - piece.busy)
        return times


def critical_paths(timeline: Timeline) -> list[WindowPath]:
    """The path of each window with a final caption after its end, oldest first."""
    found = []
    heard = {(event['args']['window'], event['args']['stage']): event for event in timeline.slices('caption arrives')}
    finals = [event for event in timeline.slices('publish') if event.get('args', {}).get('stage') == 'FINAL']
    threads: dict[tuple[int, int], _Thread] = {}
    for final in finals:
        key = final['pid'], final['tid']
        if key not in threads:
            threads[key] = _Thread(timeline, *key)
        path = threads[key].path(final)
        if path is not None:
            found.append(_with_monitor(path, final, heard.get((path.window_id, 'FINAL'))))
    return found


def _with_monitor(path: WindowPath, final: Event, arrival: Event | None) -> WindowPath:
    if arrival is None:
        return path
    late_ms = (arrival['ts'] - final['ts'] - final['dur']) / 1000
    if arrival['ts'] >= final['ts']:                            # it may be there before the call has returned
        late_ms = max(late_ms, 0.0)
    return WindowPath(path.window_id, path.pid, path.pieces, path.passes, late_ms)


class _Thread:
    """What one verifying thread did, flat: at each moment the innermost slice."""

    def __init__(self, timeline: Timeline, pid: int, tid: int) -> None:
        self._pid = pid
        self._arrivals = sorted(timeline.slices('image arrives', pid), key=_end)
        self._arrived = [_end(event) for event in self._arrivals]
        self._unpacks = timeline.slices('unpack', pid)
        self._unpacked = [event['ts'] for event in self._unpacks]
        self._whole = {event['args']['window']: event['ts'] for event in timeline.instants('window whole', pid)}
        own = [event for event in timeline.events if event['ph'] == 'X' and (event['pid'], event['tid']) == (pid, tid)]
        self._pieces = list(flatten(own))
        self._starts = [piece.start_us for piece in self._pieces]

    def path(self, final: Event) -> WindowPath | None:
        """The path to this publication; None where it lies wholly before the window's end, or its start is not there.
        """
        args, out_us = final['args'], _end(final)
        end_us = final['ts'] - 1000 * args['age_ms']
        settled_us = self._whole.get(args['window'])
        if settled_us is None or out_us <= end_us:
            return None
        pieces = []
        place = bisect_right(self._arrived, settled_us) - 1
        ready_us = end_us
        if place >= 0:
            ready_us = self._arrived[place]
            pieces += self._on_the_way(self._arrivals[place])
        pieces += self._at_work(ready_us, settled_us, out_us)
        # A window may be answered before its end: its passes are counted from the first, though the age begins later.
        inside = tuple(_cut(piece, end_us, out_us) for piece in _named(pieces, args['window'])
                       if piece.end_us > end_us)
        return WindowPath(args['window'], self._pid, inside, int(args.get('passes', 0)))

    def _on_the_way(self, arrival: Event) -> Iterator[Piece]:
        """A frame's way from its camera to the end of its callback."""
        args, begin_us, end_us = arrival['args'], arrival['ts'], _end(arrival)
        received_us = begin_us - 1000 * max(args.get('since_received_ms') or 0.0, 0.0)
        sent_us = min(begin_us - 1000 * max(args.get('since_sent_ms') or 0.0, 0.0), received_us)
        yield Piece('camera', float('-inf'), sent_us)
        yield Piece('transport', sent_us, received_us)
        yield Piece('callback', received_us, begin_us)
        at_us = begin_us
        inside = slice(bisect_left(self._unpacked, begin_us), bisect_right(self._unpacked, end_us))
        for unpack in self._unpacks[inside]:
            if unpack['tid'] == arrival['tid'] and _end(unpack) <= end_us:
                yield Piece('callback', at_us, unpack['ts'])
                yield Piece('unpack', unpack['ts'], _end(unpack))
                at_us = _end(unpack)
        yield Piece('callback', at_us, end_us)

    def _at_work(self, start_us: float, settled_us: float, end_us: float) -> Iterator[Piece]:
        """What the thread did from then on; gaps are waits, for the slot to settle as long as that had not happened."""
        at_us = start_us
        for place in range(max(0, bisect_right(self._starts, start_us) - 1), len(self._pieces)):
            piece = self._pieces[place]
            if piece.start_us >= end_us:
                break
            if piece.end_us <= at_us:
                continue
            yield from _gap(at_us, piece.start_us, settled_us)
            yield _cut(piece, at_us, end_us)
            at_us = piece.end_us
        yield from _gap(at_us, end_us, settled_us)


def _end(event: Event) -> float:
    return event['ts'] + event['dur']


def _cut(piece: Piece, start_us: float, end_us: float) -> Piece:
    return replace(piece, start_us=max(piece.start_us, start_us), end_us=min(piece.end_us, end_us))


def _gap(start_us: float, end_us: float, settled_us: float) -> Iterator[Piece]:
    if start_us < min(end_us, settled_us):
        yield Piece('settle', start_us, min(end_us, settled_us))
    if max(start_us, settled_us) < end_us:
        yield Piece('wait', max(start_us, settled_us), end_us)


def _named(pieces: Sequence[Piece], window_id: int) -> Iterator[Piece]:
    """Work for other windows told as such, and forwards of the target told apart: the first pass, and the later ones.
    """
    passes, before = 0, None
    for piece in pieces:
        if piece.window not in (None, window_id):
            piece = replace(piece, stage='other window')
        elif piece.stage.startswith('verify'):
            passes += piece.stage != before
            before = piece.stage
            piece = replace(piece, stage='first pass' if passes == 1 else 'later passes')
        yield piece


def flatten(slices: Sequence[Event]) -> Iterator[Piece]:
    """Slices of one thread, sorted, those that hold others first, as pieces that do not overlap: the innermost counts.

    Slices of a thread are nested; one that reaches out of the slice that holds it is cut.
    """
    edges: list[tuple[float, int, int]] = []
    for place, event in enumerate(slices):
        edges += [(event['ts'], 1, place), (_end(event), 0, place)]
    edges.sort(key=lambda edge: (edge[0], edge[1], edge[2] if edge[1] else -edge[2]))
    busy = _busy_shares(slices)
    open_: list[int] = []
    for (start_us, opens, place), (end_us, _, _) in pairwise([*edges, (float('inf'), 0, -1)]):
        if opens:
            open_.append(place)
        elif place in open_:
            open_.remove(place)
        if open_ and start_us < end_us:
            holding = [slices[each] for each in open_]
            stage = _stage(holding, open_[-1])
            window = next((event['args']['window'] for event in holding if event['name'] in ('answer', 'feed')), None)
            yield Piece(stage, start_us, end_us, 1.0 if stage == 'garbage' else busy[open_[-1]], window)


def _stage(holding: Sequence[Event], place: int) -> str:
    name = holding[-1]['name']
    if name != 'gc' and any(event['name'] in _BUSY for event in holding):
        return 'rehearsal'
    if name == 'verify':
        return f'verify {place}'                                # told apart by `_named`
    return _BY_NAME.get(name, 'wait')


def _busy_shares(slices: Sequence[Event]) -> list[float]:
    """By slice: the share of its time, what it holds left out, in which the thread had a core."""
    walls = [event['dur'] for event in slices]
    cores = [event.get('tdur', event['dur']) for event in slices]
    open_: list[int] = []
    for place, event in enumerate(slices):
        while open_ and _end(slices[open_[-1]]) <= event['ts']:
            open_.pop()
        if open_:
            walls[open_[-1]] -= event['dur']
            cores[open_[-1]] -= event.get('tdur', event['dur'])
        open_.append(place)
    return [min(1.0, max(0.0, core / wall)) if wall > 0 else 1.0 for wall, core in zip(walls, cores)]


def track(timeline: Timeline, paths: Sequence[WindowPath]) -> list[Event]:
    """The paths as a process of their own, for the timeline: a slice a window, its stages in it. Windows whose paths
    overlap have rows of their own.
    """
    pid = max((event['pid'] for event in timeline.events), default=0) + 1
    events: list[Event] = [{'name': 'process_name', 'ph': 'M', 'pid': pid, 'tid': pid, 'args': {'name': 'windows'}},
                           {'name': 'process_sort_index', 'ph': 'M', 'pid': pid, 'tid': pid,
                            'args': {'sort_index': -1}}]
    rows: list[float] = []
    for path in paths:
        start_us, end_us = path.pieces[0].start_us, path.pieces[-1].end_us
        row = next((place for place, free_us in enumerate(rows) if free_us <= start_us), len(rows))
        if row == len(rows):
            rows.append(0.0)
            events.append({'name': 'thread_name', 'ph': 'M', 'pid': pid, 'tid': row + 1,
                           'args': {'name': 'critical path'}})
        rows[row] = end_us
        events.append(_slice(f'window {path.window_id}', pid, row + 1, start_us, end_us,
                             {'age_ms': round(path.age_ms, 3), 'passes': path.passes}))
        events += [_slice(piece.stage, pid, row + 1, piece.start_us, piece.end_us) for piece in path.pieces]
    return events


def _slice(name: str, pid: int, tid: int, start_us: float, end_us: float, args: dict[str, Any] | None = None) -> Event:
    start_us = max(start_us, 0.0)                               # the timeline may begin amid a window
    event = {'name': name, 'ph': 'X', 'pid': pid, 'tid': tid, 'ts': round(start_us, 3),
             'dur': round(max(end_us - start_us, 0.0), 3)}
    return event | ({'args': args} if args else {})
