"""What `generate` hands its decoder first, which rows of it come from which frame, and a table of all families."""
from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .oracle import load, prepare
from .parts import Family

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


class _Seen(Exception):
    pass


def clip(count: int = 4, height: int = 40, width: int = 56, seed: int = 0) -> list[np.ndarray]:
    """Noise: ``count`` frames, uint8 (height, width, 3)."""
    noise = np.random.default_rng(seed)
    return [noise.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


@torch.no_grad()
def look(model: PreTrainedModel, processor: ProcessorMixin, frames: Sequence[np.ndarray],
         prompt: str) -> dict[str, Any]:
    """Keyword arguments of the decoder's first forward: ``inputs_embeds`` (1, L, D), positions, masks and the like."""
    given: dict[str, Any] = {}

    def hook(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        given.update(kwargs)
        raise _Seen
    handle = model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)
    try:
        model.generate(**prepare(model, processor, frames, prompt), do_sample=False, max_new_tokens=2)
    except _Seen:
        pass
    finally:
        handle.remove()
    return given


def rows_of_frames(model: PreTrainedModel, processor: ProcessorMixin, frames: Sequence[np.ndarray],
                   prompt: str) -> list[list[int]]:
    """By frame, the rows of the prompt that change when that frame alone is inverted."""
    before = look(model, processor, frames, prompt)['inputs_embeds']
    rows = []
    for index in range(len(frames)):
        others = [255 - frame if index == at else frame for at, frame in enumerate(frames)]
        after = look(model, processor, others, prompt)['inputs_embeds']
        rows.append(torch.nonzero((before != after).any(-1)[0])[:, 0].tolist())
    return rows


def table(families: dict[str, Family], frames: int = 4) -> str:
    """A Markdown table: family, class, rows that a group of frames gives, parameters, and what an adapter must know."""
    lines = ['| Family | Class | Frames a group | Rows a group | Parameters | Notes |',
             '| --- | --- | --- | --- | --- | --- |']
    for family in families.values():
        with tempfile.TemporaryDirectory() as folder:
            model, processor = load(family.write(Path(folder)))
            rows = rows_of_frames(model, processor, clip(frames), 'what is ahead?')
            size = sum(weight.numel() for weight in model.parameters())
            refused = ' (refused)' if family.refused else ''
            cells = (f'{family.name}{refused}', type(model).__name__, family.frames_a_group, len(rows[0]), f'{size:,}',
                     family.notes)
            lines.append('| ' + ' | '.join(map(str, cells)) + ' |')
    return '\n'.join(lines)
