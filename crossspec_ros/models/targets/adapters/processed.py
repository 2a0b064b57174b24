"""What adapters share whose frames go through the folder's own processor.

Shape letters: T tokens, W row width, D embedding width, F rows of a group.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets.adapters.base import Adapter, Parts, Plan
from crossspec_ros.models.targets.inputs import Pictures
from crossspec_ros.speculation.target import FrameGroup, Layout, Text


class ProcessedAdapter(Adapter):
    """A prompt and its frames by the processor of the folder; ``group_frames`` frames share their rows."""

    sized = True

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.pictures = Pictures(parts.folder, parts.model, parts.fps, self.template, parts.trust_remote_code)

    def inputs(self, prompt: str, frames: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """What ``generate`` is given for the same frames and prompt."""
        return self.pictures(prompt, frames)

    def check_count(self, frames: int) -> None:
        """Raises `CrossSpecError` for frames that do not make whole groups."""
        if frames % self.group_frames:
            raise CrossSpecError(f'window_frames must be divisible by {self.group_frames}, since this model merges '
                                 f'{self.group_frames} frames, got {frames}')

    def cut(self, ids: Sequence[int], rows: torch.Tensor, group_frames: int, plan: Plan) -> Layout:
        """The layout of a prompt with rows (T, W), whose groups stand at ``plan.runs``."""
        segments: list[Text | FrameGroup] = []
        at = 0
        for number, (first, end) in enumerate(plan.runs):
            if first > at:
                segments.append(Text(rows[at:first].clone()))
            segments.append(FrameGroup(number * group_frames, group_frames, end - first))
            at = end
        segments.append(Text(rows[at:].clone()))
        question = tuple(token for token in ids[at:] if token not in self.placeholder_ids)
        return Layout(tuple(segments), tuple(ids), question, plan)

    @staticmethod
    def check_size(layout: Layout, frames: Sequence[np.ndarray]) -> None:
        """Raises `CrossSpecError` for frames of another size than the layout was made for."""
        for frame in frames:
            if frame.shape[:2] != layout.private.size:
                raise CrossSpecError(f'rgb must be {layout.private.size[0]} x {layout.private.size[1]} px as the first '
                                     f'frame of the window, got {frame.shape[0]} x {frame.shape[1]}')


def noise(count: int, height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    """Frames of noise, uint8 (H, W, 3): no two alike, no row of theirs by chance that of a still picture."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]
