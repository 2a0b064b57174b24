"""What a supported model class has to say about itself.

Shape letters: n frames, F tokens a frame, C closing tokens, D embedding width, h and w pixels.
"""
from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from transformers import PreTrainedModel


class Adapter(ABC):
    """The parts of a checkpoint that differ between classes; the rest of the verifier is common."""

    template: str = 'USER: {video}\n{question} ASSISTANT:'

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.text_config = model.config.text_config

    @property
    def language_model(self) -> torch.nn.Module:
        """The decoder without its head: takes ``inputs_embeds``, a 4D mask, positions and a cache."""
        return self.model.model.language_model

    @property
    def head(self) -> torch.nn.Module:
        """From the decoder's states to logits."""
        return self.model.lm_head

    @property
    def video_token_id(self) -> int:
        """The placeholder that the prompt holds once for each video embedding."""
        return self.model.config.video_token_id

    @property
    def placeholder_ids(self) -> tuple[int, ...]:
        """Ids that stand for pictures in a prompt and can never be part of an answer."""
        return tuple({self.model.config.video_token_id, self.model.config.image_token_id})

    @abstractmethod
    def frame_tokens(self) -> int:
        """F: embeddings of one frame."""

    @abstractmethod
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, F, D) of frames (n, 3, h, w)."""

    def closing(self) -> torch.Tensor:
        """Embeddings (C, D) that follow the last frame; none by default."""
        weight = self.model.get_input_embeddings().weight
        return weight.new_empty(0, weight.shape[1])
