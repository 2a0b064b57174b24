"""What a target needs to know of a class of models; one adapter a class, or the one that learns.

Shape letters: T tokens, D embedding width, W row width.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.devices import sent
from crossspec_ros.models.targets.decoding import Placement, style_of
from crossspec_ros.models.targets.packing import RowFormat
from crossspec_ros.speculation.target import Abilities, Layout

_PLACEHOLDERS = ('image_token_id', 'video_token_id', 'image_token_index', 'video_token_index', 'audio_token_id')


@dataclass(frozen=True)
class Parts:
    """What a checkpoint's folder holds. ``fps`` are the frames a second with which frames are taken; ``quantization``
    is the kind that weights were turned into, ``coarse`` says that activations are rounded (`models.quantization`)."""

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fps: float = 8.0
    trust_remote_code: bool = False
    quantization: str = 'none'
    coarse: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """`Layout.private`: where rows stand (None: row k at k), the runs of rows of each group, and how frames come there.

    ``size`` is (height, width) of the frames, px, ``resized`` what the processor makes of it (None: whatever it does).
    ``single`` are the length of the prompt and the run of its rows where a group is shown alone (None: a group's rows
    are then others, so that it is shown in a whole clip).
    """

    prompt: str
    size: tuple[int, int]
    placement: Placement | None
    runs: tuple[tuple[int, int], ...]
    resized: tuple[int, int] | None = None
    single: tuple[int, tuple[int, int]] | None = None


class Adapter(ABC):
    """Between a model and `TransformersTarget`: layouts, rows of frames, and what the decoder is handed."""

    template: str | None = None              # of a prompt, for folders that have none; {video} and {question} in it
    group_frames = 1                         # frames that share their rows
    sized = False                            # whether the size of frames matters to a layout
    bare = False                             # logits are what the head gives, whatever the config says
    abilities = Abilities()

    def __init__(self, parts: Parts) -> None:
        self.parts, self.model, self.tokenizer = parts, parts.model, parts.tokenizer
        self.language_model: torch.nn.Module = parts.model.get_decoder()
        self.head: torch.nn.Module | None = parts.model.get_output_embeddings()
        self.embedding: torch.nn.Module | None = self.language_model.get_input_embeddings()
        if self.head is None or self.embedding is None:
            raise CrossSpecError(f'the model must have a decoder with embeddings and a head for tokens, '
                                 f'{type(parts.model).__name__} has none')
        self.text_config = parts.model.config.get_text_config(decoder=True)
        self.rows = RowFormat(self.embedding.weight.shape[1])
        self.style = style_of(self.text_config)
        self._finish = _finish_of(self.text_config)

    @property
    def placeholder_ids(self) -> tuple[int, ...]:
        """Ids that stand for pictures in a prompt and can never be part of an answer."""
        found = {getattr(self.model.config, name, None) for name in _PLACEHOLDERS}
        return tuple(sorted(token for token in found if isinstance(token, int)))

    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Rows (T, W) of text tokens."""
        return self.rows.text(self.embedding(sent(token_ids, self.model.device)))

    @property
    def finishes(self) -> bool:
        """Whether `finish` does anything."""
        return not self.bare and self._finish is not None

    def finish(self, logits: torch.Tensor) -> torch.Tensor:
        """What the model does to logits (n, V) after its head: scales and a soft cap where its config has them, unless
        ``bare`` says that it does not."""
        if not self.finishes:
            return logits
        factor, cap = self._finish
        logits = logits * factor
        return torch.tanh(logits / cap) * cap if cap else logits

    @abstractmethod
    def layout(self, prompt: str, frames: int, height: int, width: int) -> Layout:
        """The prompt cut into segments; ``private`` is a `Placement`, or None where row k stands at k."""

    @abstractmethod
    def encode(self, layout: Layout, group: int, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Rows (T, W) of a group from its frames."""

    def encode_all(self, layout: Layout, frames: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Rows of every group; group by group where nothing else is said."""
        return [self.encode(layout, number, frames[group.first:group.first + group.frames])
                for number, group in enumerate(layout.groups)]

    def disagreement(self, prompt: str, frames: Sequence[np.ndarray]) -> str | None:
        """How `inputs` are others than those of the folder's processor, in words; None where they are the same."""
        return None

    @abstractmethod
    def inputs(self, prompt: str, frames: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """What the model's own ``generate`` is given for the same frames and prompt."""


def _finish_of(config: PreTrainedConfig) -> tuple[float, float | None] | None:
    """By what logits are multiplied and where they are capped softly, as a decoder's config says; None for neither."""
    cap, divisor = getattr(config, 'final_logit_softcapping', None), getattr(config, 'logits_scaling', None)
    factor = (getattr(config, 'logit_scale', None) or 1.0) / (divisor or 1.0)
    return None if factor == 1.0 and not cap else (factor, cap)
