"""A recorded drive as windows: the frames that the verifier would be given, the looks that the drafter would have.

Looks are made by the drafter's own pipeline, with a drafter in it that only keeps what it is shown; frames stand in
slots as the verifier's do. Which windows are learned from and which are held out is decided here, by time alone.
"""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossspec_ros.config import DrafterConfig, VerifierConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.slots import Frame, FrameSlots
from crossspec_ros.learn.settings import LearnConfig
from crossspec_ros.models.drafter import DraftTokens
from crossspec_ros.pipeline.drafting import DraftingPipeline
from crossspec_ros.pipeline.openings import RecentFrames
from crossspec_ros.recordings.replay import ReplayMessage, Source
from crossspec_ros.recordings.sources import open_source, role_of
from crossspec_ros.speculation.drafter import VoxelGrid

_log = logging.getLogger(__name__)
_NS = 1_000_000_000
_LEAST = 5                       # windows to learn from, and windows held out, of each drive
_WAIT_SPANS = 4                  # so many windows' lengths frames are held for events that may still come


@dataclass(frozen=True)
class Split:
    """A drive's time in two: windows that end by ``cut_ns`` are learned from, those that begin there are held out."""

    start_ns: int
    cut_ns: int
    stop_ns: int

    @property
    def hours(self) -> float:
        """Of what is learned from."""
        return (self.cut_ns - self.start_ns) / 3.6e12


@dataclass(frozen=True, eq=False)
class DriveWindow:
    """A whole window: frames RGB uint8 (H, W, 3) with their stamps, oldest first; looks float32 (L, C, H, W)."""

    window_id: int
    end_ns: int
    frames: tuple[np.ndarray, ...]
    stamps_ns: tuple[int, ...]
    looks: np.ndarray
    held: bool


class _Watcher:
    """Takes a drafter's place and keeps what it is shown."""

    tokenizer_key, verifier_key = '', ''

    def __init__(self, view: VoxelGrid) -> None:
        self.view = view
        self.seen: np.ndarray | None = None

    def draft(self, seen: np.ndarray, /, **asked: Any) -> DraftTokens:
        self.seen = np.array(seen)
        return DraftTokens((), (), (), '', 0.0)


def open_drive(config: LearnConfig, number: int) -> tuple[Source, Split]:
    """A drive's recording and its split. Raises CrossSpecError where it has no images, no events, no end, or is too
    short to hold anything out."""
    uri = config.bags[number]
    source = open_recording(config, number)
    try:
        if source.end_ns is None and not config.seconds:
            raise CrossSpecError(f'{uri} has no end: say how much of it with --seconds')
        return source, _split(config, uri, source)
    except BaseException:
        source.close()
        raise


def open_recording(config: LearnConfig, number: int) -> Source:
    """A drive's recording. Raises CrossSpecError where it has no images or no events."""
    uri = config.bags[number]
    source = open_source(uri, topics=config.topics or None)
    try:
        roles = {role_of(type_name) for type_name in source.topics.values()}
        if 'events' not in roles:
            raise CrossSpecError(f'{uri} must have events for the drafter to look at, its topics are '
                                 f'{", ".join(source.topics)}')
        if not roles & {'image', 'compressed'}:
            raise CrossSpecError(f'{uri} must have images for the verifier to caption, its topics are '
                                 f'{", ".join(source.topics)}')
        return source
    except BaseException:
        source.close()
        raise


def _split(config: LearnConfig, uri: str, source: Source) -> Split:
    grid, start_ns = config.grid(), source.start_ns
    stop_ns = start_ns + round(config.seconds * _NS) if config.seconds else source.end_ns
    if source.end_ns is not None:
        stop_ns = min(stop_ns, source.end_ns)
    split = Split(start_ns, stop_ns - round(config.held_out * (stop_ns - start_ns)), stop_ns)
    for what, count in zip(('learn from', 'hold out'), expected(config, split), strict=True):
        if count < _LEAST:
            needed_s = (_LEAST + 1) * grid.span_ns / _NS / config.held_out
            raise CrossSpecError(f'{uri} is too short: {(stop_ns - start_ns) / _NS:.1f} s have {max(0, count)} windows '
                                 f'to {what}, {_LEAST} are needed; record at least {needed_s:.0f} s')
    return split


def expected(config: LearnConfig, split: Split) -> tuple[int, int]:
    """About how many windows are learned from and held out."""
    grid = config.grid()
    learned = (split.cut_ns - split.start_ns - grid.span_ns) // grid.stride_ns
    return learned, (split.stop_ns - split.cut_ns) // grid.span_ns - 1


class DriveReader:
    """Windows of a drive from ``after`` on (None: all); ``counts`` says what could not be used, by cause."""

    def __init__(self, config: LearnConfig, split: Split, view: VoxelGrid, after: int | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._config, self._split, self._after = config, split, -1 if after is None else after
        self._grid = grid = config.grid()
        drafting, verifying = DrafterConfig(), VerifierConfig()
        self._watcher = _Watcher(view)
        self._drafting = DraftingPipeline(
            self._watcher, grid, 'looks', lead_ms=drafting.lead_ms, grace_ms=drafting.grace_ms,
            grace_max_ms=drafting.grace_max_ms, buffer_bytes=drafting.buffer_mb << 20,
            idle_ms=1000 * drafting.idle_s, synchronised=drafting.event_clock == 'synchronised')
        self._slots = FrameSlots(grid, round(verifying.frame_grace_ms * 1e6))
        self._recent = RecentFrames(grid.window_frames)
        self._looks: dict[int, dict[bool, np.ndarray]] = {}
        self._framed: dict[int, list[Frame]] = {}
        self._newest_look = -1

    @property
    def start_ns(self) -> int:
        """Where the recording has to be read from for the first window that is wanted."""
        if self._after < 0:
            return self._split.start_ns
        return max(self._split.start_ns, self._grid.end_ns(self._after) - 3 * self._grid.span_ns)

    def windows(self, source: Source) -> Iterator[DriveWindow]:
        """Whole windows in the order of time, until the drive's end."""
        now_ns = None
        for message in source.messages(self.start_ns):
            if message.due_ns >= self._split.stop_ns:
                break
            now_ns = message.due_ns
            self._take(message)
            yield from self._whole(now_ns)
        if now_ns is not None:
            yield from self._whole(now_ns + self._grid.span_ns)
        self.counts.update({'no_events': len(self._framed)} if self._framed else {})
        lost = self._drafting.statistics()
        self.counts.update({name: lost[name] for name in ('windows_skipped', 'buffer_overflow') if lost.get(name)})

    def _take(self, message: ReplayMessage) -> None:
        try:
            if message.role == 'events':
                self._drafting.account.receive()
                self._drafting.add_packet(message.data)
            elif message.role in ('image', 'compressed'):
                self._slots.add(Frame(message.stamp_ns, message.data.rgb))
        except CrossSpecError as error:
            self.counts[f'{message.role}_refused'] += 1
            if self.counts[f'{message.role}_refused'] == 1:
                _log.warning('%s refused: %s', message.role, error)

    def _whole(self, now_ns: int) -> Iterator[DriveWindow]:
        """Look at what is due now, and give the windows that are complete."""
        for job in self._drafting.due(now_ns):
            if self._kind(job.window_id) is not None or job.early:
                self._drafting.draft(job)
                self._looks.setdefault(job.window_id, {})[job.early] = self._watcher.seen
            self._newest_look = max(self._newest_look, job.window_id if not job.early else -1)
        for slot in self._slots.settle(now_ns):
            self._recent.add(slot.index, self._sound(slot.frame))
            if slot.index % self._grid.stride_frames == 0:
                self._frame(slot.index // self._grid.stride_frames, slot.index)
        for window_id in sorted(self._framed):
            looks = self._looks.get(window_id, {})
            if False in looks:
                yield self._made(window_id, looks)
            elif self._newest_look <= window_id and now_ns < self._grid.end_ns(window_id) + _WAIT_SPANS * \
                    self._grid.span_ns:
                break
            else:
                self.counts['no_events'] += 1
            del self._framed[window_id]
        self._looks = {key: value for key, value in self._looks.items() if key >= self._newest_look - 16}

    def _kind(self, window_id: int) -> bool | None:
        """Whether a window is held out; None: it is not wanted."""
        if window_id <= self._after:
            return None
        if self._grid.start_ns(window_id) < self._split.start_ns:
            return None
        if self._grid.end_ns(window_id) <= self._split.cut_ns:
            return False
        inside = self._split.cut_ns <= self._grid.start_ns(window_id) and self._grid.end_ns(
            window_id) <= self._split.stop_ns
        return True if inside and self._config.judged(window_id) else None

    def _sound(self, frame: Frame | None) -> Frame | None:
        try:
            if frame is not None:
                frame.unpack()
        except CrossSpecError as error:
            self.counts['frames_damaged'] += 1
            _log.info('a frame is damaged: %s', error)
            return None
        return frame

    def _frame(self, window_id: int, slot: int) -> None:
        """Note the frames of a window that ends with a slot, as the verifier takes them: gaps repeat what was before.
        """
        if self._kind(window_id) is None:
            return
        frames, own, _ = self._recent.window(slot)
        if 2 * len(own) < len(frames):
            self.counts['few_frames'] += 1
            return
        newest = next(frame for frame in frames if frame is not None)
        filled = []
        for frame in frames:
            newest = newest if frame is None else frame
            filled.append(newest)
        self._framed[window_id] = filled

    def _made(self, window_id: int, looks: dict[bool, np.ndarray]) -> DriveWindow:
        frames, final = self._framed[window_id], looks[False]
        return DriveWindow(
            window_id, self._grid.end_ns(window_id), tuple(frame.unpack() for frame in frames),
            tuple(frame.stamp_ns for frame in frames), np.stack([looks.get(True, final), final]),
            bool(self._kind(window_id)))
