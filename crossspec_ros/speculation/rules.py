"""From the name of an acceptance rule to the function the loop calls."""
from __future__ import annotations

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.acceptance import Accepted, accept_greedy
from crossspec_ros.speculation.loop import Rule
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.tree import TokenTree


def make_rule(config: EngineConfig) -> Rule:
    """The acceptance rule that the settings name. Raises `CrossSpecError` for an unknown one."""
    if config.acceptance == 'greedy':
        return _greedy
    raise CrossSpecError(f'acceptance must be greedy, got {config.acceptance!r}')


def _greedy(tree: TokenTree, logits: torch.Tensor, window_id: int, position: int) -> Accepted:
    return accept_greedy(tree, logits)
