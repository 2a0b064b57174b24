"""From the record of a demo to the numbers of ``report.json``. Pure functions."""
from __future__ import annotations

import dataclasses
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from crossspec_ros.cores import cores
from crossspec_ros.speculation.types import Mode
from crossspec_ros.view.record import Recorder, WindowRecord

DEFINITIONS = {
    'windows': 'windows for which anything was published',
    'drafts': 'of these, windows with at least one draft; draft_messages counts every revision',
    'captions': 'of these, windows with a final, verified caption; caption_messages counts partial ones too',
    'draft_age_ms': 'publication of the last draft minus the end of its window, in the ROS clock, seen by the monitor',
    'first_draft_age_ms': 'the same for the first draft of a window; below 0: there before the window ended',
    'caption_age_ms': 'publication of the final caption minus the end of its window',
    'first_draft_ms': 'from the start of the stream to the first draft',
    'tau': 'tokens of the final captions (end tokens included) per forward of the target',
    'acceptance': 'draft tokens checked and accepted by the target, with the names vLLM uses; per_source: who drafted',
    'inputs': 'of each camera, by the node that reads it: age (ms since the stamp) of its messages at the end of each '
              'stage; received = used + waiting + dropped by cause; lost: numbers missing between those received; '
              'deadlines_missed: QoS deadlines; gaps_missed: gaps above deadline_ms where no publisher offers one',
    'critical_path': 'with --trace: the stages that the age of a caption went to, read from the timeline; they add up '
                     'to it. bars: means of the windows around a percentile of age (p50: the fifth in the middle; '
                     'p99: the slowest of a hundred, one at least)',
    'audit': 'windows decoded again without drafts after the live part, and how many gave other tokens',
    'rss_mb': 'largest resident set of a process, MB (1e6 bytes)',
}


def percentiles(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """p50, p95, p99 of the values that are there, and how many; None where there is none."""
    kept = [value for value in values if value is not None]
    if not kept:
        return {'p50': None, 'p95': None, 'p99': None, 'n': 0}
    p50, p95, p99 = (round(float(value), 2) for value in np.percentile(kept, (50, 95, 99)))
    return {'p50': p50, 'p95': p95, 'p99': p99, 'n': len(kept)}


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def acceptance(windows: Sequence[WindowRecord]) -> dict[str, Any]:
    """Draft tokens checked and accepted over all finally captioned windows, in all and by source."""
    drafted: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    passes = tokens = 0
    done = [window for window in windows if window.caption is not None]
    for window in done:
        passes += window.caption.target_passes
        tokens += len(window.caption.token_ids) + 1                   # and the end token, which the target says too
        if window.verdict is not None:
            drafted.update(window.verdict.drafted)
            accepted.update(window.verdict.accepted)
    num_drafted = sum(window.caption.drafted for window in done)
    num_accepted = sum(window.caption.accepted for window in done)
    return {
        'num_drafts': passes, 'num_draft_tokens': num_drafted, 'num_accepted_tokens': num_accepted,
        'draft_acceptance_rate': _rate(num_accepted, num_drafted),
        'mean_acceptance_length': round(tokens / passes, 3) if passes else None,
        'tau': round(tokens / passes, 3) if passes else None,
        'per_source': {name: {'num_draft_tokens': drafted[name], 'num_accepted_tokens': accepted[name],
                              'draft_acceptance_rate': _rate(accepted[name], drafted[name])}
                       for name in sorted(drafted)},
    }


def mode_of(windows: Sequence[WindowRecord]) -> str | None:
    """The mode most windows had: that of the caption, or draft_only where there was none."""
    modes = Counter(window.caption.mode.value if window.caption else Mode.DRAFT_ONLY.value
                    for window in windows if window.caption or window.drafts)
    return modes.most_common(1)[0][0] if modes else None


def hardware() -> dict[str, Any]:
    """The machine that the figures belong to."""
    cpu = platform.processor() or platform.machine()
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            cpu = next((line.split(':', 1)[1].strip() for line in file if line.startswith('model name')), cpu)
    except OSError:
        pass
    return {'cpu': cpu, 'cores': cores(), 'system': f'{platform.system()} {platform.machine()}',
            'python': platform.python_version()}


def window_entry(window: WindowRecord) -> dict[str, Any]:
    """One window for the list in the report."""
    latency, caption, draft = window.latency, window.caption, window.draft
    return {
        'window_id': window.window_id, 'end_ns': window.window_end_ns,
        'draft': draft.text if draft else None, 'draft_revisions': len(window.drafts),
        'other_verifier': bool(draft and draft.other_verifier),
        'events_used': draft.events_used if draft else None,
        'caption': caption.text if caption else None, 'mode': caption.mode.value if caption else Mode.DRAFT_ONLY.value,
        # The monitor has closed the window when a draft comes after the final caption: then the receiver's age counts.
        'first_draft_age_ms': _first(latency.first_draft_age_ms if latency else None, window.draft_age_ms),
        'draft_age_ms': _first(latency.draft_age_ms if latency else None, window.draft_age_ms),
        'caption_age_ms': _first(latency.caption_age_ms if latency else None, window.caption_age_ms),
        'target_passes': caption.target_passes if caption else None,
        'tokens': len(caption.token_ids) if caption else None,
        'drafted': caption.drafted if caption else None, 'accepted': caption.accepted if caption else None,
        'accepted_by_source': dict(window.verdict.accepted) if window.verdict else {},
        'stage_ms': {name: round(value, 2) for name, value in caption.stage_ms.items()} if caption else {},
    }


def _first(*values: float | None) -> float | None:
    return next((round(value, 2) for value in values if value is not None), None)


def summarise(record: Recorder) -> dict[str, Any]:
    """The part of the report that comes from the topics."""
    windows = [window for window in record.ordered() if window.drafts or window.newest or window.caption]
    rows = [window.latency for window in windows if window.latency]
    entries = [window_entry(window) for window in windows]
    return {
        'windows': len(windows),
        'drafts': sum(bool(window.drafts) for window in windows),
        'draft_messages': sum(len(window.drafts) for window in windows),
        'captions': sum(window.final for window in windows),
        'caption_messages': sum(window.partials + window.final for window in windows),
        'draft_age_ms': percentiles(entry['draft_age_ms'] for entry in entries),
        'caption_age_ms': percentiles(entry['caption_age_ms'] for entry in entries),
        'first_draft_age_ms': percentiles(entry['first_draft_age_ms'] for entry in entries),
        'first_verified_words_age_ms': percentiles(row.first_partial_age_ms for row in rows),
        'draft_compute_ms': percentiles(row.draft_compute_ms for row in rows),
        'acceptance': acceptance(windows),
        'deadline_misses': {
            'draft': max((row.draft_deadline_misses for row in rows), default=0),
            'caption': max((row.caption_deadline_misses for row in rows), default=0),
            'draft_over_budget': sum(row.draft_over_budget for row in rows),
            'caption_over_budget': sum(row.caption_over_budget for row in rows)},
        'inputs': {key: dataclasses.asdict(camera) for key, camera in sorted(record.inputs.items())},
        'mode': mode_of(windows),
        'captions_by_window': entries,
    }
