"""What a forward of the target costs by the number of its new tokens, measured behind a real prompt."""
from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter_ns

import numpy as np
import torch

from crossspec_ros.speculation.verifier import Verifier

_REPEATS = 5


def measure_costs(verifier: Verifier, prompt: str, frames: int, counts: Sequence[int], height: int,
                  width: int) -> dict[int, float]:
    """Milliseconds of a forward of n new tokens, a chain, for n in ``counts``, at the context length of the prompt.

    Also warms the target up: the first forwards of a process are several times slower. Raises `CrossSpecError` for a
    prompt that does not fit.
    """
    segments = verifier.segments(prompt, frames)
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    verifier.encode_frame(frame)
    features = verifier.encode_frame(frame)
    prefix = [verifier.embed(segments.prefix_ids)] if segments.prefix_ids else []
    embeds = torch.cat([*prefix, *[features] * frames, segments.closing, verifier.embed(segments.tail_ids)])
    cache = verifier.new_cache(embeds.shape[0] + max(counts))
    token = segments.tail_ids[-1]
    try:
        verifier.extend(cache, embeds)
        base, costs = cache.length, {}
        for count in sorted(counts):
            tokens = verifier.embed([token] * count)
            times = []
            for _ in range(_REPEATS):
                begin = perf_counter_ns()
                verifier.verify(cache, tokens, tuple(range(-1, count - 2)), count)
                times.append((perf_counter_ns() - begin) / 1e6)
                cache.truncate(base)
            costs[count] = median(times)
        return costs
    finally:
        verifier.release(cache)
