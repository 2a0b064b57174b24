"""The Qwen-VL line and its look-alikes: frames in pairs, resized by the clip's length, positions in three rows.

Shape letters: T tokens.
"""
from __future__ import annotations

import torch

from crossspec_ros.models.targets.adapters.featured import FeaturedAdapter, told
from crossspec_ros.models.targets.decoding import Placement


class Qwen2VLAdapter(FeaturedAdapter):
    """Qwen2-VL and Qwen2.5-VL: one run of placeholders; positions count frames, rows and columns (2409.12191)."""

    template = '<|im_start|>user\n<|vision_start|>{video}<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n'
    axes = 3

    @property
    def group_frames(self) -> int:
        """Frames that the vision tower merges to one."""
        return int(self.pictures.processor.video_processor.temporal_patch_size)

    def placement(self, inputs: dict[str, torch.Tensor]) -> Placement:
        """The model's own positions of pictures and text."""
        positions, delta = told(self.model.model.get_rope_index, inputs)
        return Placement(positions[:, 0].cpu(), delta.reshape(1, 1).expand(len(positions), 1).cpu())

    def resized(self, inputs: dict[str, torch.Tensor]) -> tuple[int, int]:
        _, rows, columns = inputs['video_grid_thw'][0].tolist()
        patch = int(self.pictures.processor.video_processor.patch_size)
        return rows * patch, columns * patch


class Qwen3VLAdapter(Qwen2VLAdapter):
    """Qwen3-VL and what has its architecture (Cosmos-Reason2 and others): a time mark before each pair, and features of
    the tower's middle for the decoder's first layers (DeepStack, 2406.04334)."""

    def feature_layers(self) -> int:
        return len(self.model.config.vision_config.deepstack_visual_indexes)


class Cosmos3EdgeAdapter(Qwen2VLAdapter):
    """Cosmos3-Edge: frames one by one, a time mark before each, no DeepStack."""

    @property
    def group_frames(self) -> int:
        return 1
