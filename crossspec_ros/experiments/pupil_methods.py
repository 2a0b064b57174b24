"""Ways for a pupil to learn: a divergence, which places count how much, what else is learned, and what it sees.

Letters as in `experiments.pupils`.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.pupils import (
    Batch, Lesson, Pupil, View, both_looks, learn, newest_frame, newest_look, relative_error)
from crossspec_ros.experiments.states import FINAL
from crossspec_ros.learn.losses import LOSSES, accepted_places, learnable_places

_SHARE, _NEAR, _UNGATED, _UNMASKED, _STATES_FIRST = 0.6, 3, 0.2, 0.5, 1 / 3
HARD = 'hard labels'


@dataclass(frozen=True, eq=False)
class Said:
    """What a pupil says of a batch, detached: ``logits`` (P, R), ``losses`` (P,) of the places; ``reference`` tells
    those of the built-in drafter; ``done``: share of the steps that are."""

    batch: Batch
    logits: Tensor
    losses: Tensor
    reference: Callable[[], Tensor]
    draw: torch.Generator
    done: float


def even(said: Said) -> Tensor:
    """All places alike."""
    return torch.ones(len(said.losses))


def learnable(said: Said) -> Tensor:
    """AdaSPEC (2510.19779): those where the built-in drafter is most ahead."""
    pairs = zip(*map(said.batch.by_answer, (said.losses, said.reference())))
    return torch.cat([learnable_places(own, other, _SHARE) for own, other in pairs]).float()


def accepted(said: Said) -> Tensor:
    """SpecKD (2510.24021): those where the pupil's likeliest token would be accepted. Of one that knows nothing hardly
    any would be: at first all count."""
    if said.done < _UNGATED:
        return even(said)
    drawn = torch.rand(len(said.losses), generator=said.draw)
    return accepted_places(said.logits, said.batch.likely, said.batch.probs, drawn).float()


def reached(said: Said) -> Tensor:
    """The chance that a draft is right up to a place: the product of the pupil's probabilities of the verifier's tokens
    before it."""
    sure = said.logits.log_softmax(-1).gather(-1, said.batch.said[:, None])[:, 0]
    return torch.cat([(each.cumsum(0) - each).exp() for each in said.batch.by_answer(sure)])


def aligned(said: Said) -> Tensor:
    """GRIFFIN (2502.11018): where the verifier's token is among the pupil's three likeliest, at the place and at the
    one before it. A pupil that knows nothing has no such place: at first all count."""
    if said.done < _UNMASKED:
        return even(said)
    near = (said.logits.topk(_NEAR).indices == said.batch.said[:, None]).any(-1)
    return torch.cat([each & F.pad(each, (1, 0), value=True)[:-1] for each in said.batch.by_answer(near)]).float()


@dataclass(frozen=True)
class Method:
    """``loss`` of `learn.losses`, or none: the verifier's tokens alone; ``weigh``: how much each place counts (P,), in
    shares of its answer; ``first``: share of the steps that learn the verifier's last states instead; ``by_layer``:
    states of each layer are learned beside; ``view``: what the pupil sees; ``note``: its form in a line."""

    loss: str = 'forward_kl'
    weigh: Callable[[Said], Tensor] = even
    first: float = 0.0
    by_layer: bool = False
    view: View = newest_look
    note: str = ''


METHODS = {
    HARD: Method('', note='the verifier\'s tokens alone'),
    'forward KL (DistillSpec)': Method(),
    'reverse KL': Method('reverse_kl'),
    'total variation': Method('total_variation'),
    'forward KL, filtered (AdaSPEC)': Method(weigh=learnable),
    'forward KL, gated (SpecKD)': Method(weigh=accepted, note='the gate closes after a fifth of the steps'),
    'cascade-aware weights': Method(
        weigh=reached, note='a place counts by the chance that a draft of the pupil is right up to it'),
    'aligned places (GRIFFIN)': Method(
        weigh=aligned, note='in the second half of the steps a place counts where the verifier\'s token is among the '
                            'pupil\'s three likeliest there and at the place before; the states that GRIFFIN\'s head '
                            'feeds back have no counterpart here'),
    'states first': Method(
        first=_STATES_FIRST, note='a third of the steps learns the verifier\'s last states through a linear map, which '
                                  'is then dropped'),
    'layer by layer': Method(
        by_layer=True, note='beside the words each layer learns the states of one of the verifier\'s through a linear '
                            'map'),
    'two spans of events': Method(
        view=both_looks, note='the pupil sees the events before the newest frame and all events, twice as many visual '
                              'tokens'),
}
"""Rows of the experiment ``losses``; without a note a form says itself."""


class StateMaps(nn.Module):
    """Linear maps from layers of a pupil to kept states of the verifier, learned beside the pupil and no part of it."""

    def __init__(self, pairs: Sequence[tuple[int, int]], narrow: int, wide: int, seed: int) -> None:
        """``pairs``: a place in `Pupil.states`, and one among the kept states."""
        super().__init__()
        self.pairs = tuple(pairs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.maps = nn.ModuleList(nn.Linear(narrow, wide) for _ in self.pairs)

    def forward(self, layers: Sequence[Tensor], states: Tensor) -> Tensor:
        """Sum of the relative errors of all pairs, (P,); ``states`` (P, k, D)."""
        errors = [relative_error(each(layers[own]), states[:, kept])
                  for each, (own, kept) in zip(self.maps, self.pairs)]
        return torch.stack(errors).sum(0)


def pairs_of(layers: int, kept: Sequence[int]) -> list[tuple[int, int]]:
    """Each layer of a pupil with one of the kept ones (FINAL the last), as far up."""
    assert kept[-1] == FINAL, f'the last states must be kept last: {kept}'
    return [(layer, max(1, round(layer * len(kept) / layers)) - 1) for layer in range(1, layers + 1)]


def place_losses(logits: Tensor, batch: Batch, loss: str) -> Tensor:
    """(P,); no name: cross entropy of the verifier's tokens."""
    if not loss:
        return F.cross_entropy(logits, batch.said, reduction='none')
    return LOSSES[loss](logits, batch.likely, batch.probs)


def weighed(losses: Tensor, weights: Tensor, batch: Batch) -> Tensor:
    """Mean over answers of the mean loss of an answer's places by ``weights`` (P,); one without any weight is nothing.
    """
    answers = [(each * weight).sum() / weight.sum() for each, weight
               in zip(batch.by_answer(losses), batch.by_answer(weights)) if weight.any()]
    return torch.stack(answers).sum() / len(batch.lengths) if answers else 0.0 * losses.sum()


def _new_pupil(lab: Lab, taught: Sequence[Lesson], view: View, seed: int) -> Pupil:
    seen, wide = taught[0].visual.shape
    return Pupil(lab.drafter, seed, seen, wide if view is newest_frame else None)


def trained(lab: Lab, taught: Sequence[Lesson], method: Method, steps: int, seed: int) -> Pupil:
    """A pupil after so many steps; the built-in drafter is the reference of the filter."""
    pupil, draw = _new_pupil(lab, taught, method.view, seed), torch.Generator().manual_seed(seed)
    kept, depth, narrow = lab.layers, len(lab.drafter.layers), lab.drafter.config.dim
    pairs, wide = pairs_of(depth, kept), taught[0].states.shape[-1]
    first = round(method.first * steps)
    if first:
        last = StateMaps(pairs[-1:], narrow, wide, seed)
        learn([*pupil.learning(), *last.parameters()], taught,
              lambda batch, _: last(pupil.states(batch), batch.states).mean(), first, draw)
    maps = StateMaps(pairs, narrow, wide, seed) if method.by_layer else None

    def loss(batch: Batch, done: float) -> Tensor:
        layers = pupil.states(batch)
        logits = pupil.logits(layers[-1])
        losses = place_losses(logits, batch, method.loss)
        said = Said(batch, logits.detach(), losses.detach(), lambda: _reference(lab, batch, method.loss), draw, done)
        whole = losses if maps is None else losses + maps(layers, batch.states)
        return weighed(whole, method.weigh(said), batch)
    learn([*pupil.learning(), *(maps.parameters() if maps else ())], taught, loss, steps - first, draw)
    return pupil.eval()


@torch.no_grad()
def _reference(lab: Lab, batch: Batch, loss: str) -> Tensor:
    hidden = batch.places(lab.drafter.continue_from(batch.visual, batch.rows))
    return place_losses(lab.drafter.logits(hidden), batch, loss)
