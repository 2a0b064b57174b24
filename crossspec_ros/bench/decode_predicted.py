"""`crossspec bench decode --predict`: the ages that `speculation.age` foretells beside those that were measured.

Both are of one run: forwards, encoding and prefill are timed before the windows and after them, the tokens a pass and
the nodes of trees are those of the windows, and only the ages are foretold.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from crossspec_ros.bench.decode_schemes import Outcome, PlainGeneration, Speculation, Window
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.age import Method, Timing, expected_age_ms
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.costs import measure_costs, measure_stages

AHEAD = ('anticipatory', 'drafts', 'ours')
FUSED = ('fused', *AHEAD)
WHOLE = ('generate', 'plain')
"""Schemes that prefill frames as they come, that verify drafts in the last prefill, and that encode every frame after
the newest is there; the others have encoded all before it."""
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Times:
    """Of the target at one moment: ``costs_ms`` of forwards, and by stage from frames to the first token."""

    costs_ms: dict[int, float]
    encode_all_ms: float
    prefill_all_ms: float
    encode_ms: float

    @classmethod
    def measure(cls, target: TransformersTarget, window: Window) -> Times:
        """After the prompt of a window."""
        size = window.frames[0].shape[:2]
        layout = target.layout(window.prompt, len(window.frames), *size)
        stages = measure_stages(target, layout, *size)
        return cls(measure_costs(target, layout, _COUNTS, *size), stages.encode_all_ms, stages.prefill_all_ms,
                   stages.encode_ms)


def drafted(scheme: PlainGeneration | Speculation) -> tuple[int, int]:
    """(nodes, passes) that a scheme's engine has counted so far."""
    if isinstance(scheme, PlainGeneration):
        return 0, 0
    counts = scheme.engine.proposer.statistics()
    return counts['num_draft_tokens'], counts['num_passes']


def predicted(times: Sequence[Times], last_tokens: int, outcomes: Mapping[str, Sequence[Outcome]],
              nodes: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """By scheme the mean age foretold and measured, ms, and their ratio; prompt and assisted generation of transformers
    are left out: their drafts are not counted. ``nodes`` of a pass on the mean."""
    found = {}
    for name, rows in outcomes.items():
        if name in ('prompt_lookup', 'assisted'):
            continue
        age_ms = expected_age_ms(_timing(times, name, last_tokens), _method(name, rows, nodes[name]),
                                 fmean(row.emitted for row in rows))
        measured_ms = fmean(row.age_ms for row in rows)
        found[name] = {'predicted_ms': round(age_ms, 2), 'measured_ms': round(measured_ms, 2),
                       'ratio': round(age_ms / measured_ms, 3)}
    return found


def _timing(times: Sequence[Times], name: str, last_tokens: int) -> Timing:
    def mean(field: str) -> float:
        return fmean(getattr(one, field) for one in times)
    curve = CostCurve({count: fmean(one.costs_ms[count] for one in times) for count in times[0].costs_ms})
    encode_ms = mean('encode_all_ms') if name in WHOLE else mean('encode_ms')
    return Timing(curve, encode_ms + mean('prefill_all_ms'), mean('encode_ms'), last_tokens)


def _method(name: str, rows: Sequence[Outcome], nodes: float) -> Method:
    """What a scheme is in the model. Where the prefill is not fused its forward is a pass that says one token, and
    draws no nodes."""
    tokens, passes, windows = sum(row.emitted for row in rows), sum(row.passes for row in rows), len(rows)
    if name in FUSED:
        return Method(name, ahead=name in AHEAD, fused=True, tau=tokens / passes, nodes=nodes)
    later = max(1, passes - windows)
    return Method(name, ahead=False, tau=max(1.0, (tokens - windows) / later), nodes=nodes * passes / later)
