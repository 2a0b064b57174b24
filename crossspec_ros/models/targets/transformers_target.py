"""`speculation.target.Target` over a model of transformers and an adapter for its class.

Shape letters: T new tokens, W row width, D embedding width, n nodes of a tree, V logits width.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from inspect import signature
from time import perf_counter_ns
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.frames.check import check_frames
from crossspec_ros.models.lean import LeanDecoder, supports
from crossspec_ros.models.targets.adapters.base import Adapter
from crossspec_ros.models.targets.decoding import NO_TREE, tree_mask
from crossspec_ros.models.generation import suppressed_ids
from crossspec_ros.models.keys import checkpoint_key
from crossspec_ros.models.prompts import check_question
from crossspec_ros.models.tokenizer import tokenizer_key
from crossspec_ros.speculation.target import Judged, Layout
from crossspec_ros.speculation.tree import TokenTree

T = TypeVar('T')

_POOLED_CACHES = 4
_KEPT_LAYOUTS = 64
_NO_CONTEXT = 1 << 20             # where a config does not say how long a sequence may be


class Scorer(Protocol):
    """What the checkpoint's generation settings do to logits before the largest is taken."""

    def __call__(self, logits: torch.Tensor, prompt_ids: Sequence[int], committed: Sequence[int],
                 tree: TokenTree) -> torch.Tensor:
        """Logits (n + 1, V) float32 as ``generate`` would rank them, row 0 after ``committed``."""
        ...


class TransformersTarget:
    """A target. Not for use by several threads at a time."""

    def __init__(self, adapter: Adapter, cache: str = 'dynamic', lean: bool = True, scorer: Scorer | None = None,
                 stop_strings: Sequence[str] = ()) -> None:
        self._setup(adapter, cache, lean)
        self.scorer, self.stop_strings = scorer, tuple(stop_strings)
        self.tokenizer_key = tokenizer_key(self.tokenizer)
        self.model_key = checkpoint_key(adapter.parts.folder)
        eos_ids = _eos_ids(adapter)
        self._set_ids(eos_ids, _banned_ids(adapter, eos_ids, self.vocab_size))

    def _setup(self, adapter: Adapter, cache: str, lean: bool) -> None:
        """What follows from the model alone."""
        self.adapter, self.model, self.tokenizer = adapter, adapter.model, adapter.tokenizer
        self.scorer, self.stop_strings, self.cache_kind = None, (), cache
        self.device, self.dtype, self.abilities = self.model.device, self.model.dtype, adapter.abilities
        self.vocab_size = int(adapter.head.weight.shape[0])
        self.context_length = int(getattr(adapter.text_config, 'max_position_embeddings', None) or _NO_CONTEXT)
        self.model_ms = 0.0                           # in the model's own modules; what else was done is not in it
        self._taps: dict[int, torch.Tensor | None] = {}              # tapped layer -> its states in the last forward
        self._tap_hooks: list[RemovableHandle] = []
        self._decoder, self._head = adapter.language_model, adapter.head     # found once: they hang deep in the model
        self._style, self._rows = adapter.style, adapter.rows
        self._plain = self._style.plain and self._rows.plain
        self._lean = LeanDecoder(self._decoder) if lean and self._plain and supports(self._decoder) else None
        self._cache_name = 'cache' if 'cache' in signature(self._decoder.forward).parameters else 'past_key_values'
        self._layers = int(adapter.text_config.num_hidden_layers)
        self._pool: list[SequenceCache] = []
        self._layouts = lru_cache(maxsize=_KEPT_LAYOUTS)(self._layout)

    def _set_ids(self, eos_ids: Sequence[int], banned_ids: Sequence[int]) -> None:
        self.eos_ids, self.banned_ids = tuple(eos_ids), tuple(banned_ids)
        self._banned = torch.tensor(self.banned_ids, dtype=torch.long, device=self.device)

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
        return self._timed(self.adapter.encode, layout, group, frames)

    @torch.inference_mode()
    def encode_all(self, layout: Layout, frames: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Rows of every group at once. Raises as `encode` does."""
        check_frames(frames, sum(group.frames for group in layout.groups))
        return self._timed(self.adapter.encode_all, layout, frames)

    def _timed(self, module: Callable[..., T], *args: object, **options: object) -> T:
        """Call a part of the model. On a GPU the time is only that of the launch."""
        start_ns = perf_counter_ns()
        result = module(*args, **options)
        self.model_ms += (perf_counter_ns() - start_ns) / 1e6
        return result

    # -- the decoder ----------------------------------------------------------------------------------------------

    def new_cache(self, layout: Layout, capacity: int) -> SequenceCache:
        """An empty cache for ``capacity`` tokens; one handed back by `release` is used again where it is big enough."""
        if 0 < self._style.limit < capacity:
            raise CrossSpecError(f'prompt, answer and tree must fit the {self._style.limit} tokens up to which the '
                                 f'rotary positions do not depend on the length of a forward, got {capacity}; use '
                                 'fewer frames or lower max_new_tokens')
        for index, cache in enumerate(self._pool):
            if cache.capacity >= capacity:
                del self._pool[index]
                cache.truncate(0)
                break
        else:
            self._pool.clear()                        # all too small for what is asked now: let them go
            cache = SequenceCache(self._layers, capacity, self.cache_kind)
        cache.layout = layout
        return cache

    def release(self, cache: SequenceCache) -> None:
        """Hand a cache back that is no longer needed."""
        cache.layout = None
        if len(self._pool) < _POOLED_CACHES:
            self._pool.append(cache)

    @torch.inference_mode()
    def extend(self, cache: SequenceCache, rows: torch.Tensor) -> None:
        """Prefill: append (T, W) rows causally; no logits are computed."""
        self.states(cache, rows, NO_TREE)

    @torch.inference_mode()
    def verify(self, cache: SequenceCache, rows: torch.Tensor, tree: TokenTree, committed: Sequence[int]) -> Judged:
        """Append (T, W) rows, the last ``len(tree)`` the tree's nodes; see `speculation.target.Target.verify`.

        Raises `CrossSpecError` where logits are not finite.
        """
        states = self.states(cache, rows, tree)
        layers = dict(self._taps)
        logits = self._timed(self._head, states).to(torch.float32)
        logits = self.adapter.finish(logits)
        if not torch.isfinite(logits.sum()):          # one number stands for all: any NaN or infinity is in the sum
            raise CrossSpecError('logits must be finite, got NaN or infinity from the target: '
                                 'its weights, its type or the frames are broken')
        if self.scorer is not None:
            logits = self.scorer(logits, cache.layout.ids, committed, tree)
        logits[:, self._banned] = float('-inf')
        return Judged(logits, states, layers)

    def states(self, cache: SequenceCache, rows: torch.Tensor, tree: TokenTree) -> torch.Tensor:
        """Append (T, W) rows; states (n + 1, D) of the decoder for the row before the tree and its nodes."""
        count, cached, keep = rows.shape[0], cache.length, len(tree) + 1
        cache.room_for(count)
        keys = cached + count if cache.kind == 'dynamic' else cache.capacity
        mask, index = tree_mask(cached, count, tree, keys)
        if self._lean is not None:
            states = self._timed(self._lean.forward, cache, rows, mask, index, keep, self._taps)
        else:
            handed = self._handed(cache, rows, mask, index)
            handed[self._cache_name] = cache.inner
            states = self._timed(self._decoder, **handed, use_cache=True).last_hidden_state[0, -keep:]
            self._taps.update((layer, said[0, -keep:]) for layer, said in self._taps.items())
        cache.grew(count)
        return states

    def tap(self, layers: Sequence[int]) -> None:
        """Keep states after these layers too; see `speculation.target.Target.tap`."""
        wrong = [layer for layer in layers if not 0 <= layer < self._layers]
        if wrong:
            raise CrossSpecError(f'layers must be 0 to {self._layers - 1} of this decoder, got {wrong[0]}')
        modules = getattr(self._decoder, 'layers', ())
        if layers and len(modules) != self._layers:
            raise CrossSpecError(f'the decoder {type(self._decoder).__name__} must have its {self._layers} layers in '
                                 'a row to tell the states between them; use heads that read the last states only')
        for layer in set(layers) - set(self._taps):
            self._taps[layer] = None
            if self._lean is None:
                self._tap_hooks.append(modules[layer].register_forward_hook(partial(self._note, layer)))

    def _note(self, layer: int, module: torch.nn.Module, given: object, said: object) -> None:
        """Hook of a tapped layer: some layers say their states alone, some with other things after them."""
        self._taps[layer] = said[0] if isinstance(said, tuple) else said

    def _handed(self, cache: SequenceCache, rows: torch.Tensor, mask: torch.Tensor,
                index: torch.Tensor) -> dict[str, object]:
        """What transformers' decoder is handed for new rows: embeddings, masks, positions, features for layers."""
        if self._plain:
            return dict(inputs_embeds=rows[None], attention_mask=mask.to(self.device)[None, None],
                        position_ids=index.to(self.device)[None])
        blocks = self._rows.blocks(rows)
        masks = self._style.masks(mask, index, cache.length, None if blocks is None else blocks.cpu(), rows)
        placement = cache.layout.private.placement if cache.layout.private is not None else None
        positions = (index[None] if placement is None else placement.positions(index)).to(self.device)
        handed = dict(inputs_embeds=self._rows.embeddings(rows)[None], attention_mask=masks,
                      position_ids=positions[:, None] if self._style.axes else positions)
        features = self._rows.features(rows)
        if features is not None:
            handed |= self._style.features.handed(*features)
        return handed

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
