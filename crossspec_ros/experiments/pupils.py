"""Pupils: drafters whose decoder knows nothing yet, and what they learn of answered windows, a batch in one forward.

Letters: B windows, S visual tokens, W their width, T tokens of question and answer, T' of the answer, P places of all
answers of a batch, K likely tokens, R rows of the drafter's words, D width of the verifier's states, k of them a place,
d of the drafter's.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.lab import Lab, Seen
from crossspec_ros.experiments.scenes import scenes_of
from crossspec_ros.experiments.states import FINAL, layer_states, visual_tokens
from crossspec_ros.models.drafter import EventDrafter

BATCH = 8
_RATE, _LIKELY = 2e-3, 8

View = Callable[[Lab, Sequence[Seen]], list[Tensor]]
"""Visual tokens (S, W) of each window."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """A window: visual tokens (S, W), rows of question and answer (T,), where the answer's places begin, the tokens'
    rows (T',), the verifier's likely tokens with their probabilities (T', K), and its states that the lab keeps (T', k,
    D)."""

    drive: str
    visual: Tensor
    rows: Tensor
    first: int
    said: Tensor
    likely: Tensor
    probs: Tensor
    states: Tensor


def newest_look(lab: Lab, seen: Sequence[Seen]) -> list[Tensor]:
    """The drafter's visual tokens of all events."""
    return [visual_tokens(lab.drafter, each.look)[0].clone() for each in seen]


def both_looks(lab: Lab, seen: Sequence[Seen]) -> list[Tensor]:
    """The drafter's visual tokens of the events before the newest frame, and of all events: twice as many."""
    return [torch.cat([visual_tokens(lab.drafter, look)[0] for look in each.looks]) for each in seen]


def newest_frame(lab: Lab, seen: Sequence[Seen]) -> list[Tensor]:
    """The verifier's own visual tokens of the newest frame."""
    return [scene.visual[-scene.newest:].float() for scene in scenes_of(lab, seen)]


def lessons(lab: Lab, seen: Sequence[Seen], view: View = newest_look) -> list[Lesson]:
    """What there is to learn; the verifier's law is that of its last states."""
    drafter, question, made = lab.drafter, lab.drafter.question_ids(lab.settings.prompt), []
    for each, visual in zip(seen, view(lab, seen), strict=True):
        ids = each.window.token_ids
        best = lab.words(each.window.states[:, lab.place(FINAL)]).softmax(-1).topk(_LIKELY)
        likely = torch.tensor([drafter.rows_of(tokens) for tokens in best.indices.tolist()])
        made.append(Lesson(each.window.drive, visual, torch.tensor(drafter.rows_of([*question, *ids[:-1]])),
                           len(question) - 1, torch.tensor(drafter.rows_of(ids)), likely, best.values.clone(),
                           each.window.states))
    return made


@cache
def taught_lessons(lab: Lab, view: View = newest_look) -> list[Lesson]:
    """Of the windows that are learned from, made once for all parts."""
    return lessons(lab, lab.taught(), view)


@cache
def judged_lessons(lab: Lab, pace: str, view: View = newest_look) -> list[Lesson]:
    """Of the windows that are measured."""
    return lessons(lab, lab.windows(pace), view)


@dataclass(frozen=True, eq=False)
class Batch:
    """Lessons in one forward, shorter ones padded at the end, where a causal decoder's places do not see it: ``visual``
    (B, S, W), ``rows`` (B, T), ``lengths`` of the answers, ``real`` bool (B, T') without padding; of the places of all
    answers ``said`` (P,), ``likely`` and ``probs`` (P, K), ``states`` (P, k, D)."""

    visual: Tensor
    rows: Tensor
    first: int
    lengths: tuple[int, ...]
    real: Tensor
    said: Tensor
    likely: Tensor
    probs: Tensor
    states: Tensor

    @classmethod
    def of(cls, chosen: Sequence[Lesson]) -> Batch:
        """Of these lessons, which ask the same question."""
        lengths = torch.tensor([len(lesson.said) for lesson in chosen])
        joined = [torch.cat([getattr(lesson, name) for lesson in chosen])
                  for name in ('said', 'likely', 'probs', 'states')]
        return cls(torch.stack([lesson.visual for lesson in chosen]),
                   pad_sequence([lesson.rows for lesson in chosen], batch_first=True), chosen[0].first,
                   tuple(lengths.tolist()), torch.arange(int(lengths.max()))[None] < lengths[:, None], *joined)

    def places(self, states: Tensor) -> Tensor:
        """(B, T, d) of all rows -> (P, d) of the answers' places."""
        return states[:, self.first:][self.real]

    def by_answer(self, values: Tensor) -> list[Tensor]:
        """Values (P, ...) cut into answers."""
        return list(values.split(list(self.lengths)))


class Pupil(nn.Module):
    """The drafter's decoder and words, which know nothing, after ``seen`` visual tokens: the drafter's own, or others
    so ``wide``, which come through a projection that learns too."""

    def __init__(self, drafter: EventDrafter, seed: int, seen: int, wide: int | None = None) -> None:
        super().__init__()
        config, cells = drafter.config, drafter.encoder.place.shape[0]
        longer = replace(config, max_caption_tokens=config.max_caption_tokens + max(0, seen - cells))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.drafter = EventDrafter(longer, drafter.tokenizer)
            self.eyes = nn.Identity() if wide is None else nn.Sequential(
                nn.RMSNorm(wide, eps=1e-6, elementwise_affine=False), nn.Linear(wide, config.dim))
        self.drafter.encoder = drafter.encoder                 # not a part of what learns

    def learning(self) -> list[nn.Parameter]:
        """All but the event drafter's eyes."""
        parts = (self.drafter.layers, self.drafter.norm, self.drafter.embed, self.eyes)
        return [weight for part in parts for weight in part.parameters()]

    def states(self, batch: Batch) -> list[Tensor]:
        """(P, d) of each layer; see `states.layer_states`."""
        return [batch.places(states) for states in layer_states(self.drafter, self.eyes(batch.visual), batch.rows)]

    def logits(self, hidden: Tensor) -> Tensor:
        """(P, d) of last states -> (P, R)."""
        return self.drafter.logits(hidden)


def learn(learning: Sequence[nn.Parameter], taught: Sequence[Lesson], loss: Callable[[Batch, float], Tensor],
          steps: int, draw: torch.Generator) -> None:
    """So many steps of a loss of a batch and the share of the steps that are done."""
    optimiser = torch.optim.AdamW(learning, lr=_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    for step in range(steps):
        chosen = torch.randint(len(taught), (BATCH,), generator=draw).tolist()
        optimiser.zero_grad()
        loss(Batch.of([taught[index] for index in chosen]), step / steps).backward()
        optimiser.step()
        schedule.step()


@torch.inference_mode()
def rows_of(pupil: Pupil, judged: Sequence[Lesson]) -> list[dict[str, Any]]:
    """A row of `chains.chain_row` of each window."""
    made = []
    for start in range(0, len(judged), BATCH):
        part = judged[start:start + BATCH]
        batch = Batch.of(part)
        right = pupil.logits(pupil.states(batch)[-1]).argmax(-1) == batch.said
        made += [chain_row(lesson.drive, each.tolist()) for lesson, each in zip(part, batch.by_answer(right))]
    return made


def relative_error(made: Tensor, true: Tensor) -> Tensor:
    """Squared difference of states (P, D) of the mean square of the true ones, (P,)."""
    return F.mse_loss(made, true, reduction='none').mean(-1) / true.square().mean()
