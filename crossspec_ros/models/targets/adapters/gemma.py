"""Gemma 3 and 4: full and sliding layers, and rows of a frame that see each other forward."""
from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from crossspec_ros.models.targets.adapters.base import Parts
from crossspec_ros.models.targets.adapters.featured import FeaturedAdapter, told
from crossspec_ros.models.targets.decoding import FULL, SLIDING, MaskKind
from crossspec_ros.models.targets.packing import RowFormat


class Gemma3Adapter(FeaturedAdapter):
    """`Gemma3ForConditionalGeneration`: every frame an image of its own."""

    placeholder = 'image_token_id'
    blocks = 'runs'

    def features(self, pixels: dict[str, torch.Tensor]) -> Any:
        return told(self.model.model.get_image_features, pixels)


class Gemma4Adapter(FeaturedAdapter):
    """`Gemma4ForConditionalGeneration` whose layers keep keys and values of their own. Only the big ones let rows of a
    frame see each other, on sliding layers, within the window."""

    blocks = 'runs'

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        kinds = dict(self.style.kinds)
        if getattr(self.text_config, 'use_bidirectional_attention', None) != 'vision':
            kinds = {name: MaskKind(kind.window) for name, kind in kinds.items()}
            self.rows = RowFormat(self.rows.width)
        elif SLIDING in kinds:
            kinds = {FULL: MaskKind(), SLIDING: replace(kinds[SLIDING], cut=True)}
        self.style = replace(self.style, kinds=MappingProxyType(kinds))
