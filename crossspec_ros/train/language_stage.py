"""Stage 2: the language model learns to say what the (now frozen) tower sees.

Each clip is one sequence: the video's tokens, then several questions with their answers, which share the video but do
not see one another (a block mask, positions as if each stood alone). Early on only some patches of a frame are shown,
at their true positions, which makes a step several times cheaper; the CLS tokens are always there. A slot head on the
last video token helps to gather what is spread over time. Letters: B clips, S video tokens, T tokens of the sequence,
D width.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import VideoLlavaForConditionalGeneration

from crossspec_ros.models.tokenizer import PROMPT_BEGIN, PROMPT_END
from crossspec_ros.train.dataset import ClipData, SlotTable
from crossspec_ros.train.tokenizer_training import VIDEO, answer_ids
from crossspec_ros.train.verifier_config import FRAMES, TOKENS_PER_FRAME
from crossspec_ros.train.vision_stage import SlotHeads

_SLOT_WEIGHT = 0.5
_PREFIX, _PADDING = 0, -1


@dataclass(frozen=True)
class Exchange:
    """One question with its answer, as ids."""

    question: list[int]
    answer: list[int]


def prompt_parts(tokenizer: Tokenizer, question: str) -> tuple[list[int], list[int]]:
    """Ids before the video tokens, and ids between them and the answer."""
    before, after = PROMPT_BEGIN.split(VIDEO)
    head = tokenizer.encode(before, add_special_tokens=False).ids
    return head, tokenizer.encode(f'{after}{question}{PROMPT_END}', add_special_tokens=False).ids


@dataclass(frozen=True)
class Layout:
    """Where everything stands in a batch of sequences, after the video tokens are put in."""

    tokens: Tensor       # (B, T) ids, the video token where features go
    positions: Tensor    # (B, T)
    targets: Tensor      # (B, T) the next id, -100 where none is to be learnt
    mask: Tensor         # (B, 1, T, T) bool, true: may look


def lay_out(head: list[int], video_id: int, video_positions: np.ndarray, exchanges: list[list[Exchange]]) -> Layout:
    """Sequences of ``exchanges`` (B lists) after video tokens at ``video_positions`` (S,) counted from the first
    one."""
    full, start = FRAMES * TOKENS_PER_FRAME, len(head) + len(video_positions)
    lengths = [start + sum(len(one.question) + len(one.answer) - 1 for one in row) for row in exchanges]
    shape = (len(exchanges), max(lengths))
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    targets, segment = np.full(shape, -100, np.int64), np.full(shape, _PADDING, np.int64)
    tokens[:, :start] = [*head, *[video_id] * len(video_positions)]
    positions[:, :start] = [*range(len(head)), *(len(head) + video_positions)]
    segment[:, :start] = _PREFIX
    for row, several in enumerate(exchanges):
        at = start
        for number, one in enumerate(several, 1):
            ids = [*one.question, *one.answer]
            stop = at + len(ids) - 1
            tokens[row, at:stop] = ids[:-1]
            targets[row, at + len(one.question) - 1:stop] = one.answer
            positions[row, at:stop] = len(head) + full + np.arange(len(ids) - 1)
            segment[row, at:stop] = number
            at = stop
    kind = torch.from_numpy(segment)
    same = (kind[:, :, None] == kind[:, None, :]) | (kind[:, None, :] == _PREFIX)
    mask = same & torch.ones(shape[1], shape[1], dtype=torch.bool).tril()
    return Layout(torch.from_numpy(tokens), torch.from_numpy(positions), torch.from_numpy(targets), mask[:, None])


def hidden_states(model: nn.Module, features: Tensor, layout: Layout, start: int) -> Tensor:
    """Last hidden states (B, T, D) of the language model over ``layout``, whose video tokens end before ``start``.

    ``model`` holds ``multi_modal_projector`` and ``language_model``; ``features`` (B, S, D of the tower).
    """
    embeds = model.language_model.embed_tokens(layout.tokens)
    first = start - features.shape[1]
    embeds = torch.cat((embeds[:, :first], model.multi_modal_projector(features), embeds[:, start:]), 1)
    return model.language_model(inputs_embeds=embeds, attention_mask=layout.mask, position_ids=layout.positions,
                                use_cache=False).last_hidden_state


class LanguageTrainee(nn.Module):
    """Projector, language model and slot heads; the tower is not among them."""

    def __init__(self, model: VideoLlavaForConditionalGeneration, slots: SlotTable) -> None:
        super().__init__()
        self.multi_modal_projector = model.model.multi_modal_projector
        self.language_model = model.model.language_model
        self.heads = SlotHeads(model.config.text_config.hidden_size, slots)

    def forward(self, features: Tensor, layout: Layout, last_video: int, labels: Tensor,
                ) -> tuple[Tensor, dict[str, float]]:
        """Loss and figures; ``features`` (B, S, D of the tower), ``last_video`` the index of the last video token."""
        hidden = hidden_states(self, features, layout, last_video + 1)
        chosen = layout.targets != -100
        logits = F.linear(hidden[chosen], self.language_model.embed_tokens.weight)
        wanted = layout.targets[chosen]
        words = F.cross_entropy(logits, wanted)
        seen, figures = self.heads(hidden[:, last_video], labels)
        right = float((logits.detach().argmax(-1) == wanted).float().mean())
        return words + _SLOT_WEIGHT * seen, {'words': float(words.detach()), 'acc_token': right} | figures


class LanguageStage:
    """Draws clips and questions. ``features`` (N, F, S, D) float16 come from the frozen tower.

    Up to ``sparse_until`` of the stage a random ``sparse_patches`` of a frame's patches are shown, then all.
    """

    def __init__(self, model: VideoLlavaForConditionalGeneration, data: ClipData, features: np.ndarray,
                 tokenizer: Tokenizer, *, sparse_until: float = 0.75, sparse_patches: int = 4,
                 dense_batch_share: float = 0.5) -> None:
        self.model, self.module = model, LanguageTrainee(model, data.slots)
        self._data, self._features, self._tokenizer = data, features, tokenizer
        self._until, self._patches, self._dense_share = sparse_until, sparse_patches, dense_batch_share
        self._video_id = tokenizer.token_to_id(VIDEO)
        self._head = prompt_parts(tokenizer, '')[0]
        self._after = {question: prompt_parts(tokenizer, question)[1] for question in data.questions}
        self._answers: dict[str, list[int]] = {}

    def _answer(self, text: str) -> list[int]:
        if text not in self._answers:
            self._answers[text] = answer_ids(self._tokenizer, text)
        return self._answers[text]

    def _exchanges(self, row: int, rng: np.random.Generator) -> list[Exchange]:
        """The description, and one other question."""
        describe, *others = self._data.questions
        asked = [describe, others[int(rng.integers(len(others)))]] if others else [describe]
        texts = self._data.answers[row]
        return [Exchange(self._after[question], self._answer(texts[question])) for question in asked]

    def loss(self, rng: np.random.Generator, batch: int, done: float) -> tuple[Tensor, dict[str, float]]:
        sparse = done < self._until
        if not sparse:
            batch = max(1, round(batch * self._dense_share))
        rows = rng.choice(len(self._features), batch, replace=False)
        patches = TOKENS_PER_FRAME - 1
        kept = [np.concatenate(([0], 1 + np.sort(rng.choice(patches, self._patches, replace=False)))) if sparse
                else np.arange(TOKENS_PER_FRAME) for _ in range(FRAMES)]
        index = np.concatenate([frame * TOKENS_PER_FRAME + picked for frame, picked in enumerate(kept)])
        chosen = self._features[np.sort(rows)].reshape(batch, FRAMES * TOKENS_PER_FRAME, -1)[:, index]
        layout = lay_out(self._head, self._video_id, index, [self._exchanges(row, rng) for row in np.sort(rows)])
        labels = torch.from_numpy(self._data.labels[np.sort(rows)])
        return self.module(torch.from_numpy(chosen).float(), layout, len(self._head) + len(index) - 1, labels)
