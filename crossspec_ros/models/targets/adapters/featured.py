"""Named classes whose frames go through the folder's processor and one method of the model: a group at a time.

The prompt is laid out from its ids, without running the model; so a window opens at once, and a group costs its own
pixels only. Shape letters: T tokens, A rows of positions, F rows of a group, D embedding width, W row width.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets.adapters.base import Parts, Plan
from crossspec_ros.models.targets.adapters.processed import ProcessedAdapter, noise
from crossspec_ros.models.targets.decoding import Placement, style_of
from crossspec_ros.models.targets.packing import RowFormat
from crossspec_ros.models.targets.watching import runs_of
from crossspec_ros.speculation.target import Layout


class FeaturedAdapter(ProcessedAdapter):
    """``placeholder`` names the id in the model's config that stands for a row of pictures, ``axes`` rows of positions
    are handed to the decoder (0: one), ``blocks`` says which rows see each other forward (see `MaskKind`)."""

    placeholder = 'video_token_id'
    axes = 0
    blocks = ''

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.style = style_of(self.text_config, self.axes, self.blocks)
        self.rows = RowFormat(self.rows.width, self.feature_layers(), bool(self.blocks))
        self._token = int(getattr(self.model.config, self.placeholder))

    def feature_layers(self) -> int:
        """Layers of the decoder that are given features of their own."""
        return 0

    def features(self, pixels: dict[str, torch.Tensor]) -> Any:
        """What the model makes of a group's pixels: its output, with ``pooler_output``."""
        return told(self.model.model.get_video_features, pixels)

    def placement(self, inputs: dict[str, torch.Tensor]) -> Placement | None:
        """Where the rows of a prompt stand; None where row k stands at k."""
        return None

    def resized(self, inputs: dict[str, torch.Tensor]) -> tuple[int, int] | None:
        """Height and width, px, to which the processor resizes frames, where that depends on how many they are."""
        return None

    def layout(self, prompt: str, frames: int, height: int, width: int) -> Layout:
        """The prompt, from the ids that the processor makes of it."""
        self.check_count(frames)
        inputs = self.inputs(prompt, noise(frames, height, width))
        ids = inputs['input_ids'][0].tolist()
        places = [row for row, token in enumerate(ids) if token == self._token]
        runs = runs_of(places, frames // self.group_frames)
        if any(end - first != len(places) // len(runs) for first, end in runs):
            raise CrossSpecError('rows of a group of frames must stand side by side, they do not')
        plan = Plan(prompt, (height, width), self.placement(inputs), runs, self.resized(inputs))
        known = [token if token != self._token else 0 for token in ids]          # the row is a picture's in its stead
        return self.cut(ids, self.embed(known), self.group_frames, plan)

    def encode(self, layout: Layout, group: int, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Rows (F, W) of a group from its own pixels."""
        self.check_size(layout, frames)
        pixels = self.pictures.pixels(frames, layout.private.resized)
        self.check_pixels(pixels)
        found = self.features(pixels)
        embeddings = flat(found.pooler_output).to(self.embedding.weight.dtype)
        if len(embeddings) != layout.groups[group].tokens:
            raise CrossSpecError(f'frames must give {layout.groups[group].tokens} rows, got {len(embeddings)}; leave '
                                 'out frames that show nothing')
        return self.rows.pictures(embeddings, [flat(one) for one in getattr(found, 'deepstack_features', None) or ()])

    def check_pixels(self, pixels: dict[str, torch.Tensor]) -> None:
        """Raises `CrossSpecError` for pixels that the model would drop."""


def told(method: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Call a method with those of some values that it has a name for."""
    names = signature(method).parameters
    return method(**{name: value for name, value in values.items() if name in names})


def flat(features: Any) -> torch.Tensor:
    """Features (F, D) out of a tensor with more axes, or a list of such."""
    if isinstance(features, (list, tuple)):
        features = torch.cat([flat(one) for one in features])
    return features.reshape(-1, features.shape[-1])
