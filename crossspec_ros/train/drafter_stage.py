"""Stage 3: the drafter learns to say what the verifier says, from events and the words committed so far.

Teacher forcing gives it every committed prefix for free. It first learns the true captions while no verifier is there
yet, then the verifier's own greedy outputs. A slot head over the mean visual token speeds the CNN up.
"""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from crossspec_ros.models.drafter import DrafterConfig, EventDrafter
from crossspec_ros.models.tokenizer import tokenizer_key
from crossspec_ros.train.dataset import ClipData, SlotTable
from crossspec_ros.train.tokenizer_training import EOS, answer_ids
from crossspec_ros.train.vision_stage import SlotHeads

_SLOT_WEIGHT = 0.5
_DESCRIBE_SHARE = 0.65
_ANSWERED_PART = 4


def new_drafter(tokenizer: Tokenizer, seed: int, bins: int = 5, grid: int = 96) -> EventDrafter:
    """A drafter with random weights from ``seed``."""
    config = DrafterConfig(tokenizer.get_vocab_size(), tokenizer_key(tokenizer), tokenizer.token_to_id(EOS), bins=bins,
                           height=grid, width=grid)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EventDrafter(config, tokenizer)


class DrafterTrainee(nn.Module):
    """The drafter and its slot heads."""

    def __init__(self, drafter: EventDrafter, slots: SlotTable) -> None:
        super().__init__()
        self.drafter = drafter
        self.heads = SlotHeads(drafter.config.dim, slots)

    def forward(self, voxel: Tensor, tokens: Tensor, targets: Tensor, labels: Tensor,
                ) -> tuple[Tensor, dict[str, float]]:
        """Loss and figures; ``voxel`` (B, C, H, W), ``tokens`` and ``targets`` (B, T), -100 where nothing is learnt."""
        drafter = self.drafter
        visual = drafter.encoder(voxel)
        hidden = drafter.continue_from(visual, tokens)
        chosen = targets != -100
        logits, wanted = drafter.logits(hidden[chosen]), targets[chosen]
        words = F.cross_entropy(logits, wanted)
        slots, figures = self.heads(visual.mean(1), labels)
        right = float((logits.detach().argmax(-1) == wanted).float().mean())
        return words + _SLOT_WEIGHT * slots, {'words': float(words.detach()), 'acc_token': right} | figures


class DrafterStage:
    """Draws clips, one question each.

    ``answers`` (the verifier's ids by clip and question) replaces the true texts. A verifier answers only some of the
    clips in reasonable time; a quarter of each batch is drawn from those, the rest from the others with their true
    texts, so that the CNN does not learn the few by heart.
    """

    def __init__(self, drafter: EventDrafter, data: ClipData,
                 answers: dict[int, dict[str, list[int]]] | None = None) -> None:
        self.module = DrafterTrainee(drafter, data.slots)
        self._data, self._answers = data, answers
        self._answered = np.array(sorted(answers or ()), np.int64)
        self._others = np.setdiff1d(np.arange(len(data)), self._answered)
        self._questions = {question: drafter.question_ids(question) for question in data.questions}
        self._tokenizer, self._cache = drafter.tokenizer, {}

    def _ids(self, row: int, question: str) -> list[int]:
        if self._answers is not None and question in self._answers.get(row, {}):
            return self._answers[row][question]
        text = self._data.answers[row][question]
        if text not in self._cache:
            self._cache[text] = answer_ids(self._tokenizer, text)
        return self._cache[text]

    def _draw(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        """Rows of a batch, a quarter of them answered by the verifier where there are both kinds."""
        both = len(self._answered) and len(self._others)
        answered = batch // _ANSWERED_PART if both else batch if len(self._answered) else 0
        return np.concatenate([rng.choice(rows, count, replace=count > len(rows)) for rows, count in (
            (self._answered, answered), (self._others, batch - answered)) if count])

    def loss(self, rng: np.random.Generator, batch: int, done: float) -> tuple[Tensor, dict[str, float]]:
        rows = self._draw(rng, batch)
        describe, *others = self._data.questions
        pairs = []
        for row in rows:
            first = not others or rng.random() < _DESCRIBE_SHARE
            question = describe if first else others[int(rng.integers(len(others)))]
            pairs.append((self._questions[question], self._ids(int(row), question)))
        length = max(len(question) + len(answer) for question, answer in pairs) - 1
        tokens, targets = np.zeros((batch, length), np.int64), np.full((batch, length), -100, np.int64)
        for index, (question, answer) in enumerate(pairs):
            ids = [*question, *answer]
            tokens[index, :len(ids) - 1] = ids[:-1]
            targets[index, len(question) - 1:len(ids) - 1] = answer
        voxels = torch.from_numpy(self._data.voxels(rows).astype(np.float32))
        return self.module(voxels, torch.from_numpy(tokens), torch.from_numpy(targets),
                           torch.from_numpy(self._data.labels[rows]))
