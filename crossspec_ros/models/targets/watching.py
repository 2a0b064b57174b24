"""What a model's own ``generate`` hands its decoder, seen from outside.

Shape letters: T tokens, D embedding width, A rows of positions, P rows of pictures, V logits width.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, StaticLayer, StaticSlidingWindowLayer

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.files import one_line
from crossspec_ros.models.targets.decoding import FeatureForm

_KNOWN = {'inputs_embeds', 'position_ids', 'attention_mask', 'cache', 'past_key_values', 'use_cache', 'return_dict',
          'cache_position', 'logits_to_keep', 'input_ids', 'output_attentions', 'output_hidden_states'}
_PLAIN_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer, StaticLayer, StaticSlidingWindowLayer)


class _Enough(Exception):
    """Leaves ``generate`` once the decoder's arguments have been seen."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One call of the decoder: embeddings (T, D), positions (A, T) and whether they came in several rows, masks by
    layer type ('' where there is one for all), features (P, D) for the first layers, their rows, bool (T,), and form.

    ``more`` names arguments that are none of these; ``recurrent`` those kinds of layers of the cache that are not keys
    and values alone.
    """

    embeddings: torch.Tensor
    positions: torch.Tensor | None
    axes: int
    masks: Mapping[str, torch.Tensor]
    features: tuple[torch.Tensor, list[torch.Tensor]] | None
    form: FeatureForm | None
    more: tuple[str, ...]
    recurrent: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Said:
    """An answer: its tokens, what the decoder was handed at each call, and the logits (tokens, V) float32, also as the
    head gave them (``raw``)."""

    tokens: tuple[int, ...]
    seen: tuple[Seen, ...]
    logits: torch.Tensor
    raw: torch.Tensor


class Watcher:
    """Runs ``generate`` and looks at the decoder."""

    def __init__(self, model: PreTrainedModel, decoder: torch.nn.Module, head: torch.nn.Module) -> None:
        self._model, self._decoder, self._head = model, decoder, head

    def prefill(self, inputs: Mapping[str, torch.Tensor]) -> Seen:
        """What the decoder is handed for the prompt; nothing after that is computed."""
        seen: list[Seen] = []

        def look(module: torch.nn.Module, arguments: tuple, handed: dict[str, object]) -> None:
            seen.append(_look(handed))
            raise _Enough
        with self._hooked(look):
            try:
                self._generate(inputs, 2)
            except _Enough:
                pass
        if not seen:
            raise CrossSpecError('the model must run its decoder in generate, it does not')
        return seen[0]

    def answer(self, inputs: Mapping[str, torch.Tensor], count: int) -> Said:
        """The first ``count`` tokens of the answer, an end token not allowed."""
        seen: list[Seen] = []
        raw: list[torch.Tensor] = []

        def look(module: torch.nn.Module, arguments: tuple, handed: dict[str, object]) -> None:
            seen.append(_look(handed))

        def hear(module: torch.nn.Module, arguments: tuple, logits: torch.Tensor) -> None:
            raw.append(logits.reshape(-1, logits.shape[-1])[-1:])
        handle = self._head.register_forward_hook(hear)
        try:
            with self._hooked(look):
                output = self._generate(inputs, count)
        finally:
            handle.remove()
        tokens = output.sequences[0, -len(output.logits):].tolist()
        logits, raw = (torch.cat(list(part)).to(torch.float32) for part in (output.logits, raw))
        return Said(tuple(tokens), tuple(seen), logits, raw)

    @contextmanager
    def _hooked(self, look: object) -> Iterator[None]:
        handle = self._decoder.register_forward_pre_hook(look, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _generate(self, inputs: Mapping[str, torch.Tensor], count: int) -> object:
        own = self._model.generation_config
        self._model.generation_config = watched = deepcopy(own)
        watched.stop_strings = None                   # would ask for the tokenizer, and end the answer too early
        try:
            return self._model.generate(
                **inputs, do_sample=False, num_beams=1, max_new_tokens=count, min_new_tokens=count, use_cache=True,
                return_dict_in_generate=True, output_logits=True, pad_token_id=self._padding())
        except (_Enough, CrossSpecError):
            raise
        except Exception as error:                    # whatever a class raises for inputs of its own processor
            raise CrossSpecError(f'{type(self._model).__name__} cannot answer what its own processor gives it: '
                                 f'{one_line(error)}') from error
        finally:
            self._model.generation_config = own

    def _padding(self) -> int:
        """An id to pad with: not needed for one sequence, but transformers warns each time where there is none."""
        config = self._model.generation_config
        end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
        return next((token for token in (config.pad_token_id, end) if token is not None), 0)


def _look(handed: Mapping[str, object]) -> Seen:
    embeddings, positions = handed.get('inputs_embeds'), handed.get('position_ids')
    if not isinstance(embeddings, torch.Tensor) or embeddings.ndim != 3:
        raise CrossSpecError('the decoder must be handed embeddings (inputs_embeds), it is given token ids: what '
                             'stands for frames cannot be told apart')
    axes = positions.shape[0] if positions is not None and positions.ndim == 3 else 0
    if positions is not None:
        positions = positions[:, 0] if axes else positions[:1]
    masks = handed.get('attention_mask')
    masks = masks if isinstance(masks, dict) else {'': masks}
    masks = {name: mask for name, mask in masks.items() if isinstance(mask, torch.Tensor) and mask.ndim == 4}
    more = {name: value for name, value in handed.items()
            if name not in _KNOWN and isinstance(value, (torch.Tensor, list, tuple, dict)) and len(value)}
    form = _feature_form(more, embeddings)
    features = None
    if form is not None:
        mask, layers = more.pop(form.mask), more.pop(form.features)
        features = (mask[0].reshape(embeddings.shape[1], -1)[:, 0],
                    list(layers.values() if isinstance(layers, dict) else layers))
    cache = handed.get('cache') if handed.get('cache') is not None else handed.get('past_key_values')
    layers = getattr(cache, 'layers', ())
    recurrent = tuple(sorted({type(layer).__name__ for layer in layers if type(layer) not in _PLAIN_LAYERS}))
    return Seen(embeddings[0], positions, axes, masks, features, form, tuple(sorted(more)), recurrent)


def _feature_form(more: Mapping[str, object], embeddings: torch.Tensor) -> FeatureForm | None:
    """How features for the first layers are among further arguments: a bool for each row, and for each layer as many
    rows of the embeddings' width. None where no two arguments are that."""
    _, count, width = embeddings.shape
    masks = {name: value for name, value in more.items() if isinstance(value, torch.Tensor)
             and value.dtype == torch.bool and value.shape in ((1, count), (1, count, 1), (1, count, width))}
    for mask_name, mask in masks.items():
        rows = int(mask[0].reshape(count, -1)[:, 0].sum())
        for name, value in more.items():
            layers = list(value.values()) if isinstance(value, dict) else value
            if isinstance(layers, (list, tuple)) and all(
                    isinstance(one, torch.Tensor) and one.shape == (rows, width) for one in layers):
                return FeatureForm(mask_name, name, tuple(value) if isinstance(value, dict) else None,
                                   mask.ndim == 3 and mask.shape[2] == width)
    return None


def changed(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Which rows differ, bool (T,), of two tensors (T, W)."""
    return (one != other).any(1)


def runs_of(rows: Sequence[int], parts: int) -> tuple[tuple[int, int], ...]:
    """Rows, rising, in so many equal parts, as (first, end) of each. Raises `CrossSpecError` for a remainder."""
    if not rows or len(rows) % parts:
        raise CrossSpecError(f'rows of frames must split evenly into {parts} groups, got {len(rows)} rows')
    size = len(rows) // parts
    return tuple((rows[part * size], rows[part * size + size - 1] + 1) for part in range(parts))
