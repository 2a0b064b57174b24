"""Age over the frames of a window: what drafts can hide, and the bound that the prefill sets."""
from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from crossspec_ros.bench.decode_schemes import Outcome as Decoded
from crossspec_ros.bench.decode_schemes import PlainGeneration, Speculation, Window
from crossspec_ros.bench.decode_shapes import ShapesTarget, recorded_rule
from crossspec_ros.bench.growth import captions
from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, OPEN, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.lab import SIZE, Lab
from crossspec_ros.models.random_weights import build_model
from crossspec_ros.speculation.settings import EngineConfig

_PROMPT, _RECALL = 'recorded', ('memory', 'previous')
_GENERATE, _FIRST, _FUSED, _AHEAD = 'generate', 'generate, one token', 'drafts, fused', 'drafts, fused, anticipatory'
_UNDRAFTED = 'anticipatory, no drafts'


@dataclass(frozen=True)
class FramesSettings(Settings):
    """``frames`` of a window; answers of ``answer`` tokens; ``rounds`` windows, of which the median counts, after
    ``warm`` that do not."""

    frames: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    answer: int = 50
    rounds: int = 7
    warm: int = 2
    side: int = 112


@dataclass(frozen=True)
class Frames(Experiment):
    """A number of frames a part."""

    def parts(self, settings: FramesSettings) -> tuple[str, ...]:
        return tuple(map(str, settings.frames))

    def measure(self, settings: FramesSettings, part: str, lab: Lab) -> dict[str, Any]:
        target, frames = ShapesTarget(build_model('cpu', 'float32', image=settings.side), 'dynamic'), int(part)
        said = captions(settings.rounds + settings.warm, settings.answer)
        plain = EngineConfig(window_frames=frames, max_new_tokens=settings.answer + 1, speculate=False, fused=False)
        fused = replace(plain, speculate=True, fused=True, anticipatory=False)
        schemes: dict[str, PlainGeneration | Speculation] = {
            _GENERATE: PlainGeneration(target, settings.answer, min_new_tokens=settings.answer),
            _FIRST: PlainGeneration(target, 1), _UNDRAFTED: Speculation(target, plain, ()),
            _FUSED: Speculation(target, fused, _RECALL), _AHEAD: Speculation(target, replace(fused, anticipatory=True),
                                                                            _RECALL)}
        for scheme in schemes.values():
            if isinstance(scheme, Speculation):
                scheme.engine.use_rule(recorded_rule(said))
                if scheme.engine.config.speculate:
                    scheme.engine.warm_up(_PROMPT, *SIZE)
        rows: dict[str, list[Decoded]] = {name: [] for name in schemes}
        with torch.inference_mode():
            for number in range(len(said)):
                window = _window(number, frames)
                for name, scheme in schemes.items():                    # in turn, so that the load is the same for each
                    rows[name].append(scheme.run(window))
        middle: Callable[[str, str], float] = lambda name, what: round(statistics.median(
            getattr(row, what) for row in rows[name][settings.warm:]), 3)
        return {name: {'age_ms': middle(name, 'age_ms'), 'passes': middle(name, 'passes')} for name in rows}

    def conclude(self, settings: FramesSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        rows, speed, bound, ahead = [], [], [], []
        for part, each in found.items():
            ages = {name: row['age_ms'] for name, row in each.items()}
            hidden_at_most = ages[_GENERATE] / ages[_FIRST]
            rows.append((part, *(Value(ages[name], digits=0) for name in (_GENERATE, _FIRST, _FUSED, _AHEAD)),
                         Value(ages[_GENERATE] / ages[_FUSED]), Value(hidden_at_most),
                         Value(ages[_GENERATE] / ages[_AHEAD]), 
                         Value(settings.answer / each[_AHEAD]['passes'], digits=1)))
            for points, value in ((speed, ages[_GENERATE] / ages[_FUSED]), (bound, hidden_at_most),
                                  (ahead, ages[_GENERATE] / ages[_AHEAD])):
                points.append((int(part), value, None, None))
        first, last = rows[0], rows[-1]
        falls, bound_falls = last[5].value < 0.9 * first[5].value, last[6].value < first[6].value
        return Outcome(
            (Table(f'Age of a caption of {settings.answer} tokens, ms here, median of {settings.rounds} windows',
                   ('frames', _GENERATE, _FIRST, _FUSED, _AHEAD, 'speed of fused', 'bound of drafts alone',
                    'speed of anticipatory', 'tokens a pass'), tuple(rows),
                   'Bound: the age of generate over that of its first token, which no draft makes shorter. Random '
                   'weights of Video-LLaVA\'s class, cut down; captions that differ from the one before in every '
                   'eighth word.'),),
            f'drafts alone give {first[5]} times the speed of generate at {first[0]} frames and {last[5]} at '
            f'{last[0]}, under bounds of {first[6]} and {last[6]}; with frames prefilled as they come it is {first[7]} '
            f'and {last[7]}.',
            FAILS if falls else OPEN if bound_falls else HOLDS,
            'The longer the prefill, the less drafts alone can give: prefill frames as they arrive '
            '(`decode.anticipatory`, on by default), then drafts pay at any number of frames.',
            Plot('lines', 'Speed over generate by frames of the window', 'frames', 'times', {
                'drafts, fused': speed, 'bound of drafts alone': bound, 'and anticipatory prefill': ahead}, 1.0))


def _window(number: int, frames: int) -> Window:
    random = np.random.default_rng(number)
    return Window(number, [random.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(frames)], _PROMPT)


EXPERIMENT = Frames(
    name='frames', title='Frames of a window', source='cross-modal drafting hidden behind the prefill',
    claim='with prefill over 40% of the time, drafting behind it wins more',
    measures='Age of a caption over the number of frames: generate, drafts verified with the prefill, and with all but '
             'the newest frame prefilled before.', lossless=False,
    full=FramesSettings(), quick=FramesSettings(**QUICK, frames=(1, 4, 8, 16), rounds=2, warm=1))
