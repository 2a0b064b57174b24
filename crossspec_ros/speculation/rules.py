"""From the name of an acceptance rule to the function the loop calls."""
from __future__ import annotations

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.acceptance import Accepted, accept_greedy, accept_gumbel
from crossspec_ros.speculation.lossy import LOSSY_RULES
from crossspec_ros.speculation.loop import Rule
from crossspec_ros.speculation.rejection import accept_rejection
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.tree import TokenTree

RULES = ('greedy', 'gumbel', 'rejection', *LOSSY_RULES)


def make_rule(config: EngineConfig) -> Rule:
    """The acceptance rule that the settings name: tree, logits, window id and position in, accepted tokens out.

    'greedy' and 'gumbel' give what the target alone would (its argmax, its own seeded sample); 'rejection' keeps the
    target's law, but the sample depends on the drafts; the others are lossy and say so in every caption. Raises
    `CrossSpecError` for an unknown name, or sampling values out of range.
    """
    if config.acceptance not in RULES:
        raise CrossSpecError(f'acceptance must be one of {", ".join(RULES)}, got {config.acceptance!r}')
    if config.acceptance == 'greedy':
        return lambda tree, logits, window_id, position: accept_greedy(tree, logits)
    if not config.temperature > 0:
        raise CrossSpecError(f'temperature must be > 0 for {config.acceptance}, got {config.temperature}')
    if config.top_k < 0 or not 0 < config.top_p <= 1:
        raise CrossSpecError(f'top_k must be >= 0 and top_p in (0, 1], got {config.top_k} and {config.top_p}')
    law = dict(temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
    if config.acceptance == 'gumbel':
        return lambda tree, logits, window_id, position: accept_gumbel(
            tree, logits, seed=config.seed, window_id=window_id, position=position, **law)
    if config.acceptance == 'rejection':
        return lambda tree, logits, window_id, position: accept_rejection(
            tree, logits, _generator(config.seed, window_id, position), **law)
    rule = LOSSY_RULES[config.acceptance]
    return lambda tree, logits, window_id, position: rule(tree, logits, temperature=config.temperature)


def _generator(seed: int, window_id: int, position: int) -> torch.Generator:
    """One stream of random numbers a pass, so that a window's caption can be made again."""
    mixed = hash((seed, window_id, position)) & (2**63 - 1)
    return torch.Generator().manual_seed(mixed)
