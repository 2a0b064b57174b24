"""What a drafter and the process that learns for it send each other.

Apart from `pipeline.learning`, so that the process needs nothing of events. Letters: C bins, H, W the voxel grid.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from crossspec_ros.config import OnlineConfig
from crossspec_ros.models.drafter import DrafterConfig, EventDrafter

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Heard:
    """A verified window: the ``prompt`` that was asked, what was seen of it, and what the verifier said.

    ``looks`` float16 (2, C, H, W): before the window's end, and at it. ``token_ids`` have no end token.
    """

    window_id: int
    prompt: str
    looks: NDArray[np.float16]
    token_ids: tuple[int, ...]
    verifier_key: str = ''

    @property
    def nbytes(self) -> int:
        """Memory that it takes, about."""
        return self.looks.nbytes + 8 * len(self.token_ids)


@dataclass(frozen=True, eq=False)
class Begin:
    """To the process: the drafter to begin with, and how to learn."""

    settings: OnlineConfig
    config: DrafterConfig
    tokenizer: str
    weights: Weights
    generation: int

    def drafter(self) -> EventDrafter:
        """The drafter."""
        return with_weights(EventDrafter(self.config, Tokenizer.from_str(self.tokenizer)), self.weights)


@dataclass(frozen=True, eq=False)
class RolledBack:
    """To the process: an earlier drafter is active again."""

    weights: Weights
    generation: int


@dataclass(frozen=True, eq=False)
class Better:
    """From the process: weights that draft better; tokens a pass of both over the same ``windows``."""

    weights: Weights
    verifier_key: str
    generation: int
    tau_before: float
    tau_after: float
    windows: int


@dataclass(frozen=True)
class Report:
    """From the process: ``taken`` windows so far, figures, and why it cannot go on (empty: it does)."""

    taken: int = 0
    values: Mapping[str, int | float | str] = field(default_factory=dict)
    trouble: str = ''


def weights_of(drafter: EventDrafter) -> Weights:
    """Copies of a drafter's weights."""
    return {name: value.detach().float().cpu().numpy().copy() for name, value in drafter.state_dict().items()}


def with_weights(drafter: EventDrafter, weights: Weights) -> EventDrafter:
    """The drafter, with these weights, ready to draft."""
    drafter.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return drafter.eval()
