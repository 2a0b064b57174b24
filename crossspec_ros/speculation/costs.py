"""What a forward of the target costs by the number of its new tokens, measured after a real prompt."""
from __future__ import annotations

from collections.abc import Sequence
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
        base, costs = cache.length, {}
        for count in sorted(counts):
            tokens, chain = target.embed([token] * count), TokenTree.chain([token] * (count - 1))
            times = []
            for _ in range(repeats):
                start = perf_counter_ns()
                target.verify(cache, tokens, chain, (token,))
                times.append((perf_counter_ns() - start) / 1e6)
                cache.truncate(base)
            costs[count] = median(times)
        return costs
    finally:
        target.release(cache)


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
