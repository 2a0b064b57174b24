"""What the target's work on a window costs: forwards by their new tokens after a real prompt, encoding, prefill."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns

import numpy as np
import torch

from crossspec_ros.speculation.target import FrameGroup, Layout, Target
from crossspec_ros.speculation.tree import TokenTree

_REPEATS = 5


def measure_costs(target: Target, layout: Layout, counts: Sequence[int], height: int, width: int,
                  repeats: int = _REPEATS) -> dict[int, float]:
    """Milliseconds of a forward of n new tokens, a chain, for n in ``counts``, at the context length of the prompt.

    Also warms the target up: the first forwards of a process are several times slower. Raises `CrossSpecError` for a
    prompt that does not fit.
    """
    rows = iter(_frame_rows(target, layout, height, width))
    prompt = torch.cat([next(rows) if isinstance(segment, FrameGroup) else segment.rows
                        for segment in layout.segments])
    cache = target.new_cache(layout, layout.length + max(counts))
    token = target.eos_ids[0]
    try:
        target.extend(cache, prompt)
        base = cache.length
        times: dict[int, list[float]] = {count: [] for count in sorted(counts)}
        for _ in range(repeats):                                 # rounds, so that a busy moment is no one size's cost
            for count, taken in times.items():
                tokens, chain = target.embed([token] * count), TokenTree.chain([token] * (count - 1))
                start = perf_counter_ns()
                target.verify(cache, tokens, chain, (token,))
                taken.append((perf_counter_ns() - start) / 1e6)
                cache.truncate(base)
        return {count: median(taken) for count, taken in times.items()}
    finally:
        target.release(cache)


@dataclass(frozen=True)
class Stages:
    """Milliseconds from frames to the first token: ``encode_all_ms`` and ``prefill_all_ms`` of a whole window at once;
    ``encode_ms`` and ``prefill_ms`` of one group of frames as it comes, 0 where the target cannot do that."""

    encode_all_ms: float
    prefill_all_ms: float
    encode_ms: float
    prefill_ms: float


def measure_stages(target: Target, layout: Layout, height: int, width: int, repeats: int = 3) -> Stages:
    """Medians over frames of noise, after one trial each that is not counted. Raises as `measure_costs`."""
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    groups = layout.groups
    clip, ahead = [frame] * sum(group.frames for group in groups), target.abilities.anticipatory
    encoded = _median_ms(target, repeats, lambda: target.encode_all(layout, clip))
    rows = iter(target.encode_all(layout, clip))
    prompt = torch.cat([next(rows) if isinstance(segment, FrameGroup) else segment.rows
                        for segment in layout.segments])
    cache, last = target.new_cache(layout, layout.length), len(groups) - 1
    try:
        def prefilled(tokens: torch.Tensor, base: int) -> None:
            target.extend(cache, tokens)
            cache.truncate(base)
        whole = _median_ms(target, repeats, lambda: prefilled(prompt, 0))
        if not ahead:
            return Stages(encoded, whole, 0.0, 0.0)
        one = _median_ms(target, repeats, lambda: target.encode(layout, last, [frame] * groups[last].frames))
        before = layout.length - layout.last_tokens
        target.extend(cache, prompt[:before])
        group = prompt[before:before + groups[last].tokens]
        return Stages(encoded, whole, one, _median_ms(target, repeats, lambda: prefilled(group, before)))
    finally:
        target.release(cache)


def _median_ms(target: Target, repeats: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(repeats + 1):
        start = perf_counter_ns()
        work()
        _wait(target)
        times.append((perf_counter_ns() - start) / 1e6)
    return median(times[1:])


def _wait(target: Target) -> None:
    """Until the target's device has done what it was given."""
    device = getattr(target, 'device', None)
    if device is not None and device.type == 'cuda':
        torch.cuda.synchronize(device)


def _frame_rows(target: Target, layout: Layout, height: int, width: int) -> list[torch.Tensor]:
    """Rows of each group, from frames of noise."""
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if not target.abilities.anticipatory:
        return target.encode_all(layout, [frame] * sum(group.frames for group in layout.groups))
    rows: dict[int, torch.Tensor] = {}
    for place, group in enumerate(layout.groups):
        if group.tokens not in rows:
            for _ in range(2):
                rows[group.tokens] = target.encode(layout, place, [frame] * group.frames)
    return [rows[group.tokens] for group in layout.groups]
