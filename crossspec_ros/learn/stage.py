"""The drafter learns what the verifier says, from events and the words committed so far.

Its text is the verifier's own answer, and at every place its target is the verifier's law over the likely tokens.
Teacher forcing gives it every committed prefix for free. Letters: B windows, C, H, W the voxel grid, T tokens, K likely
tokens of a place, P places that count.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from crossspec_ros.learn.batches import Said, moved, word_arrays
from crossspec_ros.learn.lessons import Lessons
from crossspec_ros.learn.losses import LOSSES, accepted_places, learnable_places
from crossspec_ros.learn.settings import LearnConfig
from crossspec_ros.learn.store import EARLY, FINAL, Answer
from crossspec_ros.models.drafter import EventDrafter

_FIRST_PROMPT = 0.65             # share of the windows that are asked what is judged by
_EARLY_SHARE = 0.5
_FILTERED, _REFERENCE_UNTIL = 0.4, 0.4       # AdaSPEC: share of places; the reference learns so long
_GATED_FROM = 0.2                # SpecKD: until a drafter says something there is nothing to accept


class Pupil(nn.Module):
    """The drafter, and the reference that the filter needs."""

    def __init__(self, drafter: EventDrafter, reference: EventDrafter | None) -> None:
        super().__init__()
        self.drafter, self.reference = drafter, reference


class LearnStage:
    """Draws windows, one prompt each, and one of the two looks at their events; see `train.loop.Stage`.

    Grids are shifted by a few cells and scaled, so that few drives are not learned by heart.
    """

    def __init__(self, drafter: EventDrafter, lessons: Lessons, config: LearnConfig,
                 reference: EventDrafter | None = None) -> None:
        self.module = Pupil(drafter, reference)
        self._lessons, self._config, self._loss = lessons, config, LOSSES[config.loss]
        self._questions = [drafter.question_ids(prompt) for prompt in config.prompts]
        self._device = drafter.embed.weight.device

    def loss(self, rng: np.random.Generator, batch: int, done: float) -> tuple[Tensor, dict[str, float]]:
        voxel, tokens, likely, probs = self._drawn(rng, batch)
        drafter, reference = self.module.drafter, self.module.reference
        counts = probs[..., 0] > 0                                               # (B, T)
        wanted, law = likely[counts], probs[counts]                              # (P, K)
        learner = reference if reference is not None and done < _REFERENCE_UNTIL else drafter
        logits = learner.logits(learner(voxel, tokens)[counts])                  # (P, R)
        losses = self._loss(logits, wanted, law)
        chosen = torch.ones(len(losses), dtype=torch.bool, device=losses.device)
        if reference is not None and learner is drafter:
            with torch.no_grad():
                best = self._loss(reference.logits(reference(voxel, tokens)[counts]), wanted, law)
            chosen = learnable_places(losses.detach(), best, _FILTERED)
        if self._config.gated and done >= _GATED_FROM:
            drawn = torch.from_numpy(rng.random(len(losses), np.float32)).to(losses.device)
            chosen &= accepted_places(logits.detach(), wanted, law, drawn)
        loss = losses[chosen].mean() if bool(chosen.any()) else losses.sum() * 0.0
        right = float((logits.detach().argmax(-1) == wanted[:, 0]).float().mean())
        return loss, {'acc_token': right, 'places': float(chosen.float().mean())}

    def _drawn(self, rng: np.random.Generator, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        lessons, drafter = self._lessons, self.module.drafter
        rows = rng.choice(len(lessons.learned), batch, replace=batch > len(lessons.learned))
        pairs = [self._pair(int(row), rng) for row in rows]
        tokens, likely, probs = word_arrays(drafter, [question for question, _ in pairs], [
            Said(answer.token_ids, answer.likely, np.exp(answer.log_probs.astype(np.float32))) for _, answer in pairs])
        looks = np.where(rng.random(batch) < _EARLY_SHARE, EARLY, FINAL)
        voxels = moved(lessons.voxels(rows.tolist(), looks.tolist()), rng)
        arrays: Sequence[np.ndarray] = (voxels, tokens, likely, probs)
        return tuple(torch.from_numpy(array).to(self._device) for array in arrays)

    def _pair(self, row: int, rng: np.random.Generator) -> tuple[list[int], Answer]:
        prompts = len(self._questions)
        prompt = 0 if prompts == 1 or rng.random() < _FIRST_PROMPT else int(rng.integers(1, prompts))
        return self._questions[prompt], self._lessons.learned[row].window.answers[prompt]
