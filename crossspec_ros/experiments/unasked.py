"""Tokens of the drafter that are taken without asking the verifier, and what it says after them: lossy.

Letters: P places, d width of the drafter's states, L rows of a prompt, D width of the verifier's.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crossspec_ros.experiments.studies.pruning import Prompt, gone_on
from crossspec_ros.models.drafter import EventDrafter
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.tree import TokenTree

_STRENGTH, _STEPS, _LEAST = 1e-3, 100, 1e-6


@torch.inference_mode()
def own_probs(drafter: EventDrafter, hidden: Tensor) -> Tensor:
    """(P,): how likely the drafter holds its likeliest word, from its states (P, d)."""
    return drafter.logits(hidden).softmax(-1).amax(-1)


@torch.inference_mode()
def features(drafter: EventDrafter, hidden: Tensor) -> Tensor:
    """(P, d + 2) of states (P, d): the state, and the logits of its best word's probability and of its lead."""
    best = drafter.logits(hidden).softmax(-1).topk(2).values
    told = torch.stack((best[:, 0], 0.5 + 0.5 * (best[:, 0] - best[:, 1])), 1)
    return torch.cat((hidden, told.logit(_LEAST)), 1)


class Confidence:
    """Logistic regression: how likely the drafter's word is the verifier's."""

    def __init__(self, inputs: Tensor, right: Tensor) -> None:
        """From features (P, F) and bool (P,)."""
        self._mean, self._spread = inputs.mean(0), inputs.std(0).clamp(min=_LEAST)
        scaled, wanted = self._scaled(inputs).clone(), right.float()
        weights = torch.zeros(scaled.shape[1], requires_grad=True)
        optimiser = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn='strong_wolfe')

        def loss() -> Tensor:
            optimiser.zero_grad()
            told = torch.nn.functional.binary_cross_entropy_with_logits(scaled @ weights, wanted) \
                + _STRENGTH * weights[:-1].square().sum()
            told.backward()
            return told
        optimiser.step(loss)
        self._weights = weights.detach()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Probabilities (P,)."""
        return (self._scaled(inputs) @ self._weights).sigmoid()

    def _scaled(self, inputs: Tensor) -> Tensor:
        return torch.cat(((inputs - self._mean) / self._spread, torch.ones(len(inputs), 1)), 1)


def taken_unasked(confidences: Sequence[float], threshold: float) -> int:
    """How many tokens of a draft are taken: all before the first whose confidence is below the threshold."""
    return next((place for place, each in enumerate(confidences) if each < threshold), len(confidences))


def threshold_for(scores: Sequence[float], right: Sequence[bool], rate: float) -> float:
    """The lowest threshold above which at most ``rate`` of the places is wrong; infinity where there is none."""
    order = np.argsort(-np.asarray(scores, float), kind='stable')
    ranked, wrong = np.asarray(scores, float)[order], ~np.asarray(right, bool)[order]
    rates = wrong.cumsum() / np.arange(1, len(wrong) + 1)
    last = np.append(ranked[1:] != ranked[:-1], True)                        # equal scores are taken together
    fits = np.flatnonzero((rates <= rate) & last)
    return float(ranked[fits[-1]]) if len(fits) else math.inf


def told_apart(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """How often a right place scores above a wrong one (area under the ROC curve); None where all are of one kind."""
    told, is_right = np.asarray(scores, float), np.asarray(right, bool)
    good, bad = told[is_right], np.sort(told[~is_right])
    if not len(good) or not len(bad):
        return None
    below = np.searchsorted(bad, good, 'left') + np.searchsorted(bad, good, 'right')
    return float(below.mean() / 2 / len(bad))


@dataclass
class HeldThreshold:
    """A threshold that verdicts move, so that of the tokens taken unasked a share of ``rate`` is wrong.

    In logits it rises by ``step`` for a wrong token and falls by ``step * rate`` for each that was taken, so it stands
    still where the share is ``rate``. Verdicts come for nothing where the verifier goes on after what was taken, since
    it reads it; of windows that it was not asked about, one of ``audit`` is read afterwards, for the verdict alone.
    """

    rate: float
    logit: float = 2.0
    step: float = 0.5
    audit: int = 5
    audits: int = 0
    _alone: int = 0

    @property
    def value(self) -> float:
        """The threshold now."""
        return 1.0 / (1.0 + math.exp(-self.logit))

    def judged(self, taken: int, wrong: int, alone: bool) -> None:
        """A window went by, of whose ``taken`` tokens ``wrong`` are not the verifier's. ``alone``: it was not asked."""
        if alone:
            self._alone += 1
            if self._alone % self.audit:
                return
            self.audits += 1
        self.logit += self.step * (wrong - self.rate * taken)


def lost_slots(said: Mapping[str, str], plain: Mapping[str, str], truth: Mapping[str, str]) -> tuple[int, int]:
    """Facts that the verifier's own caption ``plain`` tells rightly and what was ``said`` does not; and the reverse."""
    lost = sum(plain.get(name) == true != said.get(name) for name, true in truth.items())
    return lost, sum(said.get(name) == true != plain.get(name) for name, true in truth.items())


@torch.inference_mode()
def said_after(target: TransformersTarget, prompt: Prompt, taken: Sequence[int], guess: Sequence[int] = ()
               ) -> tuple[list[int], int]:
    """The caption that begins with ``taken`` and goes on as the verifier would, greedily, and how many of ``taken`` it
    would not have said after those before; ``guess`` only saves forwards."""
    rows, taken = prompt.rows(), list(taken)
    cache = target.new_cache(prompt.layout, len(rows) + 2 * EngineConfig().max_new_tokens)
    target.extend(cache, rows[:-1])
    wrong, pending = 0, rows[-1:]
    if taken:
        base = cache.length
        judged = target.verify(cache, torch.cat((pending, target.embed(taken))), TokenTree.chain(taken), ())
        wrong = sum(own != token for own, token in zip(judged.logits.argmax(-1).tolist(), taken))
        cache.keep(base, range(len(taken)))
        pending = target.embed(taken[-1:])
    answer = gone_on(target, cache, pending, taken, guess)
    target.release(cache)
    return answer, wrong
