"""States of drafter and verifier place by place, as adapters, early exits and losses learn from and are judged by.

Letters: N windows, T tokens of an answer, D width of the verifier's states, d of the drafter's, S visual tokens, L
layers of the drafter.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from crossspec_ros.experiments.lab import Lab, Seen
from crossspec_ros.models.drafter import EventDrafter
from crossspec_ros.speculation.sources.heads import FINAL


@dataclass(frozen=True, eq=False)
class Places:
    """All places of some windows' answers: ``token_ids`` (P,), the verifier's ``states`` by layer (P, D), the drafter's
    ``hidden`` (P, d), from which each says the token of the place, and ``fused`` (P, (L + 1) d) of all its layers;
    ``lengths`` (N,) of the answers."""

    drives: tuple[str, ...]
    lengths: tuple[int, ...]
    token_ids: torch.Tensor
    states: dict[int, torch.Tensor]
    hidden: torch.Tensor
    fused: torch.Tensor

    def by_window(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Values (P, ...) cut into windows."""
        return list(values.split(list(self.lengths)))


def places(lab: Lab, seen: Sequence[Seen], drafter: EventDrafter | None = None) -> Places:
    """Of these windows, along their true answers; ``drafter``: instead of the lab's."""
    drafter = drafter or lab.drafter
    windows = [each.window for each in seen]
    states = torch.cat([window.states for window in windows])                                    # (P, K, D)
    fused = torch.cat([drafter_states(drafter, each, lab.settings.prompt) for each in seen])
    return Places(tuple(window.drive for window in windows), tuple(len(window.token_ids) for window in windows),
                  torch.tensor([token for window in windows for token in window.token_ids]),
                  {layer: states[:, lab.place(layer)] for layer in lab.layers},
                  fused[:, -drafter.config.dim:].contiguous(), fused)


@contextmanager
def _watched(drafter: EventDrafter) -> Iterator[list[torch.Tensor]]:
    """What goes into the first layer, and what comes out of each."""
    found: list[torch.Tensor] = []
    hooks = [drafter.layers[0].register_forward_pre_hook(lambda _, given: found.append(given[0]))]
    hooks += [layer.register_forward_hook(lambda _, given, made: found.append(made[0])) for layer in drafter.layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def layer_states(drafter: EventDrafter, visual: torch.Tensor, rows: torch.Tensor) -> list[torch.Tensor]:
    """L + 1 of (B, T, d), of words (B, T) after visual tokens (B, S, d): what goes into the first layer, what comes out
    of each but the last, and the last states, from which words are said."""
    with _watched(drafter) as found:
        last = drafter.continue_from(visual, rows)
    return [*(states[:, visual.shape[1]:] for states in found[:-1]), last]


@torch.inference_mode()
def visual_tokens(drafter: EventDrafter, look: np.ndarray) -> torch.Tensor:
    """(1, S, d) of what the drafter was shown, (C, H, W)."""
    return drafter.encoder(torch.from_numpy(np.asarray(look, np.float32))[None])


@torch.inference_mode()
def drafter_states(drafter: EventDrafter, seen: Seen, prompt: str) -> torch.Tensor:
    """(T, (L + 1) d): the drafter's states of all layers at the places where it would say each token after the true
    ones; the last d are those that it says it from."""
    question = drafter.question_ids(prompt)
    rows = torch.tensor([drafter.rows_of([*question, *seen.window.token_ids[:-1]])])
    return torch.cat(layer_states(drafter, visual_tokens(drafter, seen.look), rows), -1)[0, len(question) - 1:]


def last_states(drafter: EventDrafter, seen: Seen, prompt: str) -> torch.Tensor:
    """(T, d): of those the ones that each token is said from."""
    return drafter_states(drafter, seen, prompt)[:, -drafter.config.dim:].contiguous()


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


__all__ = ['FINAL', 'Places', 'apply_ridge', 'drafter_states', 'last_states', 'layer_states', 'places', 'ridge',
           'said_right', 'visual_tokens']
