"""`speculation.target.Target` over a model of transformers and an adapter for its class.

Shape letters: T new tokens, W row width, D embedding width, n nodes of a tree, V logits width.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.frames.check import check_frames
from crossspec_ros.models.targets.adapters.base import Adapter
from crossspec_ros.models.targets.decoding import NO_TREE
from crossspec_ros.models.targets.forwards import DecoderForwards
from crossspec_ros.models.targets.graphs import Recorder
from crossspec_ros.models.targets.padded import NOT_FINITE, SIZES, PaddedForwards, Scorer
from crossspec_ros.models.generation import suppressed_ids
from crossspec_ros.models.keys import checkpoint_key
from crossspec_ros.models.prompts import check_question
from crossspec_ros.models.tokenizer import tokenizer_key
from crossspec_ros.speculation.target import Abilities, Judged, Layout
from crossspec_ros.speculation.tree import TokenTree

_POOLED_CACHES = 4
_KEPT_LAYOUTS = 64
_NO_CONTEXT = 1 << 20             # where a config does not say how long a sequence may be


class TransformersTarget:
    """A target. Not for use by several threads at a time."""

    def __init__(self, adapter: Adapter, cache: str = 'dynamic', lean: bool = True, scorer: Scorer | None = None,
                 stop_strings: Sequence[str] = (), recorder: Recorder | None = None) -> None:
        """``cache``: 'dynamic', 'static' or 'padded' (`models.targets.padded`); ``recorder`` makes the latter's steps
        (by default the device's own)."""
        self._setup(adapter, cache, lean, recorder)
        self.scorer, self.stop_strings = scorer, tuple(stop_strings)
        self.tokenizer_key = tokenizer_key(self.tokenizer)
        self.model_key = checkpoint_key(adapter.parts.folder)
        eos_ids = _eos_ids(adapter)
        self._set_ids(eos_ids, _banned_ids(adapter, eos_ids, self.vocab_size))

    def _setup(self, adapter: Adapter, cache: str, lean: bool, recorder: Recorder | None = None) -> None:
        """What follows from the model alone."""
        self.adapter, self.model, self.tokenizer = adapter, adapter.model, adapter.tokenizer
        self.scorer, self.stop_strings, self.cache_kind = None, (), 'static' if cache == 'padded' else cache
        self.device, self.dtype, self.abilities = self.model.device, self.model.dtype, _abilities(adapter)
        self.vocab_size = int(adapter.head.weight.shape[0])
        self.context_length = int(getattr(adapter.text_config, 'max_position_embeddings', None) or _NO_CONTEXT)
        self._forwards = DecoderForwards(adapter, lean and cache != 'padded')
        self._lean = self._forwards.lean
        self._padded = PaddedForwards(self._forwards, recorder) if cache == 'padded' else None
        # Passes by the way that they went, and what was refused; empty where there is one way only.
        self.forwards: Counter[str] = self._padded.counts if self._padded is not None else Counter()
        self._pool: list[SequenceCache] = []
        self._layouts = lru_cache(maxsize=_KEPT_LAYOUTS)(self._layout)

    def _set_ids(self, eos_ids: Sequence[int], banned_ids: Sequence[int]) -> None:
        self.eos_ids, self.banned_ids = tuple(eos_ids), tuple(banned_ids)
        self._banned = torch.tensor(self.banned_ids, dtype=torch.long, device=self.device)
        if self._padded is not None:
            self._padded.banned = self._banned

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes that forwards of new tokens are filled up to; none where they are not."""
        return SIZES if self._padded is not None else ()

    @property
    def model_ms(self) -> float:
        """Milliseconds in the model's own modules; what else was done is not in it."""
        return self._forwards.spent_ms

    @property
    def processes(self) -> int:
        """How many processes share the model."""
        return 1

    def close(self) -> None:
        """Let go what lives outside this process; without it all goes with the target."""

    # -- prompt and text ------------------------------------------------------------------------------------------

    def layout(self, prompt: str, frames: int, height: int, width: int) -> Layout:
        """The prompt for so many frames of this size, px; see `speculation.target.Target.layout`."""
        check_question(prompt)
        if frames < 1:
            raise CrossSpecError(f'window_frames must be >= 1, got {frames}')
        return self._layouts(prompt, frames, *((height, width) if self.adapter.sized else (0, 0)))

    @torch.inference_mode()
    def _layout(self, prompt: str, frames: int, height: int, width: int) -> Layout:
        layout = self.adapter.layout(prompt, frames, height, width)
        if layout.length >= self.context_length:
            raise CrossSpecError(f'prompt must be shorter than the context of {self.context_length} tokens, '
                                 f'got {layout.length}; use fewer frames or a shorter question')
        return layout

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of answer tokens, special tokens left out."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer text, no special tokens added."""
        return tuple(self.tokenizer(text, add_special_tokens=False)['input_ids'])

    @torch.inference_mode()
    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Rows (T, W) of answer tokens."""
        return self.adapter.embed(token_ids)

    # -- frames ---------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode(self, layout: Layout, group: int, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Rows (tokens, W) of one group, from its frames; all of its time counts as the model's.

        Raises `CrossSpecError` for frames it cannot take.
        """
        check_frames(frames, layout.groups[group].frames)
        return self._forwards.timed(self.adapter.encode, layout, group, frames)

    @torch.inference_mode()
    def encode_all(self, layout: Layout, frames: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Rows of every group at once. Raises as `encode` does."""
        check_frames(frames, sum(group.frames for group in layout.groups))
        return self._forwards.timed(self.adapter.encode_all, layout, frames)

    # -- the decoder ----------------------------------------------------------------------------------------------

    def new_cache(self, layout: Layout, capacity: int) -> SequenceCache:
        """An empty cache for ``capacity`` tokens; one handed back by `release` is used again where it is big enough."""
        limit = self.adapter.style.limit
        if 0 < limit < capacity:
            raise CrossSpecError(f'prompt, answer and tree must fit the {limit} tokens up to which the '
                                 f'rotary positions do not depend on the length of a forward, got {capacity}; use '
                                 'fewer frames or lower max_new_tokens')
        if self._padded is not None:
            capacity = self._padded.length(capacity)
        fixed = self.cache_kind == 'static'           # a forward over a longer buffer may round otherwise
        for index, cache in enumerate(self._pool):
            if cache.capacity == capacity or (cache.capacity > capacity and not fixed):
                del self._pool[index]
                cache.truncate(0)
                break
        else:
            if not fixed:
                self._pool.clear()                    # all too small for what is asked now: let them go
            cache = SequenceCache(self._forwards.layers, capacity, self.cache_kind)
        cache.layout = layout
        if self._padded is not None:
            self._padded.prepare(cache, self.scorer)
        return cache

    def release(self, cache: SequenceCache) -> None:
        """Hand a cache back that is no longer needed."""
        cache.layout = None
        self._pool.append(cache)
        for old in self._pool[:-_POOLED_CACHES]:
            old.private = None                        # its steps hold it in turn
        del self._pool[:-_POOLED_CACHES]

    @torch.inference_mode()
    def extend(self, cache: SequenceCache, rows: torch.Tensor) -> None:
        """Prefill: append (T, W) rows causally; no logits are computed."""
        self.states(cache, rows, NO_TREE)

    @torch.inference_mode()
    def verify(self, cache: SequenceCache, rows: torch.Tensor, tree: TokenTree, committed: Sequence[int]) -> Judged:
        """Append (T, W) rows, the last ``len(tree)`` the tree's nodes; see `speculation.target.Target.verify`.

        Raises `CrossSpecError` where logits are not finite.
        """
        if self._padded is not None:
            return self._padded.verify(cache, rows, tree, committed, self.scorer)
        states = self.states(cache, rows, tree)
        layers = dict(self._forwards.taps)
        logits = self._forwards.timed(self._forwards.head, states).to(torch.float32)
        logits = self.adapter.finish(logits)
        if not torch.isfinite(logits.sum()):          # one number stands for all: any NaN or infinity is in the sum
            raise CrossSpecError(NOT_FINITE)
        if self.scorer is not None:
            logits = self.scorer(logits, cache.layout.ids, committed, tree)
        logits[:, self._banned] = float('-inf')
        return Judged(logits, states, layers)

    def states(self, cache: SequenceCache, rows: torch.Tensor, tree: TokenTree) -> torch.Tensor:
        """Append (T, W) rows; states (n + 1, D) of the decoder for the row before the tree and its nodes."""
        return self._forwards.states(cache, rows, tree)

    def tap(self, layers: Sequence[int]) -> None:
        """Keep states after these layers too; see `speculation.target.Target.tap`."""
        self._forwards.tap(layers)
        if self._padded is not None and layers:
            self._padded.forget()

    # -- the same model without the split, for comparison -----------------------------------------------------------

    @torch.inference_mode()
    def generate(self, frames: Sequence[np.ndarray], prompt: str, max_new_tokens: int,
                 **options: object) -> tuple[int, ...]:
        """Tokens of transformers' own ``generate`` for the same frames and prompt, banned ids suppressed."""
        check_question(prompt)
        check_frames(frames)
        inputs = self.adapter.inputs(prompt, frames)
        settings = dict(do_sample=False, max_new_tokens=max_new_tokens,
                        suppress_tokens=suppressed_ids(self.model, self.banned_ids),
                        eos_token_id=list(self.eos_ids), pad_token_id=self.eos_ids[0])
        if self.stop_strings:
            settings['tokenizer'] = self.tokenizer
        output = self.model.generate(**inputs, **(settings | options))
        return tuple(output[0, inputs['input_ids'].shape[1]:].tolist())


def _abilities(adapter: Adapter) -> Abilities:
    """What is exact for an adapter's model, its quantisation included."""
    if not adapter.parts.coarse:
        return adapter.abilities
    note = 'activations are rounded: a forward of another shape may decide a token otherwise, as in 16 bits'
    return replace(adapter.abilities, coarse=True, notes=(*adapter.abilities.notes, note))


def _eos_ids(adapter: Adapter) -> tuple[int, ...]:
    for value in (adapter.model.generation_config.eos_token_id, getattr(adapter.text_config, 'eos_token_id', None),
                  adapter.tokenizer.eos_token_id):
        if value is not None:
            return tuple(value) if isinstance(value, (list, tuple)) else (int(value),)
    raise CrossSpecError(f'the checkpoint {adapter.parts.folder.name} must name an end token (eos_token_id in '
                         'generation_config.json or config.json), it names none')


def _banned_ids(adapter: Adapter, eos_ids: Sequence[int], vocab_size: int) -> tuple[int, ...]:
    """Placeholders, padding, and rows of the logits that no token stands for: never part of an answer."""
    banned = {*adapter.placeholder_ids, *range(len(adapter.tokenizer), vocab_size)}
    banned |= {adapter.tokenizer.pad_token_id, getattr(adapter.text_config, 'pad_token_id', None)} - {None}
    return tuple(sorted(token for token in banned - set(eos_ids) if 0 <= token < vocab_size))
