"""Training of a head: it learns the verifier's own distribution over the next tokens, from its states.

The target of each place is what the verifier's output matrix makes of the state from which it said the token there. An
EAGLE-1 head learns the states too (2401.15077, equation 1); later places ahead count less (Medusa 2401.10774).
Letters: B answers, T tokens of one, K states of a token, D width, R rows, V words.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads import StateHead, bound_head, new_head, save_head
from crossspec_ros.models.heads.network import Said
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.sources.heads import FINAL
from crossspec_ros.models.writing import write_folder_atomic
from crossspec_ros.train.loop import StageConfig, read_checkpoint, run_stage
from crossspec_ros.train.states import Stated, said_ids

_FADE = 0.8                        # weight of a place against the one before it
_ROWS = 8                          # of an answer, from which blocks are learnt in a step
LEARNING = {'eagle1': 1e-3, 'eagle3': 1e-3, 'medusa': 2e-3, 'block': 1e-3}


class HeadStage:
    """Draws answers. ``layers`` are those of which ``answers`` hold states, in their order."""

    def __init__(self, head: StateHead, answers: Sequence[Stated], layers: Sequence[int]) -> None:
        """Raises `CrossSpecError` where states that the head reads, or the last ones, are not there."""
        missing = ({*head.layers, FINAL}) - set(layers)
        if missing:
            raise CrossSpecError(f'answers must hold states of the layers {sorted({*head.layers, FINAL})}, those of '
                                 f'{sorted(missing)} are missing: collect them again')
        self.module = head
        self._answers = [answer for answer in answers if len(answer.token_ids) > 1]
        if not self._answers:
            raise CrossSpecError('a head must have answers of more than one token to learn from, got none')
        self._read, self._final = [list(layers).index(layer) for layer in head.layers], list(layers).index(FINAL)

    def loss(self, rng: np.random.Generator, batch: int, done: float) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch of answers drawn by ``rng``."""
        head = self.module
        chosen = [self._answers[index] for index in rng.integers(len(self._answers), size=batch)]
        self._chosen(chosen)
        lengths = torch.tensor([len(answer.token_ids) for answer in chosen], device=head.kept.device)
        longest = int(lengths.max())
        tokens = np.zeros((batch, longest), np.int64)
        states = np.zeros((batch, longest, *chosen[0].states.shape[1:]), np.float16)
        for row, answer in enumerate(chosen):
            tokens[row, :len(answer.token_ids)], states[row, :len(answer.token_ids)] = answer.token_ids, answer.states
        rows = np.sort(rng.choice(longest - 1, min(_ROWS, longest - 1), replace=False))
        return self._loss(torch.from_numpy(tokens).to(head.kept.device), torch.from_numpy(states).to(
            head.kept.device).float(), lengths, torch.from_numpy(rows).to(head.kept.device))

    def _chosen(self, answers: Sequence[Stated]) -> None:
        """For what else a head is to be given of the answers of a batch."""

    def _loss(self, tokens: Tensor, states: Tensor, lengths: Tensor, rows: Tensor) -> tuple[Tensor, dict[str, float]]:
        head, final = self.module, states[:, :, self._final]
        with torch.no_grad():
            wanted = head.logits(final).softmax(-1)                                            # (B, T, V)
        losses, weights, figures = [], [], {}
        for said in head(states[:, :, self._read], tokens, rows):
            part, right = self._place(said, wanted, final, lengths)
            if part is not None:
                losses.append(part)
                weights.append(_FADE ** (said.ahead - 1))
                figures[f'acc_{said.ahead}'] = right
        scale = torch.tensor(weights, device=tokens.device)
        return (torch.stack(losses) * scale).sum() / scale.sum(), figures

    def _place(self, said: Said, wanted: Tensor, final: Tensor, lengths: Tensor) -> tuple[Tensor | None, float]:
        """Loss of one place ahead, and how often its likeliest word is the verifier's; None where no answer has it."""
        at = said.rows + said.ahead
        there = at[None] < lengths[:, None]                                                    # (B, R)
        if not bool(there.any()):
            return None, 0.0
        at = at.clamp(max=wanted.shape[1] - 1)
        logits, truth = said.logits[there], wanted[:, at][there]
        loss = -(truth * torch.log_softmax(logits, -1)).sum(-1).mean()
        if said.states is not None:
            loss = loss + F.smooth_l1_loss(said.states[there], final[:, at][there])
        return loss, float((logits.detach().argmax(-1) == truth.argmax(-1)).float().mean())


def train_head(kind: str, target: TransformersTarget, answers: Sequence[Stated], layers: Sequence[int], out: Path,
               config: StageConfig, *, resume: bool = False, should_stop: Callable[[], bool] | None = None,
               kept_ids: Iterable[int] | None = None, **shapes: int) -> Path:
    """Train a head of a kind on recorded ``answers`` with states of ``layers``; returns its folder, ``out / kind``.

    Leaves checkpoint and log in ``out`` too (`run_stage`). ``kept_ids``: tokens that it may say, by default those in
    the answers. Raises `CrossSpecError` as `run_stage` and `HeadStage` do.
    """
    head = new_head(kind, target, said_ids(answers) if kept_ids is None else list(kept_ids), config.seed, **shapes)
    head = bound_head(head, target, torch.float32)
    learn_head(HeadStage(head, answers, layers), config, out, resume=resume, should_stop=should_stop)
    folder = out / kind
    write_folder_atomic(folder, lambda made: save_head(head, made))
    return folder


def learn_head(stage: HeadStage, config: StageConfig, out: Path, *, resume: bool = False,
               should_stop: Callable[[], bool] | None = None) -> None:
    """Train the head of a stage in place; checkpoint and log go to ``out``. Raises `CrossSpecError` as `run_stage` does
    and for a checkpoint of another head."""
    _check_begun(stage.module, out / f'{config.name}.pt', config, resume)
    run_stage(stage, config, out, resume=resume, should_stop=should_stop)


def _check_begun(head: StateHead, checkpoint: Path, config: StageConfig, resume: bool) -> None:
    """Raise `CrossSpecError` where training would go on with a head of other shapes or words."""
    if not resume or not checkpoint.is_file():
        return
    begun, own = read_checkpoint(checkpoint, config)['model'], head.state_dict()
    if {name: value.shape for name, value in begun.items()} != {name: value.shape for name, value in own.items()} \
            or not torch.equal(begun['kept'].cpu(), own['kept'].cpu()):
        raise CrossSpecError(f'{checkpoint} is of a head of other shapes, or of answers with other words: go on with '
                             'the same settings and answers, or start anew without --resume')
