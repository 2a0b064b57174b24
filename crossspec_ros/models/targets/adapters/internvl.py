"""`InternVLForConditionalGeneration`: a number before each frame, the same embeddings for images and frames."""
from __future__ import annotations

from typing import Any

import torch

from crossspec_ros.models.targets.adapters.featured import FeaturedAdapter


class InternVLAdapter(FeaturedAdapter):
    """InternVL 3 and 3.5; a Qwen decoder with one-dimensional positions."""

    template = '<|im_start|>user\n{video}\n{question}<|im_end|>\n<|im_start|>assistant\n'
    placeholder = 'image_token_id'

    def features(self, pixels: dict[str, torch.Tensor]) -> Any:
        return self.model.model.get_image_features(pixel_values=pixels['pixel_values_videos'].flatten(0, 1))
