"""`SmolVLMForConditionalGeneration` (SmolVLM2): a time mark before each frame, their number in the introduction."""
from __future__ import annotations

from typing import Any

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets.adapters.featured import FeaturedAdapter, told


class SmolVLMAdapter(FeaturedAdapter):
    """SmolVLM2 of any size. The model drops pictures whose pixels are all zero once they are normalised."""

    placeholder = 'image_token_id'

    def features(self, pixels: dict[str, torch.Tensor]) -> Any:
        return told(self.model.model.get_image_features, pixels)

    def check_pixels(self, pixels: dict[str, torch.Tensor]) -> None:
        if not bool(pixels['pixel_values'].flatten(0, 1).flatten(1).any(1).all()):
            raise CrossSpecError('a frame must show something, got one whose pixels are all zero after normalising, '
                                 'which this model drops')
