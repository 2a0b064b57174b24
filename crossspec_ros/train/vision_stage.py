"""Stage 1: the vision tower learns to see, before any word.

A small head reads the CLS tokens of four frames and must name every slot of the caption; the tower therefore packs
into its CLS tokens what the language model will need. Linear heads on a single frame, and on its patches (what stands
there, and its colour, from the true boxes), speed it up several times. Letters: B clips, K frames of a clip, S tokens
of a frame, D width.
"""
from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from crossspec_ros.train.dataset import ClipData, SlotTable
from crossspec_ros.train.verifier_config import FRAMES, IMAGE_SIZE, PATCH_SIZE

_HEAD_LAYERS = 2
_FRAME_WEIGHT, _PATCH_WEIGHT = 0.3, 0.5
_THINGS = ('nothing', 'car', 'van', 'truck', 'bus', 'motorcycle', 'cyclist', 'pedestrian', 'red light', 'green light',
           'stop sign')
_PAINTS = ('none', 'red', 'blue', 'green', 'yellow', 'white', 'black', 'grey')
_SIDE = IMAGE_SIZE // PATCH_SIZE
_PLACE_SCALE = 0.3


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


def patch_labels(boxes: list[list[object]]) -> np.ndarray:
    """int64 (2, patches): thing and paint at each patch's middle in the last frame; smaller boxes lie on top."""
    labels = np.zeros((2, _SIDE, _SIDE), np.int64)
    middle = (np.arange(_SIDE) + 0.5) / _SIDE
    for name, colour, x0, y0, x1, y1 in sorted(boxes, key=lambda box: -(box[4] - box[2]) * (box[5] - box[3])):
        margin = 0.3 / _SIDE                               # thin things count where they cover a good part of a patch
        rows = (middle > y0 - margin) & (middle < y1 + margin)
        columns = (middle > x0 - margin) & (middle < x1 + margin)
        labels[:, rows[:, None] & columns] = [[_THINGS.index(name)], [_PAINTS.index(colour)]]
    return labels.reshape(2, -1)


class VisionTrainee(nn.Module):
    """The tower and the heads that teach it."""

    def __init__(self, tower: PreTrainedModel, slots: SlotTable) -> None:
        super().__init__()
        dim = tower.config.hidden_size
        self.tower = tower
        self.norm = nn.LayerNorm(dim)
        self.when = nn.Embedding(FRAMES, dim)
        self.mixer = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(dim, max(1, dim // 48), 2 * dim, dropout=0.0, activation='gelu',
                                       batch_first=True, norm_first=True), _HEAD_LAYERS, enable_nested_tensor=False)
        self.heads, self.frame_heads = SlotHeads(dim, slots), SlotHeads(dim, slots)
        self.things, self.paints = nn.Linear(dim, len(_THINGS)), nn.Linear(dim, len(_PAINTS))

    def forward(self, frames: Tensor, times: Tensor, labels: Tensor, patches: Tensor,
                ) -> tuple[Tensor, dict[str, float]]:
        """Loss and figures; where K = 1 the head over time is left out.

        ``frames`` (B, K, 3, H, W) at frame numbers ``times`` (K,), ``labels`` (B, slots), ``patches`` (B, 2, S - 1)
        of the last frame.
        """
        seen = self.tower(frames.flatten(0, 1), output_hidden_states=True).hidden_states[-1]
        seen = self.norm(seen).unflatten(0, frames.shape[:2])                                 # (B, K, S, D)
        single, figures = self.frame_heads(seen[:, -1, 0], labels)
        last = seen[:, -1, 1:].flatten(0, 1)
        local = (F.cross_entropy(self.things(last), patches[:, 0].flatten())
                 + F.cross_entropy(self.paints(last), patches[:, 1].flatten()))
        loss = single + _PATCH_WEIGHT * local
        if len(times) > 1:
            whole, figures = self.heads(self.mixer(seen[:, :, 0] + self.when(times)).mean(1), labels)
            loss = whole + _FRAME_WEIGHT * single + _PATCH_WEIGHT * local
        return loss, figures | {'patches': float(local.detach())}


@torch.no_grad()
def start_tower(tower: PreTrainedModel) -> None:
    """Weights to begin with that already tell patches and places apart, in place.

    Filters of the patch embedding: the lowest two-dimensional cosines on grey and two colour differences, weighted by
    frequency since pictures fall off with it. Places: sines and cosines of both axes (Beyer et al., Better plain ViT
    baselines, 2022). Random filters and places cost a small transformer most of a short training.
    """
    weight = tower.embeddings.patch_embedding.weight                                    # (D, 3, P, P)
    dim, size = weight.shape[0], weight.shape[-1]
    wave = torch.cos(math.pi / size * (torch.arange(size) + 0.5)[None] * torch.arange(size)[:, None])
    wave = F.normalize(wave, dim=1)
    order = sorted(((u, v) for u in range(size) for v in range(size)), key=lambda pair: (sum(pair), pair))
    axes = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]), dim=1)
    counts = (dim - 2 * (dim // 4), dim // 4, dim // 4)
    filters = [(1 + u + v) * 2.5 / size * axis[:, None, None] * wave[u][:, None] * wave[v][None]
               for axis, count in zip(axes, counts, strict=True) for u, v in order[:count]]
    weight.copy_(torch.stack(filters))
    waves = 1.0 / 30 ** (torch.arange(dim // 4) / (dim // 4))
    angle = math.pi / 2 * torch.arange(_SIDE)[:, None] * waves
    line = torch.cat((angle.sin(), angle.cos()), 1)                                     # (side, D / 2)
    grid = torch.cat((line[:, None].expand(-1, _SIDE, -1), line[None].expand(_SIDE, -1, -1)), -1).flatten(0, 1)
    places = tower.embeddings.position_embedding.weight
    places[1:] = _PLACE_SCALE * grid
    places[0] = 0.0


class VisionStage:
    """Feeds clips to ``VisionTrainee``: until ``single_until`` of the stage only last frames, which teach things and
    places cheaply; then an early pair of frames and the last pair, so that motion shows. Both take about as long a
    step."""

    def __init__(self, tower: PreTrainedModel, data: ClipData, single_until: float = 0.55) -> None:
        self.module = VisionTrainee(tower, data.slots)
        self._data, self._until = data, single_until

    def loss(self, rng: np.random.Generator, batch: int, done: float) -> tuple[Tensor, dict[str, float]]:
        if done < self._until:
            times = np.array([FRAMES - 1])
        else:
            batch, early = max(1, batch // 4), int(rng.integers(0, 5))
            times = np.array([early, early + 1, FRAMES - 2, FRAMES - 1])
        rows = rng.choice(len(self._data), batch, replace=False)
        patches = torch.from_numpy(np.stack([patch_labels(self._data.boxes[row]) for row in rows]))
        return self.module(pixels(self._data.frames(rows, times)), torch.from_numpy(times),
                           torch.from_numpy(self._data.labels[rows]), patches)
