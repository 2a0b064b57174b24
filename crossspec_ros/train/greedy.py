"""The verifier's own greedy answers to many clips at once, token by token.

Clips of a batch share the length of their prompt, so no padding is needed; the video is prefilled once and every
question continues from a copy of that cache. Letters: B clips, F frames, S tokens of a frame, D width.
"""
from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import DynamicCache, VideoLlavaForConditionalGeneration

from crossspec_ros.train.language_stage import prompt_parts
from crossspec_ros.train.tokenizer_training import EOS


@torch.inference_mode()
def greedy_answers(model: VideoLlavaForConditionalGeneration, tokenizer: Tokenizer, features: Tensor,
                   questions: Sequence[str], max_tokens: int = 80) -> list[dict[str, list[int]]]:
    """Ids (with the end token) of the answer to each question for ``features`` (B, F, S, D) of the tower."""
    inner, clips = model.model, len(features)
    embed = inner.language_model.embed_tokens
    head = torch.tensor(prompt_parts(tokenizer, '')[0]).expand(clips, -1)
    video = inner.multi_modal_projector(features.float().flatten(1, 2))
    prefix = DynamicCache(config=model.config.text_config)
    inner.language_model(inputs_embeds=torch.cat((embed(head), video), 1), past_key_values=prefix, use_cache=True)
    answers: list[dict[str, list[int]]] = [{} for _ in range(clips)]
    for number, question in enumerate(questions):
        cache = copy.deepcopy(prefix) if number + 1 < len(questions) else prefix
        ids = torch.tensor(prompt_parts(tokenizer, question)[1]).expand(clips, -1)
        for row, chosen in enumerate(_continue(model, cache, ids, tokenizer.token_to_id(EOS), max_tokens)):
            answers[row][question] = chosen
    return answers


def _continue(model: VideoLlavaForConditionalGeneration, cache: DynamicCache, ids: Tensor, end: int,
              max_tokens: int) -> list[list[int]]:
    """Greedy tokens (B lists, end token included) after ``cache`` and ``ids`` (B, T)."""
    inner = model.model.language_model
    chosen: list[list[int]] = [[] for _ in range(len(ids))]
    running = np.ones(len(ids), bool)
    for _ in range(max_tokens):
        hidden = inner(inputs_embeds=inner.embed_tokens(ids), past_key_values=cache, use_cache=True).last_hidden_state
        best = model.lm_head(hidden[:, -1]).argmax(-1)
        for row in np.flatnonzero(running):
            chosen[row].append(int(best[row]))
        running &= best.numpy() != end
        if not running.any():
            break
        ids = best[:, None]
    return chosen
