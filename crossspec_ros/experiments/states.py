"""States of drafter and verifier place by place, as adapters, early exits and losses learn from and are judged by.

Letters: N windows, T tokens of an answer, D width of the verifier's states, d of the drafter's, S visual tokens.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crossspec_ros.experiments.lab import Lab, Seen
from crossspec_ros.models.drafter import EventDrafter
from crossspec_ros.speculation.sources.heads import FINAL


@dataclass(frozen=True, eq=False)
class Places:
    """All places of some windows' answers: ``token_ids`` (P,), the verifier's ``states`` by layer (P, D), the drafter's
    ``hidden`` (P, d), from which each says the token of the place; ``lengths`` (N,) of the answers."""

    drives: tuple[str, ...]
    lengths: tuple[int, ...]
    token_ids: torch.Tensor
    states: dict[int, torch.Tensor]
    hidden: torch.Tensor

    def by_window(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Values (P, ...) cut into windows."""
        return list(values.split(list(self.lengths)))


def places(lab: Lab, seen: Sequence[Seen]) -> Places:
    """Of these windows, along their true answers."""
    windows = [each.window for each in seen]
    states = torch.cat([window.states for window in windows])                                    # (P, K, D)
    return Places(tuple(window.drive for window in windows), tuple(len(window.token_ids) for window in windows),
                  torch.tensor([token for window in windows for token in window.token_ids]),
                  {layer: states[:, lab.place(layer)] for layer in lab.layers},
                  torch.cat([drafter_states(lab.drafter, each, lab.settings.prompt) for each in seen]))


@torch.inference_mode()
def visual_tokens(drafter: EventDrafter, seen: Seen) -> torch.Tensor:
    """(1, S, d) of what the drafter was shown."""
    return drafter.encoder(torch.from_numpy(np.asarray(seen.look, np.float32))[None])


@torch.inference_mode()
def drafter_states(drafter: EventDrafter, seen: Seen, prompt: str) -> torch.Tensor:
    """(T, d): the drafter's states from which it would say each token after the true ones."""
    question = drafter.question_ids(prompt)
    rows = torch.tensor([drafter.rows_of([*question, *seen.window.token_ids[:-1]])])
    return drafter.continue_from(visual_tokens(drafter, seen), rows)[0, len(question) - 1:]


def ridge(inputs: torch.Tensor, outputs: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """Least squares with a constant: weights (d + 1, D) of inputs (P, d) to outputs (P, D)."""
    known = _with_one(inputs).double()
    square = known.T @ known + strength * torch.eye(known.shape[1], dtype=torch.float64)
    return torch.linalg.solve(square, known.T @ outputs.double()).float()


def apply_ridge(weights: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Outputs (P, D)."""
    return _with_one(inputs) @ weights


def _with_one(inputs: torch.Tensor) -> torch.Tensor:
    return torch.cat((inputs, inputs.new_ones(len(inputs), 1)), 1)


def said_right(lab: Lab, states: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    """Bool (P,): whether the verifier's words of these last states (P, D) are the tokens (P,)."""
    return lab.words(states).argmax(-1) == token_ids


__all__ = ['FINAL', 'Places', 'apply_ridge', 'drafter_states', 'places', 'ridge', 'said_right', 'visual_tokens']
