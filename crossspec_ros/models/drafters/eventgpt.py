"""EventGPT (Liu et al., EventGPT: Event Stream Understanding with Multimodal Large Language Models, CVPR 2025).

Five pictures of events go through a CLIP tower (its last states, class token kept, no closing norm), two linear layers
and an adaptor, once; the decoder, a plain Llama, reads the mean of each picture, then the mean of all pictures place by
place: 5 + 577 rows for the published weights.

Letters: n pictures, S states of the tower for a picture, D embedding width, h and w pixels.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from crossspec_ros.models.preprocessing import FramePreprocessor
from crossspec_ros.models.processor_fields import WITHOUT_TORCHVISION
from crossspec_ros.models.targets.adapters.base import Adapter, Parts
from crossspec_ros.speculation.drafter import EventCanvases
from crossspec_ros.speculation.target import FrameGroup, Layout, Text

PICTURES = 5
VIEW = EventCanvases(PICTURES, span_ms=99.9)        # the original refuses streams of 100 ms and more
PATCH, START, END = '<ev_patch>', '<ev_start>', '<ev_end>'
_SYSTEM = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
           "detailed, and polite answers to the user's questions.")
_BEFORE, _AFTER = f'{_SYSTEM} USER: {START}', END + '\n{question} ASSISTANT:'
_NO_TOKEN = 0                                       # stands for a row of pictures in the prompt's ids


class EventVision(nn.Module):
    """From pixels (n, 3, h, w) to rows (n + S, D) of the decoder; ``adapted``: the weights hold an adaptor."""

    def __init__(self, tower: CLIPVisionConfig, width: int, adapted: bool) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(tower)
        self.projector = nn.Sequential(nn.Linear(tower.hidden_size, width), nn.GELU(), nn.Linear(width, width))
        self.adaptor = nn.Linear(width, width) if adapted else nn.Identity()
        self.states = (tower.image_size // tower.patch_size) ** 2 + 1

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.adaptor(self.projector(self.tower(pixels).last_hidden_state))       # (n, S, D)
        return torch.cat([features.mean(1), features.mean(0)])


def preprocessor_of(size: int) -> FramePreprocessor:
    """CLIP's own preprocessing to ``size`` pixels: shorter side, centre crop, CLIP's colours."""
    clip = WITHOUT_TORCHVISION['VideoLlavaVideoProcessor']
    return FramePreprocessor(size, None, (size, size), 'bicubic', clip['rescale_factor'], clip['image_mean'],
                             clip['image_std'])


class EventGPTAdapter(Adapter):
    """All pictures are one group: each row of the second part depends on all of them."""

    def __init__(self, parts: Parts, vision: EventVision) -> None:
        super().__init__(parts)
        self.vision = vision
        self._preprocessor = preprocessor_of(vision.tower.config.image_size)

    @property
    def placeholder_ids(self) -> tuple[int, ...]:
        """Ids of the marks around the pictures, where the vocabulary has them."""
        vocabulary = self.tokenizer.get_vocab()
        return tuple(sorted(vocabulary[mark] for mark in (PATCH, START, END) if mark in vocabulary))

    def layout(self, prompt: str, frames: int, height: int, width: int) -> Layout:
        """The prompt around so many pictures; their size does not matter."""
        before = self.tokenizer(_BEFORE)['input_ids']
        after = self.tokenizer(_AFTER.replace('{question}', prompt))['input_ids']
        first = self.tokenizer.bos_token_id
        if first is not None and before[:1] == [first]:
            after = after[1:]                                        # each part is given a start of its own
        rows = frames + self.vision.states
        return Layout((Text(self.embed(before)), FrameGroup(0, frames, rows), Text(self.embed(after))),
                      (*before, *(_NO_TOKEN,) * rows, *after), tuple(after))

    def encode(self, layout: Layout, group: int, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Rows (n + S, D) of the pictures."""
        pixels = torch.stack([self._preprocessor(frame) for frame in frames])
        return self.vision(pixels.to(self.model.device, self.model.dtype)).to(self.model.dtype)

    def inputs(self, prompt: str, frames: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """What the decoder's own ``generate`` is given: rows, and an id for each."""
        layout = self.layout(prompt, len(frames), 0, 0)
        pictures = self.encode(layout, 0, frames)
        rows = torch.cat([pictures if isinstance(part, FrameGroup) else part.rows for part in layout.segments])
        ids = torch.tensor([layout.ids], device=self.model.device)
        return dict(input_ids=ids, inputs_embeds=rows[None], attention_mask=torch.ones_like(ids))
