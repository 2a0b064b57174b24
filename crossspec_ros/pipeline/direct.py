"""A recording through the drafter's and the verifier's own code, with no middleware and no clock but its stamps.

What comes out depends on the recording, the models and the seed alone: how long anything took is measured, and changes
nothing. The order is that of the recording: a window is drafted when its events are there, and answered when its
frames are.
"""
from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.slots import Frame
from crossspec_ros.pipeline.drafting import DraftingPipeline, DraftJob
from crossspec_ros.pipeline.qualifying import QualifyingPipeline
from crossspec_ros.pipeline.verifying import VerifyingPipeline
from crossspec_ros.recordings.replay import ReplayMessage
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage, Verdict
from crossspec_ros.timing.window import WindowGrid

logger = logging.getLogger(__name__)

_DRAFTING_LOSSES = {'windows_skipped', 'drafts_given_up', 'time_went_back', 'buffer_overflow'}
_VERIFYING_LOSSES = {'frames_overflow', 'frames_late', 'frames_damaged', 'time_went_back'}


class ComputeTimes:
    """Compute times in ms by what was computed."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}

    def add(self, name: str, elapsed_ms: float) -> None:
        """Note one."""
        self._samples.setdefault(name, []).append(elapsed_ms)

    def table(self) -> dict[str, dict[str, float]]:
        """``{name: {count, mean, p50, p95, p99, max}}``, ms."""
        return {name: {'count': len(values), 'mean': float(np.mean(values)),
                       **{f'p{q}': float(np.percentile(values, q)) for q in (50, 95, 99)}, 'max': max(values)}
                for name, values in self._samples.items()}


class DirectReplay:
    """Takes messages in the order they are due; ``on_line`` gets one dict a draft and one a final caption.

    Without a drafter captions come from the verifier alone, without a verifier there are drafts only. A qualifier
    speaks as soon as it can, and takes no time. Input that cannot be used is counted in ``dropped`` and warned of once
    a cause.
    """

    def __init__(self, drafting: DraftingPipeline | None, verifying: VerifyingPipeline | None, grid: WindowGrid,
                 on_line: Callable[[dict[str, Any]], None], qualifying: QualifyingPipeline | None = None) -> None:
        self.times = ComputeTimes()
        self.dropped: Counter[str] = Counter()
        self.drafted: set[int] = set()
        self.captioned: set[int] = set()
        self.captions = 0
        self.drafts = 0
        self.passes: Counter[str] = Counter()                   # of the verifier, and tokens that they emitted
        self.accepted: Counter[str] = Counter()                 # of these, by draft source
        self._drafting, self._verifying, self._grid = drafting, verifying, grid
        self._qualifying = qualifying
        self._on_line = on_line
        self._now_ns: int | None = None
        self._step_begin_ns = 0                                 # of the monotonic clock

    def run(self, messages: Iterable[ReplayMessage]) -> None:
        """Everything, and then time alone until the last window that holds something of it is settled."""
        for message in messages:
            self.take(message)
        if self._now_ns is None:
            return
        end_ns = self._grid.end_ns(self._grid.containing(self._now_ns)[-1]) + self._grid.interval_ns
        while self._now_ns < end_ns:
            self._now_ns += self._grid.interval_ns
            self._step()

    def take(self, message: ReplayMessage) -> None:
        """One message, and what becomes due with it."""
        self._now_ns = message.due_ns
        try:
            if message.role == 'events' and self._drafting is not None:
                self._drafting.account.receive()
                self._timed('decode', lambda: self._drafting.add_packet(message.data))
            elif message.role in ('image', 'compressed') and self._verifying is not None:
                frame = Frame(message.stamp_ns, lambda: self._timed('image', message.data.rgb))
                self._verifying.prepare(frame)
                self._verifying.account.receive()
                self._verifying.add_frame(frame)
                if self._qualifying is not None:
                    self._qualify(Frame(message.stamp_ns, frame.unpack))
            else:
                return
        except CrossSpecError as error:
            self._drop(f'{message.role}_refused', error)
        self._step()

    def _step(self) -> None:
        assert self._now_ns is not None
        self._step_begin_ns = time.perf_counter_ns()
        if self._drafting is not None:
            jobs = self._drafting.due(self._now_ns)
            for change in self._drafting.take_changes():
                if self._verifying is not None:
                    self._verifying.hear(change)
            for job in jobs:
                self._draft(job)
        if self._verifying is None:
            return
        self._verifying.advance(self._now_ns)
        while True:
            try:
                if not self._timed('frame', self._verifying.feed):
                    break
            except CrossSpecError as error:
                self._drop('frame_refused', error)
        while (window_id := self._verifying.ready()) is not None:
            self._answer(window_id)
        for caption in self._verifying.take_confirmed():
            self._on_line(confirmed_line(caption))

    def _draft(self, job: DraftJob) -> None:
        start = time.perf_counter_ns()
        draft = self._drafting.draft(job)
        if draft is None:
            return
        self.times.add('draft', (time.perf_counter_ns() - start) / 1e6)
        self.drafts += 1
        self.drafted.add(draft.window_id)
        # Drafts that follow a verdict depend on how many tokens a pass was given, and so on how fast the machine is.
        if not draft.base_length:
            self._on_line(draft_line(draft))
        self._offer(draft)

    def _offer(self, draft: Draft) -> None:
        if self._qualifying is not None:
            self._qualifying.offer(draft)
        if self._verifying is not None:
            self._verifying.offer(draft)

    def _qualify(self, frame: Frame) -> None:
        """Give the qualifier a frame, and the verifier what it says then."""
        self._qualifying.prepare(frame)
        self._qualifying.add_frame(frame, self._now_ns)
        self._qualifying.advance(self._now_ns)
        while self._qualifying.feed():
            pass
        while (window_id := self._qualifying.ready()) is not None:
            draft = self._timed('qualify', lambda window_id=window_id: self._qualifying.qualify(
                window_id, lambda: self._now_ns, lambda: False))
            if draft is not None:
                self.drafts += 1
                self._on_line(draft_line(draft))
                self._offer(draft)

    def _answer(self, window_id: int) -> None:
        start = time.perf_counter_ns()
        first = True
        try:
            for output in self._verifying.answer(window_id):
                if isinstance(output, Caption):
                    if first:
                        self.times.add('first words', (time.perf_counter_ns() - start) / 1e6)
                        first = False
                    if output.stage == Stage.FINAL:
                        self._final(output, (time.perf_counter_ns() - start) / 1e6)
                else:
                    self._heed(output)
        except CrossSpecError as error:
            self._drop('window_refused', error)

    def _heed(self, verdict: Verdict) -> None:
        if verdict.final:
            self.accepted.update(verdict.accepted)
        if self._qualifying is not None:
            self._qualifying.hear(verdict, self._now_ns)
        job = self._drafting.on_verdict(verdict) if self._drafting is not None else None
        if job is not None:
            self._draft(job)

    def _final(self, caption: Caption, elapsed_ms: float) -> None:
        self.passes.update(passes=caption.target_passes, tokens=len(caption.token_ids) + 1)     # + 1: the end token
        self.times.add('caption', elapsed_ms)
        for stage, stage_ms in caption.stage_ms.items():
            self.times.add(f'caption: {stage}', stage_ms)
        self.captions += 1
        self.captioned.add(caption.window_id)
        self._on_line(caption_line(caption))

    def _timed(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter_ns()
        result = call()
        if result is not False:                                 # a step that found nothing to do took no time
            self.times.add(name, (time.perf_counter_ns() - start) / 1e6)
        return result

    def _drop(self, cause: str, error: CrossSpecError) -> None:
        self.dropped[cause] += 1
        if self.dropped[cause] == 1:
            logger.warning('%s: %s', cause, error)

    @property
    def reached_ns(self) -> int:
        """The recording's time now: when the newest message was due, and what its step has taken so far."""
        return (self._now_ns or 0) + time.perf_counter_ns() - self._step_begin_ns

    @property
    def windows(self) -> set[int]:
        """Windows with a draft or a caption."""
        return self.drafted | self.captioned

    def lost(self) -> dict[str, int]:
        """All that came and was not used, by cause: refused input, late frames, windows given up, refused drafts."""
        lost = Counter(self.dropped)
        if self._drafting is not None:
            lost.update({cause: count for cause, count in self._drafting.statistics().items()
                         if cause.startswith('dropped_') or cause in _DRAFTING_LOSSES})
        if self._verifying is not None:
            lost.update({cause: count for cause, count in self._verifying.statistics().items()
                         if cause.startswith(('draft_', 'window_')) or cause in _VERIFYING_LOSSES})
        return {cause: count for cause, count in lost.items() if count}

    @property
    def mode(self) -> Mode:
        """What the captions come from."""
        if self._verifying is None:
            return Mode.DRAFT_ONLY
        return Mode.CROSS_MODAL if self._drafting is not None else Mode.VERIFIER_ONLY


def draft_line(draft: Draft) -> dict[str, Any]:
    """What a draft says, without how long it took."""
    return {'kind': 'draft', 'window_id': draft.window_id, 'window_end_ns': draft.window_end_ns,
            'source': draft.source, 'text': draft.text, 'token_ids': list(draft.token_ids),
            'events_used': draft.events_used}


def caption_line(caption: Caption) -> dict[str, Any]:
    """What a caption says, without how it was found: that is for the clock and the machine to decide."""
    return {'kind': 'caption', 'window_id': caption.window_id, 'window_end_ns': caption.window_end_ns,
            'text': caption.text, 'token_ids': list(caption.token_ids), 'lossless': caption.lossless,
            'acceptance_rule': caption.acceptance_rule, 'frame_stamps_ns': list(caption.frame_stamps_ns)}


def confirmed_line(caption: Caption) -> dict[str, Any]:
    """What is said of a window in which nothing changed."""
    return {'kind': 'still_valid', 'window_id': caption.window_id, 'window_end_ns': caption.window_end_ns,
            'text': caption.text, 'words_age_ms': caption.words_age_ms}
