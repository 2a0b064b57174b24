"""Milliseconds of the 7B pair, modelled from its recorded stage times: tokens a pass carry over, milliseconds do not.

A forward over n tokens costs one recorded decode step and n times the recorded prefill of a prompt token, as in
`bench.traces`; the frames before the newest are prefilled by then.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from crossspec_ros.bench.traces import Layout, load_rows, step_costs
from crossspec_ros.errors import CrossSpecError

FILE = 'videollava_dsec_2s.json'
NO_TRACES = ('milliseconds of the 7B pair are not modelled: name the folder of its recorded stage times '
             f'({FILE}) with --traces')


@dataclass(frozen=True)
class Recorded7B:
    """Mean recorded times, ms: of what precedes the first pass, a decode step, one more token in a pass."""

    before_ms: float
    step_ms: float
    token_ms: float
    prefill_share: float

    def age_ms(self, trees: Sequence[int], draft_ms: float = 0.0) -> float:
        """Of a caption whose passes checked so many nodes each; the first tree is verified with the prefill."""
        first, *later = trees
        return self.before_ms + first * self.token_ms + draft_ms + sum(
            self.step_ms + (nodes + 1) * self.token_ms for nodes in later)


def recorded_7b(folder: str) -> Recorded7B | None:
    """From a folder of traces; None for no folder. Raises CrossSpecError where the file is missing or has no times."""
    if not folder:
        return None
    layout, path = Layout(), Path(folder) / FILE
    rows = [row for row in load_rows(path) if row.stages_ms is not None]
    if not rows:
        raise CrossSpecError(f'{path} must have recorded stage times: name another folder with --traces, or none')
    load, preprocess, prefill, decode = (fmean(row.stages_ms[stage] for row in rows) for stage in range(4))
    newest = layout.newest_tokens / layout.prompt_tokens
    step, token = (fmean(step_costs(row, layout)[place] for row in rows) for place in range(2))
    return Recorded7B((load + preprocess) / layout.frames + newest * prefill, step, token,
                      prefill / (load + preprocess + prefill + decode))
