"""Forwards of a decoder over rows of a sequence, each as long as its rows are.

Shape letters: T new tokens, W row width, D embedding width, n nodes of a tree.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from time import perf_counter_ns
from typing import TypeVar

import torch
from torch.utils.hooks import RemovableHandle

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.models.lean import LeanDecoder, supports
from crossspec_ros.models.targets.adapters.base import Adapter
from crossspec_ros.models.targets.decoding import tree_mask
from crossspec_ros.speculation.tree import TokenTree

T = TypeVar('T')


class DecoderForwards:
    """The decoder of an adapter's model. ``lean``: use `models.lean` where it serves."""

    def __init__(self, adapter: Adapter, lean: bool = True) -> None:
        self.adapter, self.device = adapter, adapter.model.device
        self.decoder, self.head = adapter.language_model, adapter.head         # found once: they hang deep in the model
        self.style, self.rows = adapter.style, adapter.rows
        self.plain = self.style.plain and self.rows.plain
        self.lean = LeanDecoder(self.decoder) if lean and self.plain and supports(self.decoder) else None
        self.layers = int(adapter.text_config.num_hidden_layers)
        self.taps: dict[int, torch.Tensor | None] = {}               # tapped layer -> its states in the last forward
        self.spent_ms = 0.0                           # in the model's own modules; what else was done is not in it
        self._cache_name = 'cache' if 'cache' in signature(self.decoder.forward).parameters else 'past_key_values'
        self._tap_hooks: list[RemovableHandle] = []

    def timed(self, module: Callable[..., T], *args: object, **options: object) -> T:
        """Call a part of the model. On a GPU the time is only that of the launch."""
        start_ns = perf_counter_ns()
        result = module(*args, **options)
        self.spent_ms += (perf_counter_ns() - start_ns) / 1e6
        return result

    def states(self, cache: SequenceCache, rows: torch.Tensor, tree: TokenTree) -> torch.Tensor:
        """Append (T, W) rows; states (n + 1, D) of the decoder for the row before the tree and its nodes."""
        count, cached, keep = rows.shape[0], cache.length, len(tree) + 1
        cache.room_for(count)
        keys = cached + count if cache.kind == 'dynamic' else cache.capacity
        mask, index = tree_mask(cached, count, tree, keys)
        if self.lean is not None:
            states = self.timed(self.lean.forward, cache, rows, mask, index, keep, self.taps)
        else:
            handed = self._handed(cache, rows, mask, index)
            states = self.timed(self.said, cache, handed)[-keep:]
            self.taps.update((layer, said[0, -keep:]) for layer, said in self.taps.items())
        cache.grew(count)
        return states

    def said(self, cache: SequenceCache, handed: dict[str, object]) -> torch.Tensor:
        """States (T, D) of transformers' decoder for what it is handed; those of tapped layers are in ``taps``."""
        return self.decoder(**handed, **{self._cache_name: cache.inner}, use_cache=True).last_hidden_state[0]

    def _handed(self, cache: SequenceCache, rows: torch.Tensor, mask: torch.Tensor,
                index: torch.Tensor) -> dict[str, object]:
        """What transformers' decoder is handed for new rows: embeddings, masks, positions, features for layers."""
        if self.plain:
            return dict(inputs_embeds=rows[None], attention_mask=mask.to(self.device)[None, None],
                        position_ids=index.to(self.device)[None])
        blocks = self.rows.blocks(rows)
        masks = self.style.masks(mask, index, cache.length, None if blocks is None else blocks.cpu(), rows)
        placement = cache.layout.private.placement if cache.layout.private is not None else None
        positions = (index[None] if placement is None else placement.positions(index)).to(self.device)
        handed = dict(inputs_embeds=self.rows.embeddings(rows)[None], attention_mask=masks,
                      position_ids=positions[:, None] if self.style.axes else positions)
        features = self.rows.features(rows)
        if features is not None:
            handed |= self.style.features.handed(*features)
        return handed

    def tap(self, layers: Sequence[int]) -> None:
        """Keep states after these layers too; see `speculation.target.Target.tap`."""
        wrong = [layer for layer in layers if not 0 <= layer < self.layers]
        if wrong:
            raise CrossSpecError(f'layers must be 0 to {self.layers - 1} of this decoder, got {wrong[0]}')
        modules = getattr(self.decoder, 'layers', ())
        if layers and len(modules) != self.layers:
            raise CrossSpecError(f'the decoder {type(self.decoder).__name__} must have its {self.layers} layers in '
                                 'a row to tell the states between them; use heads that read the last states only')
        for layer in set(layers) - set(self.taps):
            self.taps[layer] = None
            if self.lean is None:
                self._tap_hooks.append(modules[layer].register_forward_hook(partial(self._note, layer)))

    def _note(self, layer: int, module: torch.nn.Module, given: object, said: object) -> None:
        """Hook of a tapped layer: some layers say their states alone, some with other things after them."""
        self.taps[layer] = said[0] if isinstance(said, tuple) else said
