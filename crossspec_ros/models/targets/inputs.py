"""From a question and frames to what a model's own ``generate`` is given: text, and what a processor makes of it."""
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.vision_ops import require_vision_ops

LONGEST_PROMPT = 100_000        # characters; a longer one is refused before the tokenizer spends time on it


def check_prompt(prompt: object) -> None:
    """Raises `CrossSpecError` unless ``prompt`` is a text that a tokenizer can take."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise CrossSpecError(f'prompt must not be empty, got {prompt!r}' if isinstance(prompt, str) else
                             f'prompt must be a text, got {type(prompt).__name__}')
    if len(prompt) > LONGEST_PROMPT:
        raise CrossSpecError(f'prompt must be at most {LONGEST_PROMPT} characters, got {len(prompt)}')
    try:
        prompt.encode('utf-8')
    except UnicodeEncodeError as error:
        raise CrossSpecError(f'prompt must be text that UTF-8 can hold, got a lone surrogate at character '
                             f'{error.start}; leave it out') from error


def chat_template(folder: Path) -> str | None:
    """The processor's own chat template: ``chat_template.jinja``, then ``chat_template.json``; None without."""
    jinja, older = folder / 'chat_template.jinja', folder / 'chat_template.json'
    if jinja.is_file():
        return jinja.read_text(encoding='utf-8')
    if not older.is_file():
        return None
    try:
        return json.loads(older.read_text(encoding='utf-8'))['chat_template']
    except (ValueError, KeyError, TypeError) as error:
        raise CrossSpecError(f'{older} must be a JSON object with a chat_template: {error}') from error


Template = Callable[[list[dict]], str]
"""A conversation, in the words of chat templates, as text."""


def tokenizer_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> Template | None:
    """A chat template of a folder, filled by the tokenizer; None for none."""
    if not template:
        return None
    return partial(tokenizer.apply_chat_template, chat_template=template, tokenize=False, add_generation_prompt=True)


def render(prompt: str, templates: Sequence[Template | None], pictures: Sequence[str], placeholders: Sequence[str],
           fallback: str | None) -> str:
    """The text with its placeholders: a bare question is put into the first chat template that takes pictures.

    ``pictures`` are the types of what is shown ('video', or 'image' for every frame), ``placeholders`` what stands for
    them in a text: a prompt that holds one is taken as it is. ``fallback`` has {video} and {question} in it.
    """
    if any(mark in prompt for mark in placeholders):
        return prompt
    content = [{'type': kind} for kind in pictures] + [{'type': 'text', 'text': prompt}]
    for template in filter(None, templates):
        try:
            filled = template([{'role': 'user', 'content': content}])
        except Exception as error:              # jinja's errors have no common base with those a template raises
            raise CrossSpecError(f'the chat template cannot take a question: {first_line(error)}; '
                                 f'give a whole prompt that holds {placeholders[0]}') from error
        if any(mark in filled for mark in placeholders):
            return filled
    if fallback is None:
        raise CrossSpecError(f'prompt must hold {placeholders[0]}, since the checkpoint has no chat template that '
                             f'takes frames, got {prompt[:60]!r}')
    return fallback.format(video=placeholders[0] * len(pictures), question=prompt)


class Pictures:
    """The folder's own processor, given frames with the times at which they were taken.

    ``video`` says that it takes a clip; else every frame is an image of its own.
    """

    def __init__(self, folder: Path, model: PreTrainedModel, fps: float, fallback: str | None = None,
                 trust_remote_code: bool = False) -> None:
        require_vision_ops(folder)
        self.processor = _processor(folder, trust_remote_code)
        self.tokenizer = self.processor.tokenizer
        self.video = getattr(self.processor, 'video_processor', None) is not None
        self._folder, self._model, self._fps, self._fallback = folder, model, fps, fallback
        self._templates = (self._own_template(), tokenizer_template(self.tokenizer, self.tokenizer.chat_template))
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

    def _own_template(self) -> Template | None:
        """The processor's own way to a text: a template of its folder, or one that its class brings."""
        own = partial(self.processor.apply_chat_template, tokenize=False, add_generation_prompt=True)
        if self.processor.chat_template:
            return own
        try:                                          # some classes have a template for videos, and say so only so
            own([{'role': 'user', 'content': [{'type': 'video' if self.video else 'image'}]}])
        except (ValueError, TypeError, AttributeError):
            return None
        return own

    def text(self, prompt: str, frames: int) -> str:
        """The prompt for so many frames. Raises `CrossSpecError` where it holds another number of placeholders."""
        shown = ['video'] if self.video else ['image'] * frames
        text = render(prompt, self._templates, shown, self._marks, self._fallback)
        mark = next(mark for mark in self._marks if mark in text)
        if not self.video and frames > 1 and text.count(mark) == 1:
            text = text.replace(mark, mark * frames)
        if text.count(mark) != len(shown):
            raise CrossSpecError(f'prompt must hold {mark} {"once" if len(shown) == 1 else f"{len(shown)} times"}, '
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
                                 f'{first_line(error)}') from error

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


def _processor(folder: Path, trust_remote_code: bool) -> object:
    from transformers import AutoProcessor
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:                        # json, OSError, ImportError, ValueError of many kinds
        raise CrossSpecError(f'the processor in {folder} cannot be loaded: {first_line(error)}; '
                             'save it there with processor.save_pretrained(folder)') from error
    if getattr(processor, 'tokenizer', None) is None:
        raise CrossSpecError(f'the processor in {folder} must take text and frames, got {type(processor).__name__}; '
                             'save it there with processor.save_pretrained(folder)')
    return processor


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
