"""Is a target told apart from its own ``generate``? The same clips through both; what is not exact is switched off.

Clips are made up: coarse patterns that move, one that stands still, one that is black. They overlap as sliding windows
do, the engine rehearses, and hostile drafters lie, so that whatever the engine may do with this checkpoint is done.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import psutil
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.quantization import stored_bytes
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.age import Timing, expected_age_ms
from crossspec_ros.speculation.decision import Drafts, method_of
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.target import Abilities, Layout
from crossspec_ros.speculation.types import Draft, prompt_key

_MS_A_SECOND = 1000.0
_TAUS = (1, 4, 8)                # tokens a pass for which an age is foretold


@dataclass(frozen=True)
class CheckOptions:
    """How much is checked. ``height`` and ``width`` are those of the clips' frames, px."""

    clips: int = 12
    frames: int = 8
    max_new_tokens: int = 24
    prompt: str = 'What is happening?'
    height: int = 120
    width: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise CrossSpecError(f'clips must be >= 1, got {self.clips}')


@dataclass(frozen=True)
class Finding:
    """What a check found: clips whose tokens were those of ``generate``, with which abilities."""

    clips: int
    identical: int
    abilities: Abilities

    @property
    def exact(self) -> bool:
        """Whether every clip was identical."""
        return self.identical == self.clips


def make_clips(options: CheckOptions) -> list[tuple[int, list[np.ndarray]]]:
    """Clips of one stream, each with the number of its first frame: half of them overlap the clip before by half.

    Frames uint8 (height, width, 3).
    """
    rng = np.random.default_rng(options.seed)
    stride = max(options.frames // 2, 1)
    starts = [0]
    for index in range(1, options.clips):
        starts.append(starts[-1] + (stride if index % 2 else options.frames))
    stream: list[np.ndarray] = []
    for number in range(starts[-1] + options.frames):
        if number % options.frames == 0:
            coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            tile = -(-options.height // 6), -(-options.width // 8)
            scene = np.kron(coarse, np.ones((*tile, 1), np.uint8))[:options.height, :options.width]
            speed = int(rng.integers(0, 3)) * 8                          # some scenes stand still
            scene = scene * (number != options.frames)                   # one is black
        stream.append(np.ascontiguousarray(np.roll(scene, number * speed, axis=1), dtype=np.uint8))
    return [(start, stream[start:start + options.frames]) for start in starts]


def check_target(target: TransformersTarget, options: CheckOptions = CheckOptions(),
                 advance: Callable[[float], None] = lambda clips: None) -> Finding:
    """Compare a target with its own ``generate``; it is left with the abilities with which all clips were identical.

    Where none makes them so, it keeps those that it had. Raises `CrossSpecError` where a clip cannot be decoded.
    """
    clips = make_clips(options)
    expected = []
    for _, frames in clips:
        tokens = target.generate(frames, options.prompt, options.max_new_tokens)
        expected.append(tokens[:-1] if tokens and tokens[-1] in target.eos_ids else tokens)
        advance(1)
    had = target.abilities
    first: Finding | None = None
    for abilities in _ladder(had, target.dtype):
        target.abilities = abilities
        found = Finding(len(clips), _identical(target, options, clips, expected), abilities)
        first = first or found
        if found.exact:
            return found
    target.abilities = had
    return first


def _ladder(had: Abilities, dtype: torch.dtype) -> list[Abilities]:
    """What to try: all that the target has, then less and less of it, and in the end nothing."""
    tries = [had]
    if dtype != torch.float32 or had.coarse:         # there a near tie tells nothing of an ability
        return tries
    for name in ('trees', 'frame_cache', 'anticipatory'):
        if getattr(tries[-1], name):
            note = f'{name} is off: with it, captions differed from those of generate'
            tries.append(replace(tries[-1], **{name: False}, notes=(*tries[-1].notes, note)))
    return tries


def _identical(target: TransformersTarget, options: CheckOptions, clips: Sequence[tuple[int, list[np.ndarray]]],
               expected: Sequence[tuple[int, ...]]) -> int:
    """How many clips the engine captions with the expected tokens."""
    engine = CaptionEngine(target, EngineConfig(window_frames=options.frames, max_new_tokens=options.max_new_tokens))
    rng = np.random.default_rng(options.seed)
    identical = 0
    for number, ((start, frames), tokens) in enumerate(zip(clips, expected), start=1):
        session = engine.open(number, number, options.prompt)
        try:
            for slot, frame in enumerate(frames):
                session.add_frame(slot, start + slot, frame)
                if slot == len(frames) - 2:
                    for draft in _lies(target, number, options.prompt, tokens, rng):
                        engine.offer(draft)
                session.rehearse()
            for _ in session.answer():
                pass
            identical += session.token_ids == tokens
        finally:
            session.close()
    return identical


def _lies(target: TransformersTarget, window_id: int, prompt: str, tokens: tuple[int, ...],
          rng: np.random.Generator) -> list[Draft]:
    """Drafts of two drafters: noise, and the right caption with a wrong token in every third place."""
    allowed = np.setdiff1d(np.arange(target.vocab_size), target.banned_ids)
    noise = rng.choice(allowed, 24)
    half = [int(rng.choice(allowed)) if place % 3 == 2 else token for place, token in enumerate(tokens)]
    common = dict(window_id=window_id, window_end_ns=window_id, revision=0, prompt_key=prompt_key(prompt),
                  tokenizer_key=target.tokenizer_key, text='')
    return [Draft(token_ids=tuple(map(int, noise)), source='check_noise', **common),
            Draft(token_ids=tuple(half) or (int(noise[0]),), source='check_half', **common)]


def describe(target: TransformersTarget, finding: Finding, options: CheckOptions) -> dict[str, object]:
    """What there is to say of a checked target: its parts, what is exact, memory and time on this machine."""
    layout = target.layout(options.prompt, options.frames, options.height, options.width)
    group = layout.groups[-1]
    engine = CaptionEngine(target, EngineConfig(window_frames=options.frames, max_new_tokens=options.max_new_tokens))
    costs = engine.warm_up(options.prompt, options.height, options.width)
    frame = make_clips(options)[0][1][0]
    started = perf_counter()
    if finding.abilities.anticipatory:
        target.encode(layout, len(layout.groups) - 1, [frame] * group.frames)
    else:
        target.encode_all(layout, [frame] * options.frames)
    encode_ms = (perf_counter() - started) * _MS_A_SECOND
    exact = finding.exact
    return {
        'class': type(target.model).__name__, 'adapter': type(target.adapter).__name__.removesuffix('Adapter'),
        'clips': finding.clips, 'identical': finding.identical,
        'frame_cache': exact and finding.abilities.frame_cache,
        'anticipatory': exact and finding.abilities.anticipatory, 'trees': exact and finding.abilities.trees,
        'frames_a_group': group.frames, 'tokens_a_frame': group.tokens / group.frames,
        'prompt_tokens': layout.length, 'dtype': str(target.dtype).removeprefix('torch.'),
        'quantization': target.adapter.parts.quantization,
        'notes': list(finding.abilities.notes), 'refused': None, 'memory_mb': _memory_mb(target, layout),
        'cost_ms': {str(count): round(cost, 3) for count, cost in costs.items()}, 'encode_ms': round(encode_ms, 3),
        'expected_age_ms': _ages(engine, layout.last_tokens, encode_ms, options.max_new_tokens)}


def _ages(engine: CaptionEngine, last_tokens: int, encode_ms: float, tokens: int) -> dict[str, float]:
    """Caption age foretold from the cost curve, for so many tokens a pass, newest frame to final caption."""
    cost = engine.proposer.cost
    timing = Timing(cost, encode_ms + cost(last_tokens), encode_ms, last_tokens)
    ages = {f'tau_{tau}': round(expected_age_ms(timing, method_of('fused', Drafts(tau)), tokens), 1) for tau in _TAUS}
    return ages | {'tokens': tokens}


def _memory_mb(target: TransformersTarget, layout: Layout) -> dict[str, float]:
    """Weights, keys and values of one window, and what is free where the target lies, MB."""
    weights = stored_bytes(target.model)
    cache = target.new_cache(layout, layout.length)
    target.extend(cache, layout.tail)
    held = cache.bytes_a_token * layout.length
    target.release(cache)
    free = (torch.cuda.mem_get_info(target.device)[0] if target.device.type == 'cuda'
            else psutil.virtual_memory().available)
    return {name: round(size / 2**20, 1) for name, size in (('weights', weights), ('window', held), ('free', free))}


def refusal(path: str, error: CrossSpecError, dtype: str) -> dict[str, object]:
    """The same report for a checkpoint that is not served."""
    return {'class': None, 'adapter': None, 'clips': 0, 'identical': 0, 'frame_cache': False, 'anticipatory': False,
            'trees': False, 'frames_a_group': None, 'tokens_a_frame': None, 'prompt_tokens': None, 'dtype': dtype,
            'quantization': None, 'notes': [], 'refused': str(error), 'memory_mb': {}, 'cost_ms': {}, 'encode_ms': None,
            'expected_age_ms': {}}

