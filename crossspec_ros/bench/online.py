"""`crossspec bench online`: a drive whose wording changes on its way, with a drafter that learns and one that does not.

First the question changes, then the weather. The verifier answers each window once; both drafters are judged by the
same answers, in the order of the drive: passes that the verifier would take with the drafts of that drafter alone
(`learn.online.count_passes`). The one that learns is given, after each window, the time of a core that `learn.online`
would give it in the second until the next. What learning costs drafts is measured apart (`bench.online_cost`).
"""
from __future__ import annotations

import argparse
import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from crossspec_ros.bench.decode import hardware
from crossspec_ros.bench.online_cost import MODES, draft_times
from crossspec_ros.config import IDLE, OnlineConfig
from crossspec_ros.demo.plots import CAPTION, DRAFT, INK, STYLE, new_axes
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.representations import voxel_grid
from crossspec_ros.learn.online import OnlineLearner, copied, count_passes, right_places, said_certainly, tau
from crossspec_ros.models.drafter import EventDrafter, load_drafter
from crossspec_ros.models.targets import load_target
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.pipeline.learning_messages import Heard
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Caption, Stage
from crossspec_ros.world import DESCRIBE, EVALUATION_SEED, Clip, World

_LEAD_NS = 125_000_000
_SECOND_NS = 1_000_000_000
_DRIVE_S = 40                    # of one drive, then the next seed
_SMOOTH = 20                     # windows of a point of the plot
_BRIGHT, _DARK = ('day', 'dusk'), ('night', 'rain', 'fog')


@dataclass(frozen=True)
class Phase:
    """A part of the drive: what is asked, and in which weather."""

    prompt: str
    weathers: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f'{self.prompt} ({", ".join(self.weathers)})'


@dataclass(frozen=True)
class Row:
    """A window: its phase, tokens that the verifier said, passes with the fixed drafter and with the learning one."""

    phase: int
    tokens: int
    fixed: int
    online: int


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the options of `crossspec bench online`."""
    parser = subparsers.add_parser('online', help='learning while driving: tokens a pass as the wording changes')
    parser.add_argument('--model', default='builtin', help='the verifier (%(default)s)')
    parser.add_argument('--drafter', default='builtin', help='the drafter to begin with (%(default)s)')
    parser.add_argument('--windows', type=int, default=150, help='of each of the three parts (%(default)s)')
    parser.add_argument('--prompts', nargs=2, default=[DESCRIBE, 'Describe the road.'], metavar='TEXT',
                        help='what is asked first, and then (%(default)s)')
    parser.add_argument('--pace', default='brisk', choices=('brisk', 'calm'), help='of the drives (%(default)s)')
    parser.add_argument('--cpu-share', type=float, default=OnlineConfig().online_cpu_share, metavar='SHARE',
                        help='learn.online_cpu_share (%(default)s)')
    parser.add_argument('--rate', type=float, default=OnlineConfig().rate, help='learn.rate (%(default)g)')
    parser.add_argument('--judge-windows', type=int, default=OnlineConfig().judge_windows, metavar='N',
                        help='learn.judge_windows (%(default)s)')
    parser.add_argument('--priority', choices=(IDLE, 'normal'), default='normal',
                        help='learn.online_priority of the process beside which drafts are timed (%(default)s)')
    parser.add_argument('--drafts', type=int, default=100,
                        help='drafts that are timed beside learning, each way (%(default)s; 0: none)')
    parser.add_argument('--seed', type=int, default=EVALUATION_SEED + 3000, help='first seed of the driving world')
    parser.add_argument('--threads', type=int, default=1, help='torch threads (%(default)s)')
    parser.add_argument('--record', type=Path, metavar='FILE', help='keep the answered windows here and use them again')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw it: .svg or .png')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Drive, learn, and print a table or JSON."""
    if args.windows < 8 or args.drafts < 0:
        raise CrossSpecError(f'--windows must be >= 8 and --drafts >= 0, got {args.windows} and {args.drafts}')
    if not all(prompt.strip() for prompt in args.prompts):
        raise CrossSpecError(f'--prompts must be two texts, got {args.prompts}')
    settings = replace(OnlineConfig(), online=True, online_cpu_share=args.cpu_share, rate=args.rate,
                       judge_windows=args.judge_windows, online_priority=args.priority)
    if not 0 < settings.online_cpu_share <= 1 or settings.judge_windows < 8 or not settings.rate > 0:
        raise CrossSpecError('--cpu-share must be > 0 and <= 1, --judge-windows >= 8 and --rate > 0, got '
                             f'{args.cpu_share}, {args.judge_windows} and {args.rate}')
    torch.set_num_threads(max(1, args.threads))
    drafter = load_drafter(args.drafter)
    phases = [Phase(args.prompts[0], _BRIGHT), Phase(args.prompts[1], _BRIGHT), Phase(args.prompts[1], _DARK)]
    drive = _recalled(args, drafter) or _answered(args, drafter, phases)
    report = learn_along(drafter, drive, settings) | {
        'phases': [phase.name for phase in phases], 'windows': args.windows, 'pace': args.pace,
        'settings': asdict(settings), 'hardware': hardware('cpu')}
    if args.drafts:
        report['draft_ms'] = {mode: draft_times(drafter, [heard for _, heard in drive], settings, mode, args.drafts)
                              for mode in track(MODES, 'drafts', console=Console(stderr=True), transient=True)}
    if args.plot is not None:
        draw(report, args.plot)
    print(json.dumps(report, indent=1) if args.json else '\n'.join(lines(report)))
    return 0


def _answered(args: argparse.Namespace, drafter: EventDrafter, phases: Sequence[Phase]) -> list[tuple[int, Heard]]:
    """The windows of the drive with what the verifier says of them, each with the number of its phase."""
    target = load_target(args.model)
    if target.tokenizer_key != drafter.tokenizer_key:
        raise CrossSpecError('--drafter must speak the tokens of --model to learn while driving, got another '
                             'vocabulary: learn one with `crossspec learn`')
    engine, found = CaptionEngine(target, EngineConfig()), []
    engine.warm_up(phases[0].prompt)
    clips = _clips(args.seed, args.pace, phases, args.windows)
    for number, (phase, clip) in enumerate(track(clips, 'answers', total=len(phases) * args.windows,
                                                 console=Console(stderr=True), transient=True)):
        end_ns = round(clip.window_end_s * _SECOND_NS)
        bins, *shape = drafter.shape
        looks = np.stack([voxel_grid(clip.events, end - _SECOND_NS, end, bins=bins, shape=tuple(shape))
                          for end in (end_ns - _LEAD_NS, end_ns)]).astype(np.float16)
        ids = answer(engine, number, clip, phases[phase].prompt)
        found.append((phase, Heard(number, phases[phase].prompt, looks, ids, target.model_key)))
    if args.record is not None:
        write_atomic(args.record, lambda path: _save(path, _settled(args, drafter), found))
    return found


def _settled(args: argparse.Namespace, drafter: EventDrafter) -> str:
    """What a record depends on."""
    return json.dumps([args.model, list(drafter.shape), args.windows, args.prompts, args.pace, args.seed])


def _save(path: Path, settled: str, drive: Sequence[tuple[int, Heard]]) -> None:
    with path.open('wb') as file:
        np.savez_compressed(file, settled=settled, phases=[phase for phase, _ in drive], keys=[
            heard.verifier_key for _, heard in drive], prompts=[heard.prompt for _, heard in drive], looks=np.stack(
            [heard.looks for _, heard in drive]), lengths=[len(heard.token_ids) for _, heard in drive],
            token_ids=np.concatenate([heard.token_ids for _, heard in drive]))


def _recalled(args: argparse.Namespace, drafter: EventDrafter) -> list[tuple[int, Heard]]:
    """The windows of a record; none where there is none. Raises CrossSpecError for one of another drive."""
    if args.record is None or not args.record.is_file():
        return []
    try:
        with np.load(args.record) as file:
            stored = {name: file[name] for name in file.files}
        settled = str(stored['settled'])
        said = np.split(stored['token_ids'], np.cumsum(stored['lengths'])[:-1])
        drive = [(int(phase), Heard(number, str(prompt), looks, tuple(ids.tolist()), str(key)))
                 for number, (phase, prompt, looks, ids, key) in enumerate(zip(
                     stored['phases'], stored['prompts'], stored['looks'], said, stored['keys'], strict=True))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CrossSpecError(f'cannot read the record {args.record} ({error}): delete it') from error
    if settled != _settled(args, drafter):
        raise CrossSpecError(f'{args.record} is of another verifier, drive or question: name another --record')
    return drive


def _clips(seed: int, pace: str, phases: Sequence[Phase], count: int) -> Iterator[tuple[int, Clip]]:
    """``count`` windows of each phase, one after another, of drives in its weather."""
    for phase, wanted in enumerate(phases):
        left = count
        while left:
            world, seed = World(seed, pace=pace), seed + 1
            for second in range(2, 2 + _DRIVE_S):
                if left and world.slots(float(second))['weather'] in wanted.weathers:
                    left -= 1
                    yield phase, world.clip(float(second), before_s=_LEAD_NS / _SECOND_NS)


def answer(engine: CaptionEngine, window_id: int, clip: Clip, prompt: str) -> tuple[int, ...]:
    """What the verifier says of a window, without the end token."""
    session = engine.open(window_id, (window_id + 1) * _SECOND_NS, prompt)
    try:
        for slot, (stamp_ns, frame) in enumerate(zip(clip.frame_stamps_ns.tolist(), clip.frames, strict=True)):
            session.add_frame(slot, stamp_ns, np.ascontiguousarray(frame))
        return next(output.token_ids for output in session.answer()
                    if isinstance(output, Caption) and output.stage is Stage.FINAL)
    finally:
        session.close()


def learn_along(drafter: EventDrafter, drive: Sequence[tuple[int, Heard]], settings: OnlineConfig) -> dict[str, Any]:
    """Both drafters over the drive: rows by window, where the one that learns changed, and its counts."""
    fixed, learner = copied(drafter).eval(), OnlineLearner(copied(drafter), settings, settings.online_memory_mb << 20)
    rows, swaps = [], []
    for number, (phase, heard) in enumerate(track(drive, 'learning', console=Console(stderr=True), transient=True)):
        said = said_certainly((*heard.token_ids, drafter.config.eos_token_id))
        passes = [count_passes(right_places(each, heard, said)) for each in (fixed, learner.active)]
        rows.append(Row(phase, len(said.token_ids), *passes))
        learner.hear(heard)
        begin_s = time.process_time()
        while time.process_time() - begin_s < settings.online_cpu_share and learner.work():
            pass
        better = learner.take_better()
        if better is not None:
            swaps.append({'window': number + 1, 'judged_by': better.windows, 'tau_before': round(better.tau_before, 3),
                          'tau_after': round(better.tau_after, 3)})
    return {'rows': [asdict(row) for row in rows], 'swaps': swaps, 'learner': learner.statistics(),
            'tau': [_halves([row for row in rows if row.phase == phase])
                    for phase in range(1 + max(phase for phase, _ in drive))]}


def _halves(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Tokens a pass in the first and the second half of a phase, by drafter."""
    half = len(rows) // 2
    return {name: {part: round(tau([row.tokens for row in some], [getattr(row, name) for row in some]), 3)
                   for part, some in (('first_half', rows[:half]), ('second_half', rows[half:]))}
            for name in ('fixed', 'online')}


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    text = [f'{report["hardware"]}; {report["windows"]} windows a part, {report["pace"]}']
    for name, halves in zip(report['phases'], report['tau'], strict=True):
        fixed, online = halves['fixed'], halves['online']
        text.append(f'{name}: fixed {fixed["first_half"]:.2f} then {fixed["second_half"]:.2f} tokens a pass, learning '
                    f'{online["first_half"]:.2f} then {online["second_half"]:.2f}')
    text += [f'takes over after window {swap["window"]}: {swap["tau_before"]:.2f} -> {swap["tau_after"]:.2f} over '
             f'{swap["judged_by"]} windows' for swap in report['swaps']]
    text.append('learner: ' + ', '.join(f'{name} {value}' for name, value in report['learner'].items()))
    for mode, times in report.get('draft_ms', {}).items():
        text.append(f'a draft {mode}: p50 {times["p50"]:.1f} ms, p99 {times["p99"]:.1f} ms')
    return text


def draw(report: dict[str, Any], path: Path) -> None:
    """Tokens a pass over the drive. Raises CrossSpecError for a file that cannot be written."""
    rows = [Row(**row) for row in report['rows']]
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(8.6, 3.6, f'Tokens a pass, drafts alone, over the last {_SMOOTH} windows',
                                'window (one a second)', '')
        for name, colour, label in (('fixed', CAPTION, 'as loaded'), ('online', DRAFT, 'learning while driving')):
            axes.plot([tau([row.tokens for row in part], [getattr(row, name) for row in part])
                       for part in (rows[max(0, end - _SMOOTH):end] for end in range(1, len(rows) + 1))],
                      color=colour, label=label)
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, len(rows))
        top = axes.get_ylim()[1]
        axes.set_ylim(0, 1.12 * top)
        for phase, name in enumerate(report['phases']):
            begin = next(number for number, row in enumerate(rows) if row.phase == phase)
            axes.axvline(begin, color=INK, linewidth=0.8, linestyle=':')
            axes.text(begin + 0.01 * len(rows), 1.1 * top, name, va='top', fontsize=8)
        swaps = [swap['window'] for swap in report['swaps']]
        axes.plot(swaps, [0.02 * top] * len(swaps), marker='^', color=DRAFT, linestyle='none', label='takes over')
        figure.legend(frameon=False, loc='outside lower center', ncols=3)
        try:
            figure.savefig(path, dpi=110)
        except (OSError, ValueError) as error:
            raise CrossSpecError(f'--plot must be an .svg or .png that can be written, got {path}: {error}') from error
