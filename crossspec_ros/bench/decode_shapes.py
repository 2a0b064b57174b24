"""The ladder at the real shapes of Video-LLaVA-7B with random weights: speed does not depend on the values.

What the target says is taken from recorded captions instead of the random logits, so that acceptance is the recorded
one while every forward is really done. On a CPU the shapes are cut down (fewer, narrower layers; the same 2,056 video
tokens), and the figures only show that the command works.
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from crossspec_ros.bench.decode_schemes import Outcome, PlainGeneration, Speculation, Window
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.preprocessing import FramePreprocessor
from crossspec_ros.models.random_weights import EOS_ID, IMAGE_ID, PAD_ID, VIDEO_ID, build_model
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.models.targets.adapters import Adapter, Parts, VideoLlavaAdapter
from crossspec_ros.models.targets.graphs import Recorder
from crossspec_ros.speculation.acceptance import Accepted, descend
from crossspec_ros.speculation.ranking import Ranking
from crossspec_ros.speculation.rules import Rule
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.speculation.types import Draft, prompt_key

_PREFIX = (1, 3148, 1001, 29901, 29871)                  # as many ids as 'USER: ' has
_TAIL = tuple(range(300, 318))                           # as many as a question and ' ASSISTANT:' have
_PROMPT = 'recorded'
_LAYERS = 32


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
    """A target around random weights."""

    def __init__(self, model: torch.nn.Module, cache: str, lean: bool = True, recorder: Recorder | None = None) -> None:
        self._setup(ShapesAdapter(model), cache, lean, recorder)
        self.tokenizer_key = self.model_key = 'random'
        self._set_ids((EOS_ID,), (VIDEO_ID, IMAGE_ID, PAD_ID))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Ids in words; there is no tokenizer."""
        return ' '.join(map(str, token_ids))

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Nothing can be tokenised."""
        return ()


def run_shapes(args: argparse.Namespace) -> dict:
    """All schemes at these shapes over the recorded captions in recording order."""
    recorded = read_traces(args.traces)[:args.windows]
    target = ShapesTarget(build_model(args.device, args.dtype), 'dynamic')
    schemes = make_schemes(target, recorded)
    rows: dict[str, list[Outcome]] = {name: [] for name in schemes}
    frames = [np.random.default_rng(i).integers(0, 256, (480, 640, 3), dtype=np.uint8) for i in range(16)]
    costs = {}
    for scheme in schemes.values():
        if isinstance(scheme, Speculation):
            costs = scheme.engine.warm_up(_PROMPT, 480, 640)
    for index, row in enumerate(track(recorded, description='decode', console=Console(stderr=True), transient=True)):
        start = index % 8
        window = Window(index, frames[start:start + 8], _PROMPT,
                        early=Draft(index, 0, 0, prompt_key(_PROMPT), 'random', '', row.draft))
        for name, scheme in schemes.items():
            rows[name].append(scheme.run(window))
    report = {'windows': len(recorded), 'model': 'video-llava shapes, random weights, recorded captions',
              'parameters': sum(weight.numel() for weight in target.model.parameters()),
              'dtype': str(target.dtype), 'cost_ms': costs,
              'schemes': {name: _summary(found, recorded) for name, found in rows.items()}, 'not_run': {}}
    plain = report['schemes']['generate']['age_ms']['p50']
    report['speedup'] = {name: plain / scheme['age_ms']['p50'] for name, scheme in report['schemes'].items()}
    return report


def counted_targets(args: argparse.Namespace, recorder: Recorder
                    ) -> tuple[list[Window], Rule, dict[str, ShapesTarget], str]:
    """For `bench.decode_counts`: windows, what their captions say, and a target for each way; all layers of the real
    decoder, narrow on a CPU, since the number of operations does not depend on widths."""
    from crossspec_ros.bench.decode_counts import FREE, PADDED
    recorded = read_traces(args.traces)[:args.windows]
    model = build_model(args.device, args.dtype, layers=_LAYERS)
    frames = [np.random.default_rng(i).integers(0, 256, (480, 640, 3), dtype=np.uint8) for i in range(8)]
    return ([Window(index, frames, _PROMPT) for index in range(len(recorded))], recorded_rule(recorded),
            {FREE: ShapesTarget(model, 'dynamic', lean=False),
             PADDED: ShapesTarget(model, 'padded', recorder=recorder)},
            'video-llava layers, random weights, recorded captions')


def _summary(found: Sequence[Outcome], recorded: Sequence[Recorded]) -> dict:
    from crossspec_ros.bench.decode import summary
    said = [replace(row, tokens=caption.target) for row, caption in zip(found, recorded)]
    if found[0].own_ms is not None:
        return summary(found, said)
    return summary(said, said) | {'identical': None, 'identical_windows': None}      # its own words are not recorded


def make_schemes(target: ShapesTarget, recorded: Sequence[Recorded]) -> dict:
    """The ladder without rehearsal, whose tokens nobody recorded."""
    longest = max(len(row.target) for row in recorded) + 1
    base = EngineConfig(window_frames=8, max_new_tokens=longest, anticipatory=False, fused=False, frame_cache=False,
                        speculate=False)
    drafted = replace(base, frame_cache=True, speculate=True)
    ahead = replace(drafted, fused=True, anticipatory=True)
    schemes: dict[str, PlainGeneration | Speculation] = {
        'generate': PlainGeneration(target, longest - 1, min_new_tokens=longest - 1),
        'plain': Speculation(target, base, (), early_encode=False),
        'cache': Speculation(target, replace(base, frame_cache=True), ()),
        'memory': Speculation(target, drafted, ('memory', 'previous'), chains=True),
        'tree': Speculation(target, drafted, ('memory', 'previous')),
        'fused': Speculation(target, replace(drafted, fused=True), ('memory', 'previous')),
        'anticipatory': Speculation(target, ahead, ('memory', 'previous')),
        'ours': Speculation(target, ahead, ('memory', 'previous', 'drafts'), drafts=True)}
    for scheme in schemes.values():
        if isinstance(scheme, Speculation):
            scheme.engine.use_rule(recorded_rule(recorded))
    return schemes


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
    if not path:
        raise CrossSpecError('--shapes needs --traces FILE: recorded captions decide what is accepted')
    try:
        rows = json.loads(Path(path).read_text(encoding='utf-8'))['rows']
        return [Recorded(tuple(row['target']), tuple(row.get('draft') or ())) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CrossSpecError(f'--traces must be JSON with rows of target and draft, got {path}: {error}') from error
