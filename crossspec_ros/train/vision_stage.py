"""Stage 1: the vision tower learns to see, before any word.

A small head reads the CLS tokens of four frames and must name every slot of the caption; the tower therefore packs into its
CLS tokens what the language model will need. Linear heads on single frames speed it up.
Letters: B clips, K frames of a clip, S tokens of a frame, D width.
"""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from crossspec_ros.train.dataset import ClipData, SlotTable
from crossspec_ros.train.verifier_config import FRAMES

_HEAD_LAYERS = 2
_FRAME_WEIGHT = 0.3


def pixels(frames: np.ndarray) -> Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [-1, 1], as the checkpoint's processor normalises."""
    return torch.from_numpy(frames).movedim(-1, -3).float().div_(127.5).sub_(1.0)


class SlotHeads(nn.Module):
    """A linear head for each slot over one vector."""

    def __init__(self, dim: int, slots: SlotTable) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(dim, len(values)) for values in slots.values.values())
        self.names = tuple(slots.values)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Mean cross entropy of ``x`` (B, D) against ``labels`` (B, slots), and accuracies by slot."""
        losses, figures = [], {}
        for index, (name, head) in enumerate(zip(self.names, self.heads, strict=True)):
            logits = head(x)
            losses.append(F.cross_entropy(logits, labels[:, index]))
            figures[f'acc_{name}'] = float((logits.detach().argmax(-1) == labels[:, index]).float().mean())
        return torch.stack(losses).mean(), figures


class VisionTrainee(nn.Module):
    """The tower and the heads that teach it."""

    def __init__(self, tower: PreTrainedModel, slots: SlotTable) -> None:
        super().__init__()
        dim = tower.config.hidden_size
        self.tower = tower
        self.norm = nn.LayerNorm(dim)
        self.when = nn.Embedding(FRAMES, dim)
        self.mixer = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(dim, max(1, dim // 48), 2 * dim, dropout=0.0, activation='gelu', batch_first=True,
                                       norm_first=True), _HEAD_LAYERS, enable_nested_tensor=False)
        self.heads, self.frame_heads = SlotHeads(dim, slots), SlotHeads(dim, slots)

    def forward(self, frames: Tensor, times: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss and figures of ``frames`` (B, K, 3, H, W) at frame numbers ``times`` (K,) with ``labels`` (B, slots)."""
        clips, count = frames.shape[:2]
        seen = self.tower(frames.flatten(0, 1), output_hidden_states=True).hidden_states[-1][:, 0]
        seen = self.norm(seen).unflatten(0, (clips, count))                                   # (B, K, D)
        whole, figures = self.heads(self.mixer(seen + self.when(times)).mean(1), labels)
        single, _ = self.frame_heads(seen[:, -1], labels)
        return whole + _FRAME_WEIGHT * single, figures


class VisionStage:
    """Feeds clips to ``VisionTrainee``: each step two pairs of neighbouring frames a clip, so that motion shows."""

    def __init__(self, tower: PreTrainedModel, data: ClipData) -> None:
        self.module = VisionTrainee(tower, data.slots)
        self._data = data

    def loss(self, rng: np.random.Generator, batch: int, done: float) -> tuple[Tensor, dict[str, float]]:
        rows = rng.choice(len(self._data), batch, replace=False)
        early, late = int(rng.integers(0, 3)), int(rng.integers(4, 7))
        times = np.array([early, early + 1, late, late + 1])
        labels = torch.from_numpy(self._data.labels[rows])
        return self.module(pixels(self._data.frames(rows, times)), torch.from_numpy(times), labels)
