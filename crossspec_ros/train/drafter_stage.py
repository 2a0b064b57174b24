"""Stage 3: the drafter learns to say what the verifier says, from events and the words committed so far.

Its text is the verifier's own greedy answer, and at every place its target is the verifier's distribution over the
likely tokens (Hinton et al., Distilling the knowledge in a neural network, 2015). Teacher forcing gives it every
committed prefix for free. A slot head over the mean visual token speeds the CNN up. Letters: B clips, C, H, W the voxel
grid, T tokens, K likely tokens of a place.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from crossspec_ros.models.drafter import DrafterConfig, EventDrafter
from crossspec_ros.models.tokenizer import tokenizer_key
from crossspec_ros.train.answers import LIKELY, Answer
from crossspec_ros.train.dataset import EARLY, FINAL, ClipData, SlotTable
from crossspec_ros.train.tokenizer_training import EOS, answer_ids
from crossspec_ros.train.vision_stage import SlotHeads

_SLOT_WEIGHT = 0.5
_DESCRIBE_SHARE = 0.65
_EARLY_SHARE = 0.5


def new_drafter(tokenizer: Tokenizer, seed: int, bins: int = 5, grid: int = 96, verifier_key: str = '') -> EventDrafter:
    """A drafter with random weights from ``seed``, which will learn from the checkpoint of this key."""
    config = DrafterConfig(tokenizer.get_vocab_size(), tokenizer_key(tokenizer), tokenizer.token_to_id(EOS), bins=bins,
                           height=grid, width=grid, verifier_key=verifier_key)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EventDrafter(config, tokenizer)


class DrafterTrainee(nn.Module):
    """The drafter and its slot heads."""

    def __init__(self, drafter: EventDrafter, slots: SlotTable) -> None:
        super().__init__()
        self.drafter = drafter
        self.heads = SlotHeads(drafter.config.dim, slots)

    def forward(self, voxel: Tensor, tokens: Tensor, likely: Tensor, probs: Tensor, labels: Tensor,
                ) -> tuple[Tensor, dict[str, float]]:
        """Loss and figures.

        ``voxel`` (B, C, H, W), ``tokens`` (B, T); ``likely`` and ``probs`` (B, T, K) are what should come next, best
        first, with probabilities that sum to 1, or to 0 where nothing is learnt. ``labels`` (B, slots).
        """
        drafter = self.drafter
        visual = drafter.encoder(voxel)
        hidden = drafter.continue_from(visual, tokens)
        chosen = probs[..., 0] > 0
        logits, wanted = drafter.logits(hidden[chosen]), likely[chosen]
        words = -(torch.log_softmax(logits, -1).gather(-1, wanted) * probs[chosen]).sum(-1).mean()
        slots, figures = self.heads(visual.mean(1), labels)
        right = float((logits.detach().argmax(-1) == wanted[:, 0]).float().mean())
        return words + _SLOT_WEIGHT * slots, {'words': float(words.detach()), 'acc_token': right} | figures


class DrafterStage:
    """Draws clips, one question each, and one of the two looks at their events.

    ``answers`` are the verifier's, by clip and question. Where it has answered only some of the clips, half of each
    batch is drawn from the others with their true texts, so that the CNN does not learn the few by heart.
    """

    def __init__(self, drafter: EventDrafter, data: ClipData, answers: Mapping[int, Mapping[str, Answer]]) -> None:
        self.module = DrafterTrainee(drafter, data.slots)
        self._data, self._answers = data, answers
        self._answered = np.array(sorted(answers), np.int64)
        self._others = np.setdiff1d(np.arange(len(data)), self._answered)
        self._questions = {question: drafter.question_ids(question) for question in data.questions}
        self._tokenizer = drafter.tokenizer
        self._true: dict[str, Answer] = {}

    def _answer(self, row: int, question: str) -> Answer:
        if row in self._answers:
            return self._answers[row][question]
        text = self._data.answers[row][question]
        if text not in self._true:
            ids = np.array(answer_ids(self._tokenizer, text), np.int64)
            self._true[text] = Answer(ids, ids[:, None], np.ones((len(ids), 1), np.float32))
        return self._true[text]

    def _draw(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        """Rows of a batch, half of them answered by the verifier where there are both kinds."""
        answered = batch // 2 if len(self._others) else batch
        return np.concatenate([rng.choice(rows, count, replace=count > len(rows)) for rows, count in (
            (self._answered, answered), (self._others, batch - answered)) if count])

    def _pairs(self, rows: np.ndarray, rng: np.random.Generator) -> list[tuple[list[int], Answer]]:
        """Ids of a question and its answer for each row; mostly the description."""
        describe, *others = self._data.questions
        pairs = []
        for row in rows:
            first = not others or rng.random() < _DESCRIBE_SHARE
            question = describe if first else others[int(rng.integers(len(others)))]
            pairs.append((self._questions[question], self._answer(int(row), question)))
        return pairs

    def loss(self, rng: np.random.Generator, batch: int, done: float) -> tuple[Tensor, dict[str, float]]:
        rows = self._draw(rng, batch)
        pairs = self._pairs(rows, rng)
        length = max(len(question) + len(answer.token_ids) for question, answer in pairs) - 1
        tokens, likely = np.zeros((batch, length), np.int64), np.zeros((batch, length, LIKELY), np.int64)
        probs = np.zeros((batch, length, LIKELY), np.float32)
        for index, (question, answer) in enumerate(pairs):
            ids = [*question, *answer.token_ids]
            tokens[index, :len(ids) - 1] = ids[:-1]
            places, width = slice(len(question) - 1, len(ids) - 1), answer.likely.shape[1]
            likely[index, places, :width] = answer.likely
            probs[index, places, :width] = answer.probs / answer.probs.sum(1, keepdims=True)
        looks = np.where(rng.random(batch) < _EARLY_SHARE, EARLY, FINAL)
        voxels = torch.from_numpy(self._data.voxels(rows, looks).astype(np.float32))
        return self.module(voxels, torch.from_numpy(tokens), torch.from_numpy(likely), torch.from_numpy(probs),
                           torch.from_numpy(self._data.labels[rows]))
