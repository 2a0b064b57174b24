"""What transformers itself says: `generate` with the folder's own processor and chat template."""
from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch


if TYPE_CHECKING:
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

FPS = 8.0


def load(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Model and processor of a folder, no code from it."""
    from transformers import AutoModelForImageTextToText, AutoProcessor
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
    return model.eval(), processor


def prepare(model: PreTrainedModel, processor: ProcessorMixin, frames: Sequence[np.ndarray],
            prompt: str) -> BatchFeature:
    """The inputs of `generate` for frames, uint8 (H, W, 3), and a question: one video, or as many images.

    Times of frames and kinds of tokens are asked for where a class needs them but its processor gives them only when
    told to, as Cosmos3-Edge's does.
    """
    takes_video = getattr(processor, 'video_processor', None) is not None
    pictures = [{'type': 'video'}] if takes_video else [{'type': 'image'}] * len(frames)
    message = {'role': 'user', 'content': [*pictures, {'type': 'text', 'text': prompt}]}
    words = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    kinds = 'mm_token_type_ids' in inspect.signature(model.forward).parameters
    more = dict(return_mm_token_type_ids=True) if kinds else {}
    if not takes_video:
        return processor(text=[words], images=[list(frames)], return_tensors='pt', **more)
    return processor(text=[words], videos=[np.stack(frames)], return_tensors='pt', **more,
                     videos_kwargs=dict(do_sample_frames=False, return_metadata=True,
                                        video_metadata=[_metadata(frames)]))


def _metadata(frames: Sequence[np.ndarray]) -> Any:
    from transformers.video_utils import VideoMetadata
    count = len(frames)
    return VideoMetadata(total_num_frames=count, fps=FPS, frames_indices=list(range(count)), height=frames[0].shape[0],
                         width=frames[0].shape[1], duration=count / FPS)


@torch.no_grad()
def answer(model: PreTrainedModel, processor: ProcessorMixin, frames: Sequence[np.ndarray], prompt: str,
           max_new_tokens: int, suppress: Sequence[int] = ()) -> tuple[int, ...]:
    """The greedy answer of a loaded model, end of text included where it was said."""
    inputs = prepare(model, processor, frames, prompt)
    more = dict(suppress_tokens=list(suppress)) if suppress else {}
    said = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens, **more)
    return tuple(said[0, inputs['input_ids'].shape[1]:].tolist())


def oracle(folder: Path, frames: Sequence[np.ndarray], prompt: str, max_new_tokens: int,
           dtype: torch.dtype = torch.float32, suppress: Sequence[int] = ()) -> tuple[int, ...]:
    """The greedy answer to ``prompt`` over ``frames``, uint8 (H, W, 3) RGB taken `FPS` times a second, oldest first."""
    model, processor = load(folder, dtype)
    return answer(model, processor, frames, prompt, max_new_tokens, suppress)
