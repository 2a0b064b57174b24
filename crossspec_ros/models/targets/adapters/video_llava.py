"""`VideoLlavaForConditionalGeneration`: (image / patch)^2 + 1 embeddings a frame, the class token kept."""
from __future__ import annotations

import torch

from crossspec_ros.models.targets.adapters.clip import ClipAdapter


class VideoLlavaAdapter(ClipAdapter):
    """Video-LLaVA and checkpoints of its class."""

    def frame_tokens(self) -> int:
        vision = self.model.config.vision_config
        return (vision.image_size // vision.patch_size) ** 2 + 1

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.model.get_video_features(pixel_values_videos=pixels[None]).pooler_output    # (n, F, D)
