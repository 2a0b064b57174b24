"""What the frozen tower sees of every training clip, computed once. Letters: N clips, F frames, S tokens, D width."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import VideoLlavaForConditionalGeneration

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.train.dataset import ClipData
from crossspec_ros.train.loop import progress_bar
from crossspec_ros.train.team import Team
from crossspec_ros.train.verifier_config import FRAMES, TOKENS_PER_FRAME
from crossspec_ros.train.vision_stage import pixels

_BATCH = 8


@torch.inference_mode()
def tower_features(model: VideoLlavaForConditionalGeneration, frames: Tensor) -> Tensor:
    """Tokens (B, F, S, D) float16 of ``frames`` (B, F, 3, H, W) before the projector."""
    layer = model.config.vision_feature_layer
    seen = model.model.video_tower(frames.flatten(0, 1), output_hidden_states=True).hidden_states[layer]
    return seen.unflatten(0, frames.shape[:2]).half()


def new_features(path: Path, clips: int, dim: int) -> None:
    """An empty array for ``write_features`` to fill."""
    np.lib.format.open_memmap(path, 'w+', np.float16, (clips, FRAMES, TOKENS_PER_FRAME, dim)).flush()


def write_features(model: VideoLlavaForConditionalGeneration, data: ClipData, path: Path, team: Team) -> None:
    """Fill this process's part of the array at ``path``."""
    stored = np.load(path, mmap_mode='r+')
    with progress_bar(team.leads) as bar:
        task = bar.add_task('features', total=len(data), note='clips')
        for start in range(team.rank * _BATCH, len(data), team.size * _BATCH):
            rows = range(start, min(start + _BATCH, len(data)))
            stored[start:rows.stop] = tower_features(model, pixels(data.frames(rows))).numpy()
            bar.update(task, completed=rows.stop)
    stored.flush()


def read_features(path: Path) -> np.ndarray:
    """(N, F, S, D) float16 as a memory map; raises CrossSpecError where the file is missing or cut."""
    try:
        return np.load(path, mmap_mode='r')
    except (OSError, ValueError) as error:
        raise CrossSpecError(f'cannot read {path} ({error}): run the stage features again') from error
