"""Losses between what the verifier thinks likely at a place and what the drafter does, by name.

Letters: P places, K likely tokens of a place, R rows of the drafter's words. The verifier's law is known at its K
likeliest tokens; what is left of it is spread over all rows.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_LEAST = 1e-4                   # of the law that is left over: no row is impossible

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (P, R), rows of the likely tokens (P, K), their probabilities (P, K)) -> (P,)."""


def target_probs(rows: Tensor, probs: Tensor, count: int) -> Tensor:
    """The verifier's law (P, ``count``) over the drafter's rows; tokens that share a row (the escape) add up."""
    left = (1.0 - probs.sum(-1, keepdim=True)).clamp(min=_LEAST)
    law = (left / count).expand(-1, count).clone()
    law.scatter_add_(-1, rows, probs)
    return law / law.sum(-1, keepdim=True)


def forward_kl(logits: Tensor, rows: Tensor, probs: Tensor) -> Tensor:
    """KL(target, draft) but for a constant, over the likely tokens: what the target may say must be likely.

    Hinton et al., Distilling the knowledge in a neural network, 2015; DistillSpec (2310.08461).
    """
    weights = probs / probs.sum(-1, keepdim=True)
    return -(torch.log_softmax(logits, -1).gather(-1, rows) * weights).sum(-1)


def reverse_kl(logits: Tensor, rows: Tensor, probs: Tensor) -> Tensor:
    """KL(draft, target): what the drafter says must be likely for the target (MiniLLM, 2306.08543)."""
    draft_log = torch.log_softmax(logits, -1)
    target_log = target_probs(rows, probs, logits.shape[-1]).log()
    return (draft_log.exp() * (draft_log - target_log)).sum(-1)


def total_variation(logits: Tensor, rows: Tensor, probs: Tensor) -> Tensor:
    """Half the sum of differences: one minus the chance that a sampled draft token is accepted (2211.17192, eq. 3)."""
    target = target_probs(rows, probs, logits.shape[-1])
    return 0.5 * (torch.softmax(logits, -1) - target).abs().sum(-1)


LOSSES: dict[str, Loss] = {'forward_kl': forward_kl, 'reverse_kl': reverse_kl, 'total_variation': total_variation}


def learnable_places(own: Tensor, reference: Tensor, share: float) -> Tensor:
    """Which places are worth learning, bool (P,): those where a reference drafter does most better than this one.

    AdaSPEC (2510.19779): of all places the ``share`` with the greatest difference of losses; what even the reference
    cannot say is left alone, so that a small drafter spends nothing on it.
    """
    count = max(1, round(share * len(own)))
    chosen = torch.zeros(len(own), dtype=torch.bool, device=own.device)
    chosen[(own - reference).topk(count).indices] = True
    return chosen


def accepted_places(logits: Tensor, rows: Tensor, probs: Tensor, drawn: Tensor) -> Tensor:
    """Where the drafter's likeliest token would be accepted, bool (P,); ``drawn`` (P,) are uniform in [0, 1).

    SpecKD (2510.24021): the loss counts at accepted places only. Accepted: u < target / draft probability.
    """
    draft, best = torch.softmax(logits, -1).max(-1)
    target = target_probs(rows, probs, logits.shape[-1]).gather(-1, best[:, None])[:, 0]
    return drawn * draft < target
