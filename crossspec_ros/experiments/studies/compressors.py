"""Fewer visual tokens for a drafter with the verifier's eyes: compressors beside all tokens and the event drafter."""
from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from time import thread_time_ns
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossspec_ros.bench.decode import make_windows
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.compressing import COMPRESSORS, NONE, SceneDrafter, Shapes
from crossspec_ros.experiments.experiment import (
    ENOUGH_STEPS, FAILS, HOLDS, IN_PART, OPEN, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.intervals import over, point, ratio
from crossspec_ros.experiments.lab import Lab, Seen
from crossspec_ros.experiments.pupil_methods import weighed
from crossspec_ros.experiments.pupils import Batch, Lesson, learn, lessons
from crossspec_ros.experiments.scenes import scenes_of
from crossspec_ros.experiments.states import last_states, visual_tokens
from crossspec_ros.experiments.studies.pruning import question_attention, split_prompt
from crossspec_ros.learn.losses import forward_kl
from crossspec_ros.models.drafter import EventDrafter
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.speculation.budget import CostCurve

_MOST = 96
_EVENTS = 'event drafter'
_LOSS = 0.05
_CLAIM = 2.5


@dataclass(frozen=True)
class CompressorsSettings(Settings):
    """``kept`` visual tokens of a window; the first ``timed`` windows of each drive are drafted for time."""

    steps: int = 500
    kept: tuple[int, ...] = (64,)
    timed: int = 2


def _rows_of(settings: CompressorsSettings) -> dict[str, tuple[str, int]]:
    """Form and kept tokens of each row that learns."""
    return {NONE: (NONE, 1)} | {f'{form}, {kept}': (form, kept) for kept in settings.kept for form in COMPRESSORS}


def attention_of(lab: Lab, seen: Sequence[Seen]) -> list[np.ndarray]:
    """How much the verifier's question attends to each visual token of these windows, (S,) each, the mean 1; made of
    the frames once and kept beside the records. Windows stand drive by drive, each from the start of its drive."""
    found: list[np.ndarray] = []
    for drive, group in groupby(seen, lambda each: each.window.drive):
        (pace, seed), count = drive.split('_')[:2], len(list(group))
        key = zlib.crc32(f'{lab.target.model_key} {lab.settings.prompt}'.encode())
        path = lab.records / f'{pace}_{seed}_{count}_{key:08x}.attention.npy'
        if not path.is_file():
            told = np.stack([question_attention(lab.target, split_prompt(lab.target, window.frames,
                                                                         lab.settings.prompt)).ravel()
                             for window in make_windows(count, int(seed), 1, lab.settings.prompt, None, pace)])
            _save(path, told / told.mean(-1, keepdims=True))
        found += _load(path, count)
    return found


def _save(path: Path, told: np.ndarray) -> None:
    def write(part: Path) -> None:
        with part.open('wb') as handle:
            np.save(handle, told)
    write_atomic(path, write)


def _load(path: Path, count: int) -> list[np.ndarray]:
    try:
        told = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise CrossSpecError(f'cannot read {path} ({error}): delete it') from error
    if len(told) != count:
        raise CrossSpecError(f'{path} must tell of {count} windows, got {len(told)}: delete it')
    return list(told)


def eyed(lab: Lab, seen: Sequence[Seen]) -> tuple[list[Seen], int]:
    """The windows with looks (S, D + 1) float16 through the verifier's eyes, and the tokens of the newest frame."""
    scenes = scenes_of(lab, seen)
    looks = [np.concatenate((scene.visual.numpy(), told[:, None].astype(np.float16)), 1)
             for scene, told in zip(scenes, attention_of(lab, seen), strict=True)]
    return [replace(each, looks=(look, look)) for each, look in zip(seen, looks, strict=True)], scenes[0].newest


def _looks(lab: Lab, seen: Sequence[Seen]) -> list[Tensor]:
    return [torch.from_numpy(each.look) for each in seen]


@cache
def taught_by_eyes(lab: Lab) -> tuple[list[Lesson], int]:
    """What there is to learn, looks (S, D + 1) float16 as visual tokens, and the tokens of the newest frame; made once
    for all parts."""
    seen, newest = eyed(lab, lab.taught())
    return lessons(lab, seen, _looks), newest


def trained(lab: Lab, form: str, kept: int, seed: int) -> SceneDrafter:
    """A drafter that learned the verifier's law along its answers from nothing, decoder and compressor together."""
    taught, newest = taught_by_eyes(lab)
    visual, wide = taught[0].visual.shape
    shapes = Shapes(visual, newest, wide - 1, lab.drafter.config.dim, kept)
    pupil = SceneDrafter(lab.drafter, form, shapes, lab.settings.prompt, seed).train()
    learn(list(pupil.parameters()), taught, lambda batch, _: batch_loss(pupil, batch), lab.settings.steps,
          torch.Generator().manual_seed(seed))
    return pupil.eval()


def batch_loss(pupil: SceneDrafter, batch: Batch) -> Tensor:
    """Mean over answers of their places' mean."""
    hidden = batch.places(pupil(batch.visual.float(), batch.rows))
    losses = forward_kl(pupil.logits(hidden), batch.likely, batch.probs)
    return weighed(losses, torch.ones(len(losses)), batch)


@dataclass(frozen=True)
class Compressors(Experiment):
    """A form and seed a part."""

    def parts(self, settings: CompressorsSettings) -> tuple[str, ...]:
        return (_EVENTS, *(f'{name}/{seed}' for name in _rows_of(settings) for seed in range(settings.seeds)))

    def measure(self, settings: CompressorsSettings, part: str, lab: Lab) -> dict[str, Any]:
        if part == _EVENTS:
            return {pace: _judged(lab, lab.drafter, lab.windows(pace)) for pace in settings.paces}
        name, seed = part.rsplit('/', 1)
        pupil = trained(lab, *_rows_of(settings)[name], int(seed))
        return {pace: _judged(lab, pupil, eyed(lab, lab.windows(pace))[0]) for pace in settings.paces}

    def conclude(self, settings: CompressorsSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        told = {pace: _together(pace, found) for pace in settings.paces}
        tables = tuple(_table(settings, pace, rows) for pace, rows in told.items())
        series = {pace: [point(name, ratio(each, 'tokens', 'passes')) for name, each in rows.items()]
                  for pace, rows in told.items()}
        verdict, measured, advice = _verdict(told[settings.paces[0]])
        return Outcome(tables, f'{measured} The drafters learned {settings.taught} windows in {settings.steps} steps.',
                       OPEN if settings.steps < ENOUGH_STEPS else verdict, advice,
                       Plot('bars', 'Tokens a pass by what a drafter sees', 'tokens a pass, 95% over drives', '',
                            series, 1.0))


@torch.inference_mode()
def _judged(lab: Lab, drafter: EventDrafter, seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """Rows by window; of the first windows of each drive processor time too."""
    curve, prompt, rows = CostCurve(lab.costs), lab.settings.prompt, []
    for place, each in enumerate(seen):
        said = drafter.logits(last_states(drafter, each, prompt)).argmax(-1)
        row = chain_row(each.window.drive,
                        (said == torch.tensor(drafter.rows_of(each.window.token_ids))).tolist())
        nodes = round(row['drafted'] / row['passes'])
        row |= {'windows': 1, 'visual': rows[0]['visual'] if rows else visual_tokens(drafter, each.look).shape[1],
                'plain_ms': row['tokens'] * curve(1), 'passes_ms': row['passes'] * curve(nodes + 1),
                'timed': 0, 'first_us': 0.0, 'further': 0, 'further_us': 0.0}
        if place % lab.settings.windows < lab.settings.timed:
            row |= _timed(drafter, each, prompt)
        rows.append(row)
    return rows


def _timed(drafter: EventDrafter, seen: Seen, prompt: str) -> dict[str, Any]:
    """Processor time to the first drafted token, eyes and compressor with it, and of those after it."""
    spent_us = []
    for most in (1, 1, _MOST):                                                      # the first warms up
        begun_ns = thread_time_ns()
        draft = drafter.draft(seen.look, prompt=prompt, max_tokens=most)
        spent_us.append((thread_time_ns() - begun_ns) / 1e3)
    return {'timed': 1, 'first_us': spent_us[1], 'further': max(len(draft.token_ids) - 1, 0),
            'further_us': max(spent_us[2] - spent_us[1], 0.0)}


def _together(pace: str, found: Mapping[str, dict[str, Any]]) -> dict[str, list]:
    """Rows of all trainings by name, each with what drafting and decoding its window take together."""
    told: dict[str, list] = {}
    for part, each in found.items():
        told.setdefault(part.rsplit('/', 1)[0], []).extend(each[pace])
    made = {}
    for name, rows in told.items():
        first = _mean(rows, 'first_us', 'timed')
        further = _mean(rows, 'further_us', 'further') or first                # where no draft went beyond a token
        made[name] = [row | {'spent_ms': row['passes_ms'] + (first + row['drafted'] * further) / 1e3,
                             'draft_ms': (first + (row['tokens'] - 1) * further) / 1e3} for row in rows]
    return made


def _mean(rows: Sequence[Mapping[str, Any]], part: str, whole: str) -> float:
    return sum(row[part] for row in rows) / max(sum(row[whole] for row in rows), 1)


def _table(settings: CompressorsSettings, pace: str, rows: Mapping[str, list]) -> Table:
    return Table(
        f'{settings.taught} windows, {settings.steps} steps, {settings.seeds} trainings, judged on '
        f'{len(rows[_EVENTS])} {pace} windows',
        ('visual tokens', 'kept', 'right a token', 'tau, with the bonus', 'over all tokens', 'over the event drafter',
         'first token, us here', 'a draft, us here', 'speed here, modelled'),
        tuple((name, Value(each[0]['visual'], digits=0), ratio(each, 'right', 'tokens', 3),
               ratio(each, 'tokens', 'passes'),
               None if name in (_EVENTS, NONE) else over(each, rows[NONE], 'tokens', 'passes'),
               None if name == _EVENTS else over(each, rows[_EVENTS], 'tokens', 'passes'),
               ratio([row for row in each if row['timed']], 'first_us', 'timed', 0),
               Value(1000 * _mean(each, 'draft_ms', 'windows'), digits=0), ratio(each, 'plain_ms', 'spent_ms'))
              for name, each in rows.items()),
        'None: all visual tokens of all frames. Novelty: the least like the same place of the frame before; attention: '
        'of the verifier\'s question in its middle layer, there only after its prefill; pool: means of neighbours; '
        'convolve: strided and depthwise along the tokens; resample: learned queries; gate: prune by novelty, pool, '
        'convolve and resample mixed by weights of the window\'s mean token and the question, which is the same one '
        'here. All learn from nothing, but the event drafter is as shipped, with many more steps. us: processor time, '
        'a draft as long as the caption. Speed: over decoding without drafts, the rest of the caption drafted before '
        'each pass, by the cost curve of this machine; without the prefill, which the rows share.')


def _verdict(rows: Mapping[str, list]) -> tuple[str, str, str]:
    """Verdict, what was measured and what follows."""
    taus = {name: ratio(each, 'tokens', 'passes') for name, each in rows.items()}
    best = max((name for name in rows if name not in (_EVENTS, NONE)), key=lambda name: taus[name].value)
    gain, speed = over(rows[best], rows[NONE], 'tokens', 'passes'), ratio(rows[best], 'plain_ms', 'spent_ms')
    before, after = (_mean(rows[name], 'draft_ms', 'windows') for name in (NONE, best))
    saved = 1 - after / before
    sure = (gain.value if gain.low is None else gain.low) > -_LOSS * taus[NONE].value
    lost = (gain.value if gain.high is None else gain.high) < 0
    kept = 'keeps' if sure else 'loses' if lost else 'cannot be told to keep or lose'
    measured = (
        f'the best compressor, {best} tokens, {kept} the tokens a pass of all {rows[NONE][0]["visual"]} ({taus[best]} '
        f'against {taus[NONE]}, {gain} more), a draft takes {100 * abs(saved):.0f}% '
        f'{"less" if saved > 0 else "more"} processor time, and '
        f'drafting with it is {speed} times as fast as decoding without drafts (all tokens: '
        f'{ratio(rows[NONE], "plain_ms", "spent_ms")}); the shipped event drafter gives {taus[_EVENTS]}.')
    verdict = HOLDS if sure and saved > 0 and speed.value >= _CLAIM else IN_PART if not lost and saved > 0 else FAILS
    advice = (f'A drafter with the verifier\'s eyes can do with {best} tokens' if not lost and saved > 0 else
              'Leave a drafter with the verifier\'s eyes all its tokens') + (
        '; the event drafter, which sees before the frames are encoded, gives more tokens a pass and needs none.'
        if taus[_EVENTS].value > max(taus[best].value, taus[NONE].value) else
        ', where it may wait for the frames to be encoded.')
    return verdict, measured, advice


EXPERIMENT = Compressors(
    name='compressors', title='Compressed eyes for a drafter', source='SpecVLM 2509.11815; for video 2508.16201',
    claim='drafters of a vision-language model whose visual tokens are compressed (elastic compressor; up to 90% '
          'pruned by the verifier\'s attention) make it 2.5-2.9x as fast',
    measures='A drafter of the event drafter\'s size learns from nothing to draft from the verifier\'s own visual '
             'tokens of all frames, all of them or compressed in six ways: right tokens, tokens a pass, its time.',
    full=CompressorsSettings(), quick=CompressorsSettings(**QUICK | {'steps': 6}, timed=1))
