"""Pruning the verifier's own visual tokens: by event density, attention, similarity and chance. Lossy, and marked so.

Letters: S visual tokens of a frame's grid, L rows of a prompt, D width.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from time import thread_time_ns
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.representations import histogram
from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, IN_PART, QUICK, Experiment, Outcome, Plot, Settings, Table)
from crossspec_ros.experiments.intervals import over, point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.acceptance import accept_greedy
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.target import Layout, Text
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.world import SLOTS, World, parse_slots

_WHOLE = 'all tokens'
_DENSITY, _ATTENTION, _SIMILARITY, _CHANCE = 'event density', 'attention', 'similarity', 'chance'
_LOSS = 0.02
_KB = 1000.0


@dataclass(frozen=True)
class PruningSettings(Settings):
    """``live`` windows of each drive, of which so large ``shares`` of the visual tokens are kept."""

    live: int = 5
    shares: tuple[float, ...] = (0.75, 0.5, 0.25)


@dataclass(frozen=True, eq=False)
class Prompt:
    """A window's prompt: rows of its segments, oldest first; ``visual`` are those of frames, each of S tokens in a grid
    after ``extra`` that stand for the whole frame."""

    layout: Layout
    segments: list[Tensor]
    visual: list[int]
    extra: int

    def rows(self, kept: Sequence[np.ndarray] | None = None) -> Tensor:
        """(L, D), of each frame's grid only the tokens that are kept; None: all."""
        if kept is None:
            return torch.cat(self.segments)
        parts, left = [], iter(kept)
        for number, rows in enumerate(self.segments):
            if number in self.visual:
                mask = np.concatenate((np.ones(self.extra, bool), next(left)))
                rows = rows[torch.from_numpy(mask)]
            parts.append(rows)
        return torch.cat(parts)


def split_prompt(target: TransformersTarget, frames: Sequence[np.ndarray], prompt: str) -> Prompt:
    """The prompt of these frames, of which no token is said to stand for a whole one."""
    layout = target.layout(prompt, len(frames), *frames[0].shape[:2])
    groups = iter(target.encode_all(layout, frames))
    visual = [number for number, segment in enumerate(layout.segments) if not isinstance(segment, Text)]
    return Prompt(layout, [segment.rows if isinstance(segment, Text) else next(groups)
                           for segment in layout.segments], visual, 0)


def _prompt_of(target: TransformersTarget, frames: Sequence[np.ndarray], prompt: str) -> Prompt:
    """Raises CrossSpecError for a verifier whose frames are no square grids of tokens."""
    whole = split_prompt(target, frames, prompt)
    groups = whole.layout.groups
    count = groups[0].tokens
    extra = count - isqrt(count) ** 2
    if len(groups) != len(frames) or extra > 1:
        raise CrossSpecError(f'pruning must know where a token stands: frames of square grids of tokens, got {count} '
                             f'tokens a group in {len(groups)} groups of {len(frames)} frames')
    return replace(whole, extra=extra)


@torch.inference_mode()
def question_attention(target: TransformersTarget, prompt: Prompt) -> np.ndarray:
    """How much the question attends to each visual token, (frames, S): of the middle layer, all heads."""
    model, rows = target.adapter.language_model, prompt.rows()
    before = model.config._attn_implementation
    model.set_attn_implementation('eager')                          # the only one that tells its weights
    try:
        told = model(inputs_embeds=rows[None], output_attentions=True, use_cache=False).attentions
    finally:
        model.set_attn_implementation(before)
    weights = told[len(told) // 2][0, :, -len(prompt.layout.tail):].mean((0, 1))                        # (L,)
    parts = weights.split([len(each) for each in prompt.segments])
    return torch.stack([parts[number][prompt.extra:] for number in prompt.visual]).cpu().numpy()


def _scores(lab: Lab, prompt: Prompt, clip: Any, seed: int) -> dict[str, np.ndarray]:
    """What each way of choosing thinks of the grid tokens, (frames, S); the highest are kept."""
    grids = torch.stack([prompt.segments[number][prompt.extra:] for number in prompt.visual]).float()
    side, stamps = isqrt(grids.shape[1]), clip.frame_stamps_ns
    gap_ns = int(stamps[1] - stamps[0]) if len(stamps) > 1 else 1
    density = [histogram(clip.events, int(stamp) - gap_ns, int(stamp), shape=(side, side)).sum(0).ravel()
               for stamp in stamps]
    new = 1.0 - F.cosine_similarity(grids[1:], grids[:-1], dim=-1)
    return {_DENSITY: np.array(density), _ATTENTION: question_attention(lab.target, prompt),
            _SIMILARITY: torch.cat((torch.full_like(grids[:1, :, 0], 2.0), new)).cpu().numpy(),
            _CHANCE: np.random.default_rng(seed).random(grids.shape[:2])}


def highest(scores: np.ndarray, share: float) -> np.ndarray:
    """Bool of the shape of ``scores``: the highest ``share`` of all; of equal ones the newest frame's go first."""
    kept = np.zeros(scores.size, bool)
    kept[np.argsort(scores.ravel(), kind='stable')[::-1][:round(share * scores.size)]] = True
    return kept.reshape(scores.shape)


def answered(target: TransformersTarget, layout: Layout, rows: Tensor, guess: Sequence[int]) -> tuple[list[int], dict]:
    """The greedy answer to prompt rows (L, D), end token left out, and what it took; ``guess`` only saves forwards."""
    cache = target.new_cache(layout, len(rows) + 2 * EngineConfig().max_new_tokens)
    begun_ns = thread_time_ns()
    target.extend(cache, rows[:-1])
    spent = {'prompt_ms': (thread_time_ns() - begun_ns) / 1e6, 'cache_kb': cache.bytes_a_token * len(rows) / _KB}
    answer = gone_on(target, cache, rows[-1:], (), guess)
    target.release(cache)
    return list(answer[:-1] if answer and answer[-1] in target.eos_ids else answer), spent


def gone_on(target: TransformersTarget, cache: SequenceCache, pending: Tensor, said: Sequence[int],
            guess: Sequence[int]) -> list[int]:
    """The whole answer, greedy from ``said`` on, with its end token; ``pending`` (1, D) is the last row that ``cache``
    has not seen."""
    most, answer = EngineConfig().max_new_tokens, list(said)
    while len(answer) < most and not set(answer) & set(target.eos_ids):
        draft, base = list(guess[len(answer):most]), cache.length
        tree = TokenTree.chain(draft)
        judged = target.verify(cache, torch.cat((pending, target.embed(draft))) if draft else pending, tree, answer)
        accepted = accept_greedy(tree, judged.logits)
        cache.keep(base, [0, *(node + 1 for node in accepted.nodes)])
        answer += accepted.emitted
        pending = target.embed(accepted.emitted[-1:])
    ends = [place for place, token in enumerate(answer) if token in target.eos_ids]
    return answer[:ends[0] + 1 if ends else most]


@dataclass(frozen=True)
class Pruning(Experiment):
    """A drive a part."""

    def parts(self, settings: PruningSettings) -> tuple[str, ...]:
        return tuple(f'{pace}/{drive}' for pace in settings.paces for drive in range(settings.drives))

    def measure(self, settings: PruningSettings, part: str, lab: Lab) -> dict[str, Any]:
        pace, drive = part.split('/')
        world = World(settings.seed + int(drive), pace=pace)
        rows: dict[str, list] = {}
        for window in range(settings.live):
            clip = world.clip(float(window + 2))
            frames = [np.ascontiguousarray(frame) for frame in clip.frames]
            prompt, target = _prompt_of(lab.target, frames, settings.prompt), lab.target
            whole, spent = answered(target, prompt.layout, prompt.rows(), ())
            plain = lab.without_end(target.generate(frames, settings.prompt, EngineConfig().max_new_tokens))
            if tuple(whole) != plain:
                raise CrossSpecError(f'window {window} of {part}: with all its tokens the verifier must say what its '
                                     'generate says')
            told = {_WHOLE: (whole, spent)}
            for name, scores in _scores(lab, prompt, clip, settings.seed + window).items():
                for share in settings.shares:
                    told[f'{name}, {share:.0%}'] = answered(target, prompt.layout, prompt.rows(highest(scores, share)),
                                                            whole)
            for name, (answer, spent) in told.items():
                slots = parse_slots(target.decode(answer))
                rows.setdefault(name, []).append(spent | {
                    'drive': part, 'windows': 1, 'equal': int(answer == whole), 'slots': len(SLOTS),
                    'slots_right': sum(slots.get(slot) == clip.slots[slot] for slot in SLOTS)})
        return rows

    def conclude(self, settings: PruningSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, told = [], {}, {}
        for pace in settings.paces:
            rows = told[pace] = _together(pace, found)
            tables.append(_table(pace, rows))
            for name in (_DENSITY, _ATTENTION, _SIMILARITY, _CHANCE):
                series[f'{name}, {pace}'] = [
                    point(share, ratio(rows[f'{name}, {share:.0%}'], 'slots_right', 'slots', 3))
                    for share in settings.shares]
        rows, share = told[settings.paces[0]], settings.shares[0]
        lost = {name: over(rows[f'{name}, {share:.0%}'], rows[_WHOLE], 'slots_right', 'slots', 3)
                for name in (_DENSITY, _ATTENTION, _SIMILARITY, _CHANCE)}
        dense = rows[f'{_DENSITY}, {share:.0%}']
        kept = ratio(dense, 'cache_kb', 'windows').value / ratio(rows[_WHOLE], 'cache_kb', 'windows').value
        best = max(lost, key=lambda name: lost[name].value)
        value, low = lost[_DENSITY].value, lost[_DENSITY].low
        verdict = HOLDS if (value if low is None else low) >= -_LOSS else \
            IN_PART if value > lost[_CHANCE].value else FAILS
        return Outcome(tuple(tables), f'with {share:.0%} of the visual tokens kept by event density the cache is '
                       f'{100 * (1 - kept):.0f}% smaller and the share of right facts changes by {lost[_DENSITY]} (by '
                       f'attention {lost[_ATTENTION]}, similarity {lost[_SIMILARITY]}, chance {lost[_CHANCE]}); '
                       f'{100 * ratio(dense, "equal", "windows").value:.0f}% of the captions are what the verifier '
                       'says of all.', verdict,
                       f'Every way changes what the verifier says, so none is in the live path; the least is lost by '
                       f'{best} at {share:.0%}.',
                       Plot('lines', 'Facts right by share of visual tokens kept', 'share kept', 'facts right', series))


def _together(pace: str, found: Mapping[str, dict[str, Any]]) -> dict[str, list]:
    told: dict[str, list] = {}
    for part, rows in found.items():
        if part.startswith(f'{pace}/'):
            for name, each in rows.items():
                told.setdefault(name, []).extend(each)
    return told


def _table(pace: str, rows: Mapping[str, list]) -> Table:
    return Table(f'Visual tokens of the verifier kept (lossy), {pace}: {len(rows[_WHOLE])} windows',
                 ('chosen by, kept', 'facts right', 'over all tokens', 'captions as of all', 'cache of the prompt, kB',
                  'prompt, ms here'),
                 tuple((name, ratio(each, 'slots_right', 'slots', 3),
                        None if name == _WHOLE else over(each, rows[_WHOLE], 'slots_right', 'slots', 3),
                        ratio(each, 'equal', 'windows'), ratio(each, 'cache_kb', 'windows', 0),
                        ratio(each, 'prompt_ms', 'windows', 1)) for name, each in rows.items()),
                 'Facts: object, colour, place, motion and the car\'s own motion against the truth of the world. The '
                 'verifier was not trained with fewer tokens; what is kept stands closer together. Attention of the '
                 'question in the middle layer, which needs the whole prompt first; similarity to the same place of '
                 'the frame before. ms: processor time of the prompt\'s forward.')


EXPERIMENT = Pruning(
    name='pruning', title='Fewer visual tokens for the verifier', source='pruning by event density; SpecVLM 2508.16201',
    claim='tokens where no events are can go: 20-30% less cache',
    measures='Of the verifier\'s own visual tokens a share is kept by event density, attention, novelty and chance: '
             'facts and captions against those of all tokens, bytes of the cache, time of the prompt.', lossless=False,
    full=PruningSettings(), quick=PruningSettings(**QUICK, live=1, shares=(0.75, 0.25)))
