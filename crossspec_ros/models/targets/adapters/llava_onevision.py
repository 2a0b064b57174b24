"""`LlavaOnevisionForConditionalGeneration`, video path: pooled patches of each frame, one newline after the last."""
from __future__ import annotations

import math

import torch

from crossspec_ros.models.targets.adapters.clip import ClipAdapter


class LlavaOnevisionAdapter(ClipAdapter):
    """LLaVA-OneVision of any size; its Qwen2 decoder has one-dimensional positions."""

    template = '<|im_start|>user {video}\n{question}<|im_end|><|im_start|>assistant\n'

    def frame_tokens(self) -> int:
        vision = self.model.config.vision_config
        return math.ceil(vision.image_size // vision.patch_size / 2) ** 2

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        packed = self.model.model.get_video_features(pixel_values_videos=pixels[None]).pooler_output
        return packed[0, :-1].unflatten(0, (pixels.shape[0], -1))                        # (n, F, D), newline left out

    def closing(self) -> torch.Tensor:
        return self.model.model.image_newline[None].to(self.model.get_input_embeddings().weight.dtype)
