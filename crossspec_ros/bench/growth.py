"""`crossspec bench growth`: how the age of a caption grows with what it is asked of, and memory with the drive.

Random weights of Video-LLaVA's class (cut down on a CPU): the cost of a forward does not depend on their values. What
the target says is given: captions of a given length that differ from the one before in every eighth word. The age
counts from the arrival of the newest frame; the frames before it have been prefilled by then.
"""
from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.progress import track

from crossspec_ros.bench.decode import hardware
from crossspec_ros.bench.decode_schemes import Speculation, Window
from crossspec_ros.bench.decode_shapes import Recorded, ShapesTarget, recorded_rule
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.random_weights import build_model
from crossspec_ros.speculation.settings import EngineConfig

_PROMPT = 'recorded'
_FRAMES, _ANSWER, _SIDE = 8, 36, 112                     # the point that the three lines have in common
_SPARSE = 8                                              # every so many words differ from the caption before
_WARM = 2                                                # windows of a point that are not counted
_SCHEMES = {'without drafts': False, 'with drafts': True}
_CLOCKS = {'wall': perf_counter_ns, 'processor': process_time_ns}
_AGES = {'wall': 'caption age, ms', 'processor': 'caption age, ms of a processor'}
_AXES = {'frames': 'frames of a window', 'answer': 'tokens of the answer', 'tokens': 'tokens of a frame'}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the options of `crossspec bench growth`."""
    parser = subparsers.add_parser('growth', help='age over frames, answers and tokens a frame; memory over a drive')
    parser.add_argument('--frames', default='1,2,4,8,16,32,64', metavar='N,N', help='frames of a window (%(default)s)')
    parser.add_argument('--answers', default='8,16,32,64,128', metavar='N,N', help='tokens of an answer (%(default)s)')
    parser.add_argument('--sides', default='56,112,168,224', metavar='PX,PX',
                        help='sides of the frames, px; 14 x 14 are a token (%(default)s)')
    parser.add_argument('--windows', type=int, default=7, help='windows of a point; the median counts (%(default)s)')
    parser.add_argument('--drive', type=int, default=1000, help='windows of the drive for memory (%(default)s)')
    parser.add_argument('--clock', choices=list(_CLOCKS), default='wall', help='what ages are told by: the wall, or '
                        'the time that processors spent on this process, for a machine that does other work too '
                        '(%(default)s)')
    parser.add_argument('--device', default='cpu', help='torch device (%(default)s)')
    parser.add_argument('--dtype', default='float32', help='float32, bfloat16 or float16 (%(default)s)')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw it: .svg or .png')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and draw where that was asked for."""
    frames, answers, sides = (_numbers(name, getattr(args, name)) for name in ('frames', 'answers', 'sides'))
    if min(sides) < 28 or any(side % 14 for side in sides):
        raise CrossSpecError(f'--sides must be multiples of 14 from 28 on, got {args.sides}')
    if args.windows < 1 or args.drive < 10:
        raise CrossSpecError(f'--windows must be >= 1 and --drive >= 10, got {args.windows} and {args.drive}')
    points = [('frames', count, (count, _ANSWER, _SIDE)) for count in frames]
    points += [('answer', length, (_FRAMES, length, _SIDE)) for length in answers]
    points += [('tokens', (side // 14) ** 2 + 1, (_FRAMES, _ANSWER, side)) for side in sides]
    if args.clock == 'processor' and args.device != 'cpu':
        raise CrossSpecError(f'--clock must be wall on {args.device}, got processor: a device of its own is not in it')
    targets = _Targets(args.device, args.dtype)
    report: dict[str, Any] = {axis: {} for axis in _AXES}
    for axis, value, (count, length, side) in track(points, 'growth', console=Console(stderr=True), transient=True):
        report[axis][value] = {name: measure(targets(side), count, length, args.windows, speculate, args.clock)
                               for name, speculate in _SCHEMES.items()}
    report |= {'memory_mb': drive(targets(_SIDE), args.drive), 'windows': args.windows,
               'hardware': hardware(args.device), 'clock': args.clock,
               'common': {'frames': _FRAMES, 'answer': _ANSWER, 'tokens': (_SIDE // 14) ** 2 + 1}}
    if args.plot is not None:
        draw(report, args.plot)
    print(json.dumps(report, indent=1) if args.json else '\n'.join(_lines(report)))
    return 0


def _numbers(name: str, text: str) -> list[int]:
    try:
        numbers = sorted({int(part) for part in text.split(',')})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise CrossSpecError(f'--{name} must be whole numbers >= 1 with commas between, got {text!r}')
    return numbers


class _Targets:
    """Models by the side of their frames, the newest kept."""

    def __init__(self, device: str, dtype: str) -> None:
        self._options, self._kept = (device, dtype), (0, None)

    def __call__(self, side: int) -> ShapesTarget:
        if self._kept[0] != side:
            self._kept = 0, None
            self._kept = side, ShapesTarget(build_model(*self._options, image=side), 'dynamic')
        return self._kept[1]


def captions(count: int, length: int, seed: int = 0) -> list[Recorded]:
    """Captions of ``length`` tokens, each with every eighth token another than in the one before."""
    random = np.random.default_rng(seed)
    words, said = random.integers(1000, 30_000, length), []
    for number in range(count):
        words = words.copy()
        words[number % _SPARSE::_SPARSE] = random.integers(1000, 30_000, len(words[number % _SPARSE::_SPARSE]))
        said.append(Recorded(tuple(words.tolist()), ()))
    return said


def _scheme(target: ShapesTarget, frames: int, said: Sequence[Recorded], speculate: bool,
            clock: str = 'wall') -> Speculation:
    length = len(said[0].target) + 1
    config = EngineConfig(window_frames=frames, max_new_tokens=length, speculate=speculate, fused=speculate)
    scheme = Speculation(target, config, ('memory', 'previous') if speculate else (), clock=_CLOCKS[clock])
    scheme.engine.use_rule(recorded_rule(said))
    if speculate:
        scheme.engine.warm_up(_PROMPT, 240, 320)                # trees are sized by what a forward costs
    return scheme


def _window(number: int, frames: int) -> Window:
    random = np.random.default_rng(number)
    return Window(number, [random.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(frames)], _PROMPT)


@torch.inference_mode()
def measure(target: ShapesTarget, frames: int, length: int, windows: int, speculate: bool,
            clock: str = 'wall') -> dict[str, float]:
    """Median age (ms), passes and compute (ms) of a window."""
    said = captions(windows + _WARM, length)
    scheme = _scheme(target, frames, said, speculate, clock)
    rows = [scheme.run(_window(number, frames)) for number in range(len(said))][_WARM:]
    middle: Callable[[str], float] = lambda name: round(statistics.median(getattr(row, name) for row in rows), 2)
    return {'age_ms': middle('age_ms'), 'passes': middle('passes'), 'compute_ms': middle('compute_ms')}


@torch.inference_mode()
def drive(target: ShapesTarget, windows: int) -> dict[int, float]:
    """Resident memory of this process, MB, by the number of windows decoded."""
    said = captions(min(windows, 64), _ANSWER)
    repeated = [said[number % len(said)] for number in range(windows)]
    scheme = _scheme(target, _FRAMES, repeated, True)
    stock = [_window(number, _FRAMES) for number in range(8)]
    process, found = psutil.Process(), {}
    points = {max(1, round(windows * part / 20)) for part in range(1, 21)}
    for number in track(range(windows), 'drive', console=Console(stderr=True), transient=True):
        scheme.run(replace(stock[number % len(stock)], window_id=number))
        if number + 1 in points:
            found[number + 1] = round(process.memory_info().rss / 1e6, 1)
    return found


def _lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for axis, title in _AXES.items():
        lines.append(f'{title:<22}' + ''.join(f'{name + ", ms (passes)":>28}' for name in _SCHEMES))
        lines += [f'{value:<22}' + ''.join(f'{row[name]["age_ms"]:>19.1f} ({row[name]["passes"]:.0f})'.rjust(28)
                                           for name in _SCHEMES) for value, row in report[axis].items()]
    first, *_, last = report['memory_mb'].items()
    return [*lines, f'memory: {first[1]:.0f} MB after {first[0]} windows, {last[1]:.0f} MB after {last[0]}']


def draw(report: dict[str, Any], path: Path) -> None:
    """Four plots in one file. Raises CrossSpecError where it cannot be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), layout='constrained')
    plots = figure.subplots(2, 2).ravel()
    for axes, (axis, title) in zip(plots, _AXES.items()):
        for name, colour in zip(_SCHEMES, ('#6b7a86', '#1f6fb4')):
            values = [(value, row[name]['age_ms']) for value, row in report[axis].items()]
            axes.plot(*zip(*values), marker='o', markersize=4, color=colour, label=name)
        axes.set(xlabel=title, ylabel=_AGES[report['clock']], xlim=(0, None), ylim=(0, None))
    plots[0].legend(frameon=False)
    plots[3].plot(*zip(*report['memory_mb'].items()), color='#3f9d6b')
    plots[3].set(xlabel='windows of the drive', ylabel='resident memory, MB', xlim=(0, None),
                 ylim=(0, 1.2 * max(report['memory_mb'].values())))
    for axes in plots:
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(color='#d9dee3', linewidth=0.7)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CrossSpecError(f'--plot must be an .svg or .png that can be written, got {path}: {error}') from error
