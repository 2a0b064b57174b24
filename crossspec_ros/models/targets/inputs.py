"""From a question and frames to what a model's own ``generate`` is given: text, and what a processor makes of it."""
from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.files import one_line
from crossspec_ros.models.loading import load_processor
from crossspec_ros.models.prompts import render, starts_itself
from crossspec_ros.models.vision_ops import require_vision_ops


class Pictures:
    """The folder's own processor, given frames with the times at which they were taken.

    ``video`` says that it takes a clip; else every frame is an image of its own.
    """

    def __init__(self, folder: Path, model: PreTrainedModel, fps: float, fallback: str | None = None,
                 trust_remote_code: bool = False) -> None:
        require_vision_ops(folder)
        self.processor = load_processor(folder, trust_remote_code)
        self.tokenizer = self.processor.tokenizer
        self.video = getattr(self.processor, 'video_processor', None) is not None
        self._folder, self._model, self._fps, self._fallback = folder, model, fps, fallback
        self._marks = self._placeholders()
        asks = 'mm_token_type_ids' in signature(model.forward).parameters       # some processors give them only if told
        self._more = {'return_mm_token_type_ids': True} if asks else {}

    def _placeholders(self) -> tuple[str, ...]:
        """What stands for a picture in a text, the usual one first."""
        kind = 'video' if self.video else 'image'
        names = [getattr(self.processor, f'{kind}_token', None), getattr(self.tokenizer, f'{kind}_token', None)]
        ids = [getattr(self._model.config, f'{kind}_token_{end}', None) for end in ('id', 'index')]
        names += [self.tokenizer.convert_ids_to_tokens(one) for one in ids if isinstance(one, int)]
        marks = tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
        if not marks:
            raise CrossSpecError(f'the processor in {self._folder} must name what stands for a picture in a prompt, '
                                 f'it has no {kind}_token')
        return marks

    def text(self, prompt: str, frames: int) -> str:
        """The prompt for so many frames. Raises `CrossSpecError` where it holds another number of placeholders."""
        mark = next((mark for mark in self._marks if isinstance(prompt, str) and mark in prompt), self._marks[0])
        text = render(self.processor, self.tokenizer, self._folder, prompt, frames, self._fallback, mark,
                      each_frame=not self.video)
        shown = 1 if self.video else frames
        if not self.video and frames > 1 and text.count(mark) == 1:
            text = text.replace(mark, mark * frames)
        if text.count(mark) != shown:
            raise CrossSpecError(f'prompt must hold {mark} {"once" if shown == 1 else f"{shown} times"}, '
                                 f'got {text.count(mark)} times')
        return text

    def __call__(self, prompt: str, frames: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """What ``generate`` is given for frames and prompt, floats in the model's own type."""
        text = self.text(prompt, len(frames))
        if self.video:
            more = dict(videos=[np.stack(frames)], videos_kwargs=dict(
                do_sample_frames=False, return_metadata=True, video_metadata=[self._metadata(frames)]))
        else:
            more = dict(images=[list(frames)])
        if starts_itself(self.tokenizer, text):
            more['add_special_tokens'] = False
        return self._ready(self._tell(self.processor, text=[text], return_tensors='pt', **more, **self._more))

    def pixels(self, frames: Sequence[np.ndarray], resized: tuple[int, int] | None = None) -> dict[str, torch.Tensor]:
        """What the processor makes of some frames alone, without a prompt; ``resized`` (height, width) as in the clip
        that they belong to, where that depends on its length."""
        if not self.video:
            return self._ready(self._tell(self.processor.image_processor, list(frames), return_tensors='pt'))
        processor, clip = self.processor.video_processor, torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
        options = {}
        if resized is not None and processor.do_resize:
            clip, options = _resize(processor, clip, *resized), {'do_resize': False}
        return self._ready(self._tell(processor, videos=[clip], do_sample_frames=False, return_tensors='pt', **options))

    def _metadata(self, frames: Sequence[np.ndarray]) -> object:
        from transformers.video_utils import VideoMetadata
        count = len(frames)
        return VideoMetadata(total_num_frames=count, fps=self._fps, frames_indices=list(range(count)),
                             height=frames[0].shape[0], width=frames[0].shape[1], duration=count / self._fps)

    def _tell(self, processor: object, *arguments: object, **options: object) -> dict[str, object]:
        try:
            return dict(processor(*arguments, **options))
        except Exception as error:                    # processors raise what they like for frames they cannot take
            raise CrossSpecError(f'the processor in {self._folder} cannot take these frames and this prompt: '
                                 f'{one_line(error)}') from error

    def _ready(self, inputs: dict[str, object]) -> dict[str, torch.Tensor]:
        """Tensors on the model's device, pixels in its type; lists of numbers as tensors, other things left out."""
        inputs = {name: torch.tensor(value) if isinstance(value, list) and value and isinstance(value[0], (int, float))
                  else value for name, value in inputs.items()}
        return {name: value.to(self._model.device, self._model.dtype) if value.is_floating_point() and 'pixel' in name
                else value.to(self._model.device) for name, value in inputs.items() if isinstance(value, torch.Tensor)}


def _resize(processor: object, clip: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Frames uint8 (n, 3, H, W) in another size, as the processor itself does it once it has chosen that size."""
    from transformers.image_utils import SizeDict
    from transformers.video_processing_utils import BaseVideoProcessor
    return BaseVideoProcessor.resize(processor, image=clip[None], size=SizeDict(height=height, width=width),
                                     resample=processor.resample)[0]
