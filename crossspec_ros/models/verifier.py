"""The target model: a transformers video-language model, split into encode a frame, extend, verify, commit.

Shape letters: F tokens a frame, D embedding width, T new tokens, L cached tokens, V logits width.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from time import perf_counter_ns
from typing import TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.adapters import Adapter
from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.models.lean import LeanDecoder, supports
from crossspec_ros.models.loading import Checkpoint, load_checkpoint
from crossspec_ros.models.prompts import render, starts_itself
from crossspec_ros.models.tokenizer import tokenizer_key
from crossspec_ros.speculation.verifier import PromptSegments, check_frame

T = TypeVar('T')

_POOLED_CACHES = 4


def load_verifier(path: str | Path = 'builtin', device: str = 'cpu', dtype: str = 'float32',
                  cache: str = 'dynamic', lean: bool = True) -> TransformersVerifier:
    """Load a checkpoint folder, a hub id or ``builtin`` as a target model.

    ``cache`` is 'dynamic' (cost follows the true length) or 'static' (fixed addresses). ``lean``: use `models.lean`
    where it serves. Raises `CrossSpecError`, see `models.loading.load_checkpoint`.
    """
    return TransformersVerifier(load_checkpoint(path, device, dtype), cache, lean)


class TransformersVerifier:
    """`speculation.verifier.Verifier` over a transformers model. Not for use by several threads at a time."""

    def __init__(self, checkpoint: Checkpoint, cache: str = 'dynamic', lean: bool = True) -> None:
        self.tokenizer, self.preprocessor = checkpoint.tokenizer, checkpoint.preprocessor
        self._folder = checkpoint.folder
        self._setup(checkpoint.model, checkpoint.adapter, cache, lean)
        self.tokenizer_key, self.model_key = tokenizer_key(self.tokenizer), _model_key(checkpoint)
        eos_ids = _eos_ids(checkpoint)
        self._set_ids(eos_ids, _banned_ids(checkpoint, eos_ids, self.vocab_size))

    def _setup(self, model: PreTrainedModel, adapter: Adapter, cache: str, lean: bool = True) -> None:
        """What follows from the model alone."""
        self.model, self.adapter, self.cache_kind = model, adapter, cache
        self.device, self.dtype = model.device, model.dtype
        self.vocab_size = adapter.head.weight.shape[0]
        self.context_length = int(adapter.text_config.max_position_embeddings)
        self._pool: list[SequenceCache] = []
        self._layers = int(adapter.text_config.num_hidden_layers)
        self._decoder = decoder = adapter.language_model        # found once: it hangs deep inside the model
        self._embedding, self._head = decoder.get_input_embeddings(), adapter.head
        self._lean = LeanDecoder(decoder) if lean and supports(decoder) else None
        self.segments = lru_cache(maxsize=64)(self._segments)
        self.model_ms = 0.0                           # in the model's own modules; what else was done is not in it

    def _set_ids(self, eos_ids: Sequence[int], banned_ids: Sequence[int]) -> None:
        self.eos_ids, self.banned_ids = tuple(eos_ids), tuple(banned_ids)
        self._banned = torch.tensor(self.banned_ids, dtype=torch.long, device=self.device)

    # -- prompt and text ------------------------------------------------------------------------------------------

    def full_prompt(self, prompt: str) -> str:
        """The prompt with its placeholder: a bare question is put into the model's chat template."""
        return render(None, self.tokenizer, self._folder, prompt, 1, self.adapter.template, self._placeholder())

    def _placeholder(self) -> str:
        return self.tokenizer.convert_ids_to_tokens(self.adapter.video_token_id)

    def input_ids(self, prompt: str, frames: int) -> tuple[int, ...]:
        """The whole prompt as the model's own processor tokenises it, one placeholder an embedding."""
        text, video = self.full_prompt(prompt), self._placeholder()
        if text.count(video) != 1:
            raise CrossSpecError(f'prompt must hold {video} once, got {text.count(video)} times')
        count = frames * self.adapter.frame_tokens() + len(self.adapter.closing())
        return tuple(self.tokenizer(text.replace(video, video * count),
                                    add_special_tokens=not starts_itself(self.tokenizer, text))['input_ids'])

    def _segments(self, prompt: str, frames: int) -> PromptSegments:
        """The prompt for so many frames, cut where they go. Raises `CrossSpecError` for a prompt that does not fit."""
        ids = self.input_ids(prompt, frames)
        video = self.adapter.video_token_id
        first, count = ids.index(video), ids.count(video)
        closing = self.adapter.closing()
        expected = frames * self.adapter.frame_tokens() + len(closing)
        if count != expected or any(token != video for token in ids[first:first + count]):
            raise CrossSpecError(f'prompt must hold {expected} video placeholders in one run, got {count}')
        if len(ids) >= self.context_length:
            raise CrossSpecError(f'prompt must be shorter than the context of {self.context_length} tokens, '
                                 f'got {len(ids)}; use fewer frames or a shorter question')
        tail = ids[first + count:]
        if not tail:
            raise CrossSpecError('prompt must go on behind the video with a question, got nothing there')
        return PromptSegments(ids[:first], tail, self.adapter.frame_tokens(), closing)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of answer tokens, special tokens left out."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer text, no special tokens added."""
        return tuple(self.tokenizer(text, add_special_tokens=False)['input_ids'])

    # -- the four steps -------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode_frame(self, rgb: np.ndarray) -> torch.Tensor:
        """Features (F, D) of one frame, uint8 (H, W, 3) RGB. Raises `CrossSpecError` for another shape or type."""
        pixels = self.preprocessor(rgb)[None].to(self.device, self.dtype)
        return self._timed(self.adapter.encode, pixels)[0]

    def _timed(self, module: Callable[..., T], *args: object, **options: object) -> T:
        """Call a part of the model. On a GPU the time is only that of the launch."""
        begin_ns = perf_counter_ns()
        result = module(*args, **options)
        self.model_ms += (perf_counter_ns() - begin_ns) / 1e6
        return result

    @torch.inference_mode()
    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Embeddings (T, D) of tokens."""
        ids = torch.as_tensor(token_ids, dtype=torch.long, device=self.device)
        return self._embedding(ids)

    def new_cache(self, capacity: int) -> SequenceCache:
        """An empty cache for ``capacity`` tokens; one handed back by `release` is used again where it is big enough."""
        for index, cache in enumerate(self._pool):
            if cache.capacity >= capacity:
                del self._pool[index]
                cache.truncate(0)
                return cache
        self._pool.clear()                            # all too small for what is asked now: let them go
        return SequenceCache(self._layers, capacity, self.cache_kind)

    def release(self, cache: SequenceCache) -> None:
        """Hand a cache back that is no longer needed."""
        if len(self._pool) < _POOLED_CACHES:
            self._pool.append(cache)

    @torch.inference_mode()
    def extend(self, cache: SequenceCache, embeds: torch.Tensor) -> None:
        """Prefill: append (T, D) embeddings causally; no logits are computed."""
        self._forward(cache, embeds, (), 1)

    @torch.inference_mode()
    def verify(self, cache: SequenceCache, embeds: torch.Tensor, parents: Sequence[int],
               keep_logits: int) -> torch.Tensor:
        """Append (T, D) embeddings, the last ``len(parents)`` a tree (see `Verifier.verify`).

        Returns logits (keep_logits, V) float32 of the last tokens, banned ids at minus infinity. Raises
        `CrossSpecError` where logits are not finite.
        """
        states = self._forward(cache, embeds, parents, keep_logits)
        logits = self._timed(self._head, states).to(torch.float32)
        if not torch.isfinite(logits.sum()):          # one number stands for all: any NaN or infinity is in the sum
            raise CrossSpecError('logits must be finite, got NaN or infinity from the target: '
                                 'its weights, its type or the frames are broken')
        logits[:, self._banned] = float('-inf')
        return logits

    def _forward(self, cache: SequenceCache, embeds: torch.Tensor, parents: Sequence[int], keep: int) -> torch.Tensor:
        """States (keep, D) of the decoder for the last of the new embeddings (T, D) behind the cache."""
        count = embeds.shape[0]
        cache.room_for(count)
        mask, positions = tree_mask(cache.length, count, parents, cache.mask_length, cache.kind == 'static')
        if self._lean is not None:
            states = self._timed(self._lean.forward, cache, embeds, mask, positions, keep)
        else:
            states = self._timed(
                self._decoder, inputs_embeds=embeds[None], attention_mask=mask.to(self.device)[None, None],
                position_ids=positions.to(self.device)[None], past_key_values=cache.inner, use_cache=True,
            ).last_hidden_state[0, -keep:]
        cache.grew(count)
        return states

    # -- the same model without the split, for comparison -----------------------------------------------------------

    @torch.inference_mode()
    def generate(self, frames: Sequence[np.ndarray], prompt: str, max_new_tokens: int,
                 **options: object) -> tuple[int, ...]:
        """Tokens of transformers' own ``generate`` for the same frames and prompt, banned ids suppressed."""
        for frame in frames:
            check_frame(frame)
        ids = torch.tensor([self.input_ids(prompt, len(frames))], device=self.device)
        pixels = torch.stack([self.preprocessor(frame) for frame in frames])[None].to(self.device, self.dtype)
        settings = dict(do_sample=False, max_new_tokens=max_new_tokens, suppress_tokens=list(self.banned_ids),
                        eos_token_id=list(self.eos_ids), pad_token_id=self.eos_ids[0])
        output = self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values_videos=pixels,
                                     **(settings | options))
        return tuple(output[0, ids.shape[1]:].tolist())


def tree_mask(cached: int, count: int, parents: Sequence[int], mask_length: int,
              static: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Who sees whom, bool (count, keys), and positions (count,), for ``count`` tokens behind ``cached`` ones.

    The last ``len(parents)`` tokens are a tree: each sees the chunk before the tree and its own ancestors, and stands
    at its depth. Keys are those cached and the new ones (dynamic), or the whole buffer (static).
    """
    nodes, chunk = len(parents), count - len(parents)
    keys = mask_length if static else cached + count
    first = cached + chunk
    mask = np.zeros((count, keys), dtype=bool)
    mask[:, :cached] = True
    mask[:chunk, cached:first] = np.tri(chunk, dtype=bool)
    positions = np.arange(cached, cached + count)
    if nodes:
        mask[chunk:, cached:first] = True
        within, depths = np.eye(nodes, dtype=bool), [0] * nodes
        for node, parent in enumerate(parents):
            if parent >= 0:
                within[node] |= within[parent]
                depths[node] = depths[parent] + 1
        mask[chunk:, first:first + nodes] = within
        positions[chunk:] = depths
        positions[chunk:] += first
    return torch.from_numpy(mask), torch.from_numpy(positions)


def _eos_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    for value in (checkpoint.model.generation_config.eos_token_id, checkpoint.adapter.text_config.eos_token_id,
                  checkpoint.tokenizer.eos_token_id):
        if value is not None:
            return tuple(value) if isinstance(value, (list, tuple)) else (int(value),)
    raise CrossSpecError(f'the checkpoint {checkpoint.name} must name an end token (eos_token_id in '
                         'generation_config.json or config.json), it names none')


def _banned_ids(checkpoint: Checkpoint, eos_ids: Sequence[int], vocab_size: int) -> tuple[int, ...]:
    """Placeholders, padding, and rows of the logits that no token stands for: never part of an answer."""
    banned = {*checkpoint.adapter.placeholder_ids, *range(len(checkpoint.tokenizer), vocab_size)}
    banned |= {checkpoint.tokenizer.pad_token_id, checkpoint.adapter.text_config.pad_token_id} - {None}
    return tuple(sorted(token for token in banned - set(eos_ids) if 0 <= token < vocab_size))


def _model_key(checkpoint: Checkpoint) -> str:
    """16 hex digits that name the weights (a sample of them) and the type they compute in."""
    digest = hashlib.sha256(str(checkpoint.model.dtype).encode())
    for name, weight in sorted(checkpoint.model.named_parameters()):
        digest.update(f'{name} {tuple(weight.shape)}'.encode())
        digest.update(weight.detach().flatten()[:16].to(torch.float32).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
