"""Classes whose frames are resized alike, stand in one run of placeholders, and need no processor of transformers.

Their preprocessing is `FramePreprocessor`, so that they serve where torchvision is not installed. Shape letters: n
frames, F tokens a frame, C closing tokens, D embedding width, h and w pixels.
"""
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.loading import check_placeholder, try_black_frame
from crossspec_ros.models.preprocessing import load_preprocessor
from crossspec_ros.models.prompts import render, starts_itself
from crossspec_ros.models.targets.adapters.base import Adapter, Parts
from crossspec_ros.models.targets.inputs import Pictures
from crossspec_ros.speculation.target import FrameGroup, Layout, Text


class ClipAdapter(Adapter):
    """One frame a group, groups side by side, ``closing`` embeddings after the last."""

    template = 'USER: {video}\n{question} ASSISTANT:'

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.preprocessor = load_preprocessor(parts.folder)
        self.video_token_id = int(self.model.config.video_token_id)
        check_placeholder(self.tokenizer, self.video_token_id, parts.folder)
        self._placeholder = self.tokenizer.convert_ids_to_tokens(self.video_token_id)

    @abstractmethod
    def frame_tokens(self) -> int:
        """F: embeddings of one frame."""

    @abstractmethod
    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, F, D) of frames (n, 3, h, w)."""

    def closing(self) -> torch.Tensor:
        """Embeddings (C, D) that follow the last frame; none by default."""
        weight = self.model.get_input_embeddings().weight
        return torch.empty(0, weight.shape[1], dtype=weight.dtype, device=weight.device)

    def layout(self, prompt: str, frames: int, height: int, width: int) -> Layout:
        """The prompt; the size of the frames does not matter."""
        size, closing = self.frame_tokens(), self.closing()
        ids = self.input_ids(prompt, frames)
        first, count = ids.index(self.video_token_id), frames * size + len(closing)
        if any(token != self.video_token_id for token in ids[first:first + count]):
            raise CrossSpecError(f'prompt must hold {count} video placeholders in one run, got {ids.count(ids[first])}')
        tail = ids[first + count:]
        prefix = (Text(self.embed(ids[:first])),) if first else ()
        groups = tuple(FrameGroup(slot, 1, size) for slot in range(frames))
        if not tail:
            raise CrossSpecError('prompt must go on after the video with a question, got nothing there')
        return Layout((*prefix, *groups, Text(torch.cat([closing, self.embed(tail)]))), ids, tail)

    def input_ids(self, prompt: str, frames: int) -> tuple[int, ...]:
        """The whole prompt as the model's own processor tokenises it, one placeholder an embedding."""
        video = self._placeholder
        text = render(None, self.tokenizer, self.parts.folder, prompt, frames, self.template, video)
        if text.count(video) != 1:
            raise CrossSpecError(f'prompt must hold {video} once, got {text.count(video)} times')
        count = frames * self.frame_tokens() + len(self.closing())
        return tuple(self.tokenizer(text.replace(video, video * count),
                                    add_special_tokens=not starts_itself(self.tokenizer, text))['input_ids'])

    def disagreement(self, prompt: str, frames: Sequence[np.ndarray]) -> str | None:
        """What the folder's own processor, where it can be loaded, makes of a prompt and frames in another way.

        Raises `CrossSpecError` where the vision tower does not take what the processor files ask for.
        """
        try_black_frame(self.parts.folder, lambda frame: self.encode(None, 0, [frame]), self.frame_tokens())
        try:
            theirs = Pictures(self.parts.folder, self.model, self.parts.fps, self.template,
                              self.parts.trust_remote_code)(prompt, frames)
        except CrossSpecError:                         # no torchvision, or a folder without a whole processor
            return None
        ours = self.inputs(prompt, frames)
        for name, value in ours.items():
            other = theirs.get(name)
            if other is None or other.shape != value.shape or bool((other.float() - value.float()).abs().max() > 1e-5):
                return f'the processor in {self.parts.folder} makes other {name}'
        return None

    def encode(self, layout: Layout | None, group: int, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Embeddings (F, D) of the group's frame."""
        pixels = self.preprocessor(frames[0])[None].to(self.model.device, self.model.dtype)
        return self.features(pixels)[0]

    def inputs(self, prompt: str, frames: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """What the class's own processor makes of frames and prompt, bit for bit."""
        device = self.model.device
        ids = torch.tensor([self.input_ids(prompt, len(frames))], device=device)
        pixels = torch.stack([self.preprocessor(frame) for frame in frames])[None].to(device, self.model.dtype)
        return dict(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values_videos=pixels)
