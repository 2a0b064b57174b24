"""A target with random weights that says recorded captions: speed does not depend on the values.

What the target says is taken from the captions instead of the random logits, so that acceptance is the recorded one
while every forward is really done.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.builtin import builtin_path
from crossspec_ros.models.preprocessing import FramePreprocessor
from crossspec_ros.models.random_weights import EOS_ID, IMAGE_ID, PAD_ID, VIDEO_ID
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.models.targets.adapters import Adapter, Parts, VideoLlavaAdapter
from crossspec_ros.models.targets.graphs import Recorder
from crossspec_ros.models.tokenizer import load_tokenizer
from crossspec_ros.speculation.acceptance import Accepted, descend
from crossspec_ros.speculation.ranking import Ranking
from crossspec_ros.speculation.rules import Rule
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.world import World, caption

_PREFIX = (1, 3148, 1001, 29901, 29871)                  # as many ids as 'USER: ' has
_TAIL = tuple(range(300, 318))                           # as many as a question and ' ASSISTANT:' have


@dataclass(frozen=True)
class Recorded:
    """Recorded captions by window: what the target says, and what the recorded drafter said."""

    target: tuple[int, ...]
    draft: tuple[int, ...]


class ShapesAdapter(VideoLlavaAdapter):
    """Random weights with no folder: no tokenizer, a prompt of the usual length."""

    def __init__(self, model: torch.nn.Module) -> None:
        Adapter.__init__(self, Parts(Path(), model, None))
        side = model.config.vision_config.image_size
        self.preprocessor = FramePreprocessor(side, None, (side, side), 'bicubic', 1 / 255, (0.48, 0.46, 0.41),
                                              (0.27, 0.26, 0.28))
        self.video_token_id = VIDEO_ID

    def input_ids(self, prompt: str, frames: int) -> tuple[int, ...]:
        """A prompt as long as a real one."""
        return (*_PREFIX, *[VIDEO_ID] * (frames * self.frame_tokens()), *_TAIL)


class ShapesTarget(TransformersTarget):
    """A target around random weights: of Video-LLaVA's class, or what an adapter serves."""

    def __init__(self, model: torch.nn.Module | Adapter, cache: str, lean: bool = True,
                 recorder: Recorder | None = None) -> None:
        served = isinstance(model, Adapter)
        self._setup(model if served else ShapesAdapter(model), cache, lean, recorder)
        self.tokenizer_key = self.model_key = 'random'
        self._set_ids((EOS_ID,), model.placeholder_ids if served else (VIDEO_ID, IMAGE_ID, PAD_ID))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Ids in words; there is no tokenizer."""
        return ' '.join(map(str, token_ids))

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Nothing can be tokenised."""
        return ()


def recorded_rule(recorded: Sequence[Recorded]) -> Rule:
    """Accept what the recorded caption of the window says, whatever the logits are."""
    def accept(tree: TokenTree, logits: torch.Tensor, window_id: int, position: int) -> Accepted:
        said = (*recorded[window_id].target, EOS_ID)
        logits.argmax(dim=-1).tolist()                   # the real rule's work, and its wait for the device
        steps = iter(said[position:])
        return Accepted(*descend(tree, lambda row: next(steps, EOS_ID)))
    def rank(tree: TokenTree, best: Ranking, window_id: int, position: int) -> Accepted:
        steps = iter((*recorded[window_id].target, EOS_ID)[position:])
        return Accepted(*descend(tree, lambda row: next(steps, EOS_ID)))
    return Rule('recorded', 'nothing', accept, rank)


def read_traces(path: str) -> list[Recorded]:
    """Recorded captions of a trace file, in recording order. Raises `CrossSpecError` where it is none."""
    try:
        rows = json.loads(Path(path).read_text(encoding='utf-8'))['rows']
        return [Recorded(tuple(row['target']), tuple(row.get('draft') or ())) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CrossSpecError(f'--traces must be JSON with rows of target and draft, got {path}: {error}') from error


def world_captions(count: int, seed: int) -> list[Recorded]:
    """What is true of so many windows of a brisk drive of the driving world, one after another, in tokens of the
    built-in pair; nothing was drafted."""
    world, tokenizer = World(seed), load_tokenizer(builtin_path('verifier'))
    return [Recorded(tuple(tokenizer.encode(caption(world.slots(second + 2.0))).ids), ()) for second in range(count)]
