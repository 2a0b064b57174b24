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
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crossspec_ros.models.targets.decoding import DecoderStyle
from crossspec_ros.models.targets.packing import RowFormat
from crossspec_ros.speculation.target import Abilities, Layout

_PLACEHOLDERS = ('image_token_id', 'video_token_id', 'image_token_index', 'video_token_index', 'audio_token_id')


@dataclass(frozen=True)
class Parts:
    """What a checkpoint's folder holds. ``fps`` are the frames a second with which frames are taken."""

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fps: float = 8.0


class Adapter(ABC):
    """Between a model and `TransformersTarget`: layouts, rows of frames, and what the decoder is handed."""

    template: str | None = None              # of a prompt, for folders that have none; {video} and {question} in it
    sized = False                            # whether the size of frames matters to a layout
    style = DecoderStyle()
    abilities = Abilities()

    def __init__(self, parts: Parts) -> None:
        self.parts, self.model, self.tokenizer = parts, parts.model, parts.tokenizer
        self.language_model: torch.nn.Module = parts.model.get_decoder()
        self.head: torch.nn.Module = parts.model.get_output_embeddings()
        self.embedding: torch.nn.Module = self.language_model.get_input_embeddings()
        self.text_config = parts.model.config.get_text_config(decoder=True)
        self.rows = RowFormat(self.head.weight.shape[1])

    @property
    def placeholder_ids(self) -> tuple[int, ...]:
        """Ids that stand for pictures in a prompt and can never be part of an answer."""
        found = {getattr(self.model.config, name, None) for name in _PLACEHOLDERS}
        return tuple(sorted(token for token in found if isinstance(token, int)))

    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Rows (T, W) of text tokens."""
        ids = torch.as_tensor(token_ids, dtype=torch.long, device=self.model.device)
        return self.rows.text(self.embedding(ids))

    def finish(self, logits: torch.Tensor) -> torch.Tensor:
        """What the model does to logits (n, V) after its head; a soft cap where its config has one."""
        cap = getattr(self.text_config, 'final_logit_softcapping', None)
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

    @abstractmethod
    def inputs(self, prompt: str, frames: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """What the model's own ``generate`` is given for the same frames and prompt."""
