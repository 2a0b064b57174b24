"""Low-rank updates (LoRA, 2106.09685) of the linear layers of the event drafter's decoder.

Letters as in `experiments.pupils`.
"""
from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from crossspec_ros.models.drafter import EventDrafter

RANK = 8


class LowRank(nn.Module):
    """A weight (n, m) and a product of (n, rank) and (rank, m) beside it, which begins at zero."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.narrow = nn.Parameter(torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5)
        self.wide = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its update."""
        return weight + self.wide @ self.narrow


def with_low_rank(drafter: EventDrafter, seed: int, rank: int = RANK) -> tuple[EventDrafter, list[nn.Parameter]]:
    """A copy that says the same, and what of it may learn: the updates alone."""
    made = deepcopy(drafter).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in [part for part in made.layers.modules() if isinstance(part, nn.Linear)]:
            parametrize.register_parametrization(layer, 'weight', LowRank(layer.weight, rank))
    return made, [weight for name, weight in made.named_parameters() if name.endswith(('.narrow', '.wide'))]
