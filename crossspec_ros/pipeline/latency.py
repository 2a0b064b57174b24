"""Latency and acceptance by window, from stamps alone; percentiles over the newest windows."""
from __future__ import annotations

import csv
import errno
import io
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage, Verdict

PERCENTILES = (50, 95, 99)


@dataclass
class WindowLatency:
    """One window; ages are publication minus window end, ms, NaN where not seen; stages are compute times, ms."""

    window_id: int
    window_end_ns: int
    first_draft_age_ms: float = math.nan
    draft_age_ms: float = math.nan
    first_partial_age_ms: float = math.nan
    caption_age_ms: float = math.nan
    draft_compute_ms: float = math.nan
    drafts: int = 0
    events_used: int = 0
    stage_ms: dict[str, float] = field(default_factory=dict)
    target_passes: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    mode: str = ''
    draft_text: str = ''
    caption_text: str = ''
    final: bool = False
    draft_over_budget: bool = False
    caption_over_budget: bool = False


class LatencyBook:
    """Collects what was published about windows and closes them one by one.

    A window is closed by its final caption or, without one, ``close_after_ms`` past its end. The draft's age is that of
    the last draft made from events alone: one that continues a verdict's prefix belongs to the verifier's time.
    """

    def __init__(self, max_draft_age_ms: float, max_caption_age_ms: float, statistics_windows: int,
                 close_after_ms: float) -> None:
        self.max_draft_age_ms, self.max_caption_age_ms = max_draft_age_ms, max_caption_age_ms
        self._keep, self._close_after_ms = statistics_windows, close_after_ms
        self.counts: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Time jumped back: open windows and sliding statistics go, counts stay."""
        self._open: OrderedDict[int, WindowLatency] = OrderedDict()
        self._closed: deque[int] = deque(maxlen=64)             # late messages do not open a window again
        self._ages: dict[str, deque[float]] = {name: deque(maxlen=self._keep) for name in ('draft', 'caption')}
        self._by_source: dict[str, deque[tuple[int, int]]] = {}
        self._lengths: deque[tuple[int, int]] = deque(maxlen=self._keep)

    def _window(self, window_id: int, window_end_ns: int) -> WindowLatency | None:
        if window_id in self._closed:
            return None
        return self._open.setdefault(window_id, WindowLatency(window_id, window_end_ns))

    def add_draft(self, draft: Draft, age_ms: float) -> None:
        """A draft was published at this age. One of a window that is closed, mostly by its final caption, only counts.
        """
        self.counts['drafts'] += 1
        window = self._window(draft.window_id, draft.window_end_ns)
        if window is None:
            self.counts['drafts_overtaken'] += 1
            return
        if math.isnan(window.first_draft_age_ms):
            window.first_draft_age_ms = age_ms
        window.drafts += 1
        window.events_used = draft.events_used
        if not draft.base_length:
            window.draft_text = draft.text
            window.draft_age_ms, window.draft_compute_ms = age_ms, draft.compute_ms

    def add_caption(self, caption: Caption, age_ms: float) -> WindowLatency | None:
        """A caption was published at this age; returns the window that it closes, if it does."""
        self.counts[f'captions_{caption.stage.name.lower()}'] += 1
        if caption.stage is Stage.STILL_VALID:                  # of a window that is not decoded
            return None
        window = self._window(caption.window_id, caption.window_end_ns)
        if window is None or caption.stage in (Stage.DRAFT, Stage.RETRACTED):
            return None
        if math.isnan(window.first_partial_age_ms):
            window.first_partial_age_ms = age_ms
        window.stage_ms, window.target_passes = dict(caption.stage_ms), caption.target_passes
        window.tokens, window.drafted, window.accepted = len(caption.token_ids), caption.drafted, caption.accepted
        window.mode, window.caption_text = caption.mode.value, caption.text
        if caption.stage is not Stage.FINAL:
            return None
        window.final, window.caption_age_ms = True, age_ms
        return self._close(window)

    def add_verdict(self, verdict: Verdict) -> None:
        """What a pass committed; the last verdict of a window counts for acceptance by source."""
        if not verdict.final:
            return
        for name in {*verdict.drafted, *verdict.accepted}:
            counts = self._by_source.setdefault(name, deque(maxlen=self._keep))
            counts.append((verdict.drafted.get(name, 0), verdict.accepted.get(name, 0)))

    def close_due(self, now_ns: int) -> list[WindowLatency]:
        """Close windows that will get no final caption any more; oldest first."""
        due = [window for window in self._open.values()
               if (now_ns - window.window_end_ns) / 1e6 > self._close_after_ms]
        return [self._close(window) for window in sorted(due, key=lambda window: window.window_id)]

    def close_all(self) -> list[WindowLatency]:
        """Close what is open: the end."""
        return [self._close(window) for window in list(self._open.values())]

    def _close(self, window: WindowLatency) -> WindowLatency:
        self._open.pop(window.window_id, None)
        self._closed.append(window.window_id)
        self.counts['windows'] += 1
        if not window.mode:
            window.mode = Mode.DRAFT_ONLY.value
        window.draft_over_budget = window.draft_age_ms > self.max_draft_age_ms
        window.caption_over_budget = window.caption_age_ms > self.max_caption_age_ms
        self.counts['windows_without_draft'] += not window.drafts
        self.counts['windows_without_final_caption'] += not window.final
        self.counts['draft_over_budget'] += window.draft_over_budget
        self.counts['caption_over_budget'] += window.caption_over_budget
        self.counts[f'mode_{window.mode}'] += 1
        for name, age_ms in (('draft', window.draft_age_ms), ('caption', window.caption_age_ms)):
            if not math.isnan(age_ms):
                self._ages[name].append(age_ms)
        if window.final:
            self._lengths.append((window.tokens + 1, window.target_passes))     # + 1: the end token is decoded too
        return window

    def percentiles(self, name: str) -> dict[str, float | None]:
        """p50, p95 and p99 of the age of 'draft' or 'caption', ms; None while there is none."""
        ages = self._ages[name]
        if not ages:
            return {f'p{q}': None for q in PERCENTILES}
        return {f'p{q}': float(value) for q, value in zip(PERCENTILES, np.percentile(list(ages), PERCENTILES))}

    def acceptance(self) -> dict[str, object]:
        """Over the newest windows, with vLLM's names; None while there is none."""
        drafted = {name: sum(pair[0] for pair in pairs) for name, pairs in self._by_source.items()}
        accepted = {name: sum(pair[1] for pair in pairs) for name, pairs in self._by_source.items()}
        tokens, passes = sum(pair[0] for pair in self._lengths), sum(pair[1] for pair in self._lengths)
        rates = {name: accepted[name] / count if count else None for name, count in drafted.items()}
        return {'mean_acceptance_length': tokens / passes if passes else None, 'num_draft_tokens': drafted,
                'num_accepted_tokens': accepted, 'draft_acceptance_rate': rates}

    def summary(self) -> dict[str, object]:
        """Everything for a report."""
        return {'windows': self.counts['windows'], 'drafts': self.counts['drafts'],
                'captions': self.counts['captions_final'], 'draft_age_ms': self.percentiles('draft'),
                'caption_age_ms': self.percentiles('caption'), 'acceptance': self.acceptance(),
                'counts': dict(self.counts)}


CSV_COLUMNS = ('window_id', 'window_end_ns', 'first_draft_age_ms', 'draft_age_ms', 'first_partial_age_ms',
               'caption_age_ms', 'draft_compute_ms', 'drafts', 'events_used', 'target_passes', 'tokens', 'drafted',
               'accepted', 'mode', 'draft_over_budget', 'caption_over_budget', 'stage_ms', 'draft_text', 'caption_text')


class LatencyCsv:
    """A row a window, written at once, so that a killed process leaves what it saw; each row is whole or absent."""

    def __init__(self, path: str | Path) -> None:
        """Raises CrossSpecError where the file cannot be written."""
        try:
            self._file = Path(path).open('wb', buffering=0)
        except OSError as error:
            raise CrossSpecError(f'csv_path must be writable, got {path}: {error.strerror}') from error
        self._end = 0
        self._write(CSV_COLUMNS)

    def write(self, window: WindowLatency) -> None:
        """Add a row; what was not seen is empty. Raises CrossSpecError where it finds no room; it is not there then."""
        self._write([_cell(getattr(window, name)) for name in CSV_COLUMNS])

    def _write(self, cells: Sequence[object]) -> None:
        row = io.StringIO(newline='')
        csv.writer(row).writerow(cells)
        data = row.getvalue().encode()
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, 'No space left on device')
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
                self._file.seek(self._end)
            raise CrossSpecError(f'csv_path must have room for a row, got {error.strerror}; make room on its disk'
                                 ) from error
        self._end += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return '' if math.isnan(value) else f'{value:.3f}'
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return ' '.join(f'{name}={time_ms:.3f}' for name, time_ms in value.items())
    return value
