"""`crossspec bench drafts`: the shape of the event drafter's drafts, chains against trees, and what tells their length.

Each window of unseen drives is answered once by the verifier; then drafts of each shape are made of the same events,
and the window is decoded again from the record with them (`bench.heads_replay`), redrafts after verdicts included.
Ages are modelled by the cost curve measured on this machine and the processor time that each draft took. Intervals are
of a bootstrap over drives, the same drives for every row.

The second table is a regression, held out by drive, of the tokens that a draft has right on what is known of it when it
is sent: its own certainty, the rate of events, the share of cells that saw any.
"""
from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import thread_time_ns
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from crossspec_ros.bench.decode import drafter_for, hardware
from crossspec_ros.bench.heads import cell, encode_ms, summary
from crossspec_ros.bench.heads_replay import Recorded, Replay, load_drive, record_drive, save_drive
from crossspec_ros.bench.plugged import add_sources, sources_of
from crossspec_ros.bench.redrafts import Redrafter
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import TransformersTarget, load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.intervals import drawn_groups, interval_95, resampled_ratio
from crossspec_ros.speculation.sources.heads import FINAL
from crossspec_ros.speculation.types import Draft, prefix_hash, prompt_key
from crossspec_ros.world import DESCRIBE, EVALUATION_SEED

if TYPE_CHECKING:
    from crossspec_ros.models.drafter import DraftTokens, EventDrafter

_PACES = ('brisk', 'calm')
_SIZE = (240, 320)
_MIXTURES = {'drafts': ('drafts',), 'merged': ('memory', 'previous', 'drafts', 'rehearsal', 'recycling', 'prompt')}
Looks = dict[int, Sequence[np.ndarray]]
"""Window -> what the drafter was shown of it, early and at its end."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the options of `crossspec bench drafts`."""
    parser = subparsers.add_parser('drafts', help='chains against trees of the event drafter; what tells their length')
    parser.add_argument('--model', default='builtin', help='checkpoint folder, hub id or builtin (default)')
    parser.add_argument('--drafter', default='builtin', help='event drafter folder or builtin (default)')
    add_sources(parser)
    parser.add_argument('--alternatives', type=int, nargs='+', default=[8, 16, 32], metavar='N',
                        help='trees of so many tokens beside the likeliest words, default 8 16 32')
    parser.add_argument('--cuts', type=float, nargs='*', default=[], metavar='P',
                        help='chains that end where the drafter believes less than this in the whole path')
    parser.add_argument('--windows', type=int, default=200, help='windows of each pace, default 200')
    parser.add_argument('--drive-windows', type=int, default=20, metavar='N', help='windows of a drive, default 20')
    parser.add_argument('--paces', default=','.join(_PACES), help='paces of the drives, default brisk,calm')
    parser.add_argument('--prompt', default=DESCRIBE, help='the question')
    parser.add_argument('--seed', type=int, default=EVALUATION_SEED + 3000, help='first seed of the driving world')
    parser.add_argument('--record', type=Path, metavar='DIR', help='keep the answered windows here and use them again')
    parser.add_argument('--resamples', type=int, default=2000, help='of the bootstrap over drives, default 2000')
    parser.add_argument('--threads', type=int, default=1, help='torch threads, default 1; 0: as torch decides')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the bench and print tables or JSON."""
    paces = _checked(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    target = load_target(args.model)
    report = compare(args, target, drafter_for(args.drafter, target), paces)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 0


def _checked(args: argparse.Namespace) -> list[str]:
    """The paces. Raises `CrossSpecError` for options out of range."""
    for name in ('windows', 'drive_windows', 'resamples'):
        if getattr(args, name) < 1:
            raise CrossSpecError(f'--{name.replace("_", "-")} must be >= 1, got {getattr(args, name)}')
    if min(args.alternatives) < 1 or not all(0 < share < 1 for share in args.cuts):
        raise CrossSpecError(f'--alternatives must be >= 1 and --cuts in (0, 1), got {args.alternatives} and '
                             f'{args.cuts}')
    sources_of(args)
    paces = [pace.strip() for pace in args.paces.split(',')]
    if not set(paces) <= set(_PACES):
        raise CrossSpecError(f'--paces must be among {", ".join(_PACES)}, got {args.paces}')
    return paces


# -- drafts ------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Shape:
    """Tokens beside the likeliest words, and the belief in the path under which those end (0: they do not)."""

    alternatives: int = 0
    cut: float = 0.0


@dataclass
class Looker:
    """The drafter, as the recording of a drive asks it: keeps what it was shown."""

    drafter: EventDrafter
    seen: list[np.ndarray] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.drafter.shape

    @property
    def tokenizer_key(self) -> str:
        return self.drafter.tokenizer_key

    def draft(self, voxel: np.ndarray, *, prompt: str, prefix_ids: Sequence[int] = ()) -> DraftTokens:
        self.seen.append(voxel)
        return self.drafter.draft(voxel, prompt=prompt, prefix_ids=prefix_ids)


class Drawer:
    """Drafts of one shape, made again of what the drafter was shown; ``spent_ms`` of the processor by whole draft."""

    def __init__(self, drafter: EventDrafter, shape: Shape, prompt: str, looks: Looks) -> None:
        self._drafter, self._shape, self._prompt, self._looks = drafter, shape, prompt, looks
        self._late: dict[int, Draft] = {}                        # by window
        self._following: dict[int, Redrafter] = {}
        self._made: dict[tuple[int, tuple[int, ...]], Draft] = {}       # redrafts, the same whichever row asks
        self.spent_ms: list[float] = []
        self.sent: list[int] = []

    def window(self, window: Recorded) -> Recorded:
        """The window with early and late draft of this shape."""
        early, late = (self._draft(window, draft.revision, look, ())
                       for draft, look in zip((window.early, window.late), self._looks[window.window_id], strict=True))
        self.spent_ms.append(late.compute_ms)
        self.sent.append(len(late.token_ids))
        self._late[window.window_id] = late
        return replace(window, early=early, late=late)

    def again(self) -> Drawer:
        """One that has drawn the same windows and redrafted none."""
        made = Drawer(self._drafter, self._shape, self._prompt, self._looks)
        made._late, made._made = self._late, self._made
        return made

    def take(self, window: Recorded) -> Recorded:
        """The window with the drafts that it was recorded with, of this shape already."""
        self._late[window.window_id] = window.late
        return window

    def redraft(self, window: Recorded, committed: Sequence[int]) -> Draft | None:
        """As the drafter's node: a draft from the verified words where they depart from the newest draft."""
        if len(committed) >= len(window.token_ids):
            return None
        if window.window_id not in self._following:
            self._following[window.window_id] = Redrafter(
                self._late[window.window_id], lambda revision, verified: self._again(window, revision, verified))
        return self._following[window.window_id].after(committed)

    def _again(self, window: Recorded, revision: int, committed: tuple[int, ...]) -> Draft:
        key = window.window_id, committed
        if key not in self._made:
            self._made[key] = self._draft(window, revision, self._looks[window.window_id][1], committed)
        return replace(self._made[key], revision=revision)

    def _draft(self, window: Recorded, revision: int, look: np.ndarray, committed: tuple[int, ...]) -> Draft:
        start_ns = thread_time_ns()
        made = self._cut(look, committed) if self._shape.cut else self._drafter.draft(
            look, prompt=self._prompt, prefix_ids=committed, alternatives=self._shape.alternatives)
        spent_ms = (thread_time_ns() - start_ns) / 1e6
        return Draft(window.window_id, 0, revision, prompt_key(self._prompt), self._drafter.tokenizer_key, made.text,
                     made.token_ids, made.parents, made.weights, len(committed), prefix_hash(committed),
                     compute_ms=spent_ms)

    def _cut(self, look: np.ndarray, committed: Sequence[int]) -> DraftTokens:
        """A chain that ends where the path to the next token is believed less than the shape says."""
        from crossspec_ros.models.drafter import DraftTokens
        tokens, weights, path = [], [], 1.0
        for token, weight, _, _ in self._drafter.draft_stream(look, prompt=self._prompt, prefix_ids=committed):
            path *= weight / 1000
            if path < self._shape.cut:
                break
            tokens.append(token)
            weights.append(weight)
        return DraftTokens(tuple(tokens), tuple(weights), (), '', 0.0)


def compare(args: argparse.Namespace, target: TransformersTarget, drafter: EventDrafter, paces: Sequence[str]
            ) -> dict[str, object]:
    """All shapes on the same windows of each pace, alone and merged with the other sources."""
    costs = CaptionEngine(target).warm_up(args.prompt, *_SIZE)
    replay = Replay(target, (FINAL,), costs, encode_ms(target, args.prompt), args.prompt, *_SIZE)
    shapes = {'': Shape()} | {f' + {count}': Shape(count) for count in args.alternatives}
    shapes |= {f' + cut at {share:g}': Shape(cut=share) for share in args.cuts}
    report: dict[str, object] = {'model': str(args.model), 'prompt': args.prompt, 'hardware': hardware('cpu'),
                                 'costs_ms': costs, 'paces': {}}
    mixtures = dict(_MIXTURES)
    for name in sources_of(args):
        mixtures |= {name: (name,), f'merged + {name}': (*_MIXTURES['merged'], name)}
    for pace in paces:
        windows, looks = _recorded(args, target, drafter, pace)
        told, drafts = {}, {}
        for label, shape in shapes.items():
            drawer = Drawer(drafter, shape, args.prompt, looks)
            drawn = [drawer.window(window) for window in track(windows, f'drafts{label}', transient=True,
                                                               console=Console(stderr=True))]
            drafts[f'drafts{label}'] = {'tokens': float(np.mean(drawer.sent)),
                                        'compute_ms': float(np.median(drawer.spent_ms))}
            for name, sources in (_MIXTURES if label else mixtures).items():
                told[f'{name}{label}'] = replay.run(sources, (), drawn, drawer.again().redraft)
        report['paces'][pace] = {
            'windows': len(windows), 'drives': len({window.drive for window in windows}), 'drafts': drafts,
            'rows': summary(told, args.resamples, tuple(_MIXTURES)),
            'length': length_table(windows, looks, args.resamples)}
    return report


def _recorded(args: argparse.Namespace, target: TransformersTarget, drafter: EventDrafter, pace: str
              ) -> tuple[list[Recorded], Looks]:
    """The windows of a pace, and what the drafter was shown of each; from the folder of records where it has them."""
    windows, looks = [], {}
    key = f'{target.model_key} {args.drafter} {args.prompt} drafts'
    for drive in range(-(-args.windows // args.drive_windows)):
        seed, first_id = args.seed + drive, len(windows) + 1
        count = min(args.drive_windows, args.windows - len(windows))
        path = args.record / f'drafts_{pace}_{seed}_{count}.npz' if args.record else None
        shown = path.with_suffix('.looks.npz') if path else None
        if path is not None and path.is_file() and shown.is_file():
            found = load_drive(path, key, first_id, args.prompt, target.tokenizer_key)
            seen = load_looks(shown)
        else:
            looker = Looker(drafter)
            found = record_drive(target, looker, (FINAL,), seed=seed, pace=pace, prompt=args.prompt, windows=count,
                                 first_id=first_id)
            seen = looker.seen
            if path is not None:
                save_drive(path, key, found)
                np.savez_compressed(shown, *seen)
        looks |= {window.window_id: seen[2 * place:2 * place + 2] for place, window in enumerate(found)}
        windows += found
    return windows, looks


def load_looks(path: Path) -> list[np.ndarray]:
    """What the drafter was shown in a recorded drive. Raises `CrossSpecError` where it cannot be read."""
    try:
        with np.load(path) as stored:
            return [stored[f'arr_{number}'] for number in range(len(stored.files))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CrossSpecError(f'cannot read the recorded drive {path} ({error}): delete it') from error


# -- what tells the length ---------------------------------------------------------------------------------------------

def length_table(windows: Sequence[Recorded], looks: Looks, resamples: int) -> dict[str, object]:
    """Share of the variance of the accepted length that features explain on drives that they were not fitted on."""
    rows = [_features(window, looks[window.window_id][1]) for window in windows]
    right, certainty, activity = (np.array(column, float) for column in zip(*rows))
    drives = np.array([window.drive for window in windows])
    both = np.column_stack((certainty, activity))
    errors = {name: _held_out_errors(features, right, drives) for name, features in (
        ('mean', np.zeros((len(rows), 0))), ('certainty', certainty[:, None]), ('events', activity),
        ('certainty and events', both))}
    draws = drawn_groups(len(set(drives)), resamples)
    by_drive = {name: np.array([squared[drives == drive].sum() for drive in dict.fromkeys(drives)])
                for name, squared in errors.items()}

    def explained(name: str, base: str) -> dict[str, object]:
        left, there = by_drive[name], by_drive[base] + 1e-9      # all drafts may be as long as another
        sampled = 1.0 - resampled_ratio(left, there, draws)
        return {'value': round(1.0 - left.sum() / there.sum(), 3),
                'interval': [round(value, 3) for value in interval_95(sampled)]}
    return {'accepted_tokens': round(float(right.mean()), 2),
            'explained': {name: explained(name, 'mean') for name in errors if name != 'mean'},
            'events_beyond_certainty': explained('certainty and events', 'certainty')}


def _features(window: Recorded, look: np.ndarray) -> tuple[int, float, tuple[float, float]]:
    """Tokens that the late draft has right, how many it expects by its weights, and (log of the events in the grid,
    busy cells)."""
    draft = window.late
    right = next((place for place, (said, true) in enumerate(zip(draft.token_ids, window.token_ids)) if said != true),
                 min(len(draft.token_ids), len(window.token_ids)))
    expected = float(np.cumprod(np.array(draft.weights) / 1000).sum())
    return right, expected, (float(np.log1p(np.abs(look).sum())), float((look != 0).any(0).mean()))


def _held_out_errors(features: np.ndarray, right: np.ndarray, drives: np.ndarray) -> np.ndarray:
    """Squared error of each window by least squares over the windows of all other drives."""
    matrix = np.column_stack((np.ones(len(right)), features))
    errors = np.zeros(len(right))
    for drive in set(drives):
        held = drives == drive
        known = ~held if not held.all() else held
        weights = np.linalg.lstsq(matrix[known], right[known], rcond=None)[0]
        errors[held] = (right[held] - matrix[held] @ weights) ** 2
    return errors


# -- output ------------------------------------------------------------------------------------------------------------

def show(report: dict[str, object]) -> None:
    """The report as tables for people."""
    console = Console()
    console.width = max(console.width, 130)
    for pace, part in report['paces'].items():
        table = Table(title=f'{pace}: {part["windows"]} windows of {part["drives"]} drives, {report["hardware"]}')
        for column in ('drafts', 'tokens', 'draft, ms', 'tau', 'passes', 'age p50, ms', 'age p99, ms', 'passes over',
                       'mean age over, ms'):
            table.add_column(column, justify='left' if column == 'drafts' else 'right', no_wrap=True,
                             min_width=max(map(len, part['rows'])) if column == 'drafts' else None)
        for name, row in part['rows'].items():
            draft = part['drafts'].get(name.replace('merged', 'drafts'))
            drawn = ('', '') if draft is None else (f'{draft["tokens"]:.1f}', f'{draft["compute_ms"]:.1f}')
            over = next((row[key] for key in row if key.startswith('over_')), None)
            table.add_row(name, *drawn,
                          *(cell(row[key], 2) for key in ('tau', 'passes')),
                          *(f'{row[key]["value"]:.1f}' for key in ('age_p50_ms', 'age_p99_ms')),
                          *('' if over is None else cell(over[key], 2) for key in ('passes', 'age_mean_ms')))
        console.print(table)
        length = part['length']
        console.print(f'accepted length {length["accepted_tokens"]} tokens; share of its variance that is told by '
                      + ', '.join(f'{name} {cell(found, 3)}' for name, found in length['explained'].items())
                      + f'; by events beyond certainty {cell(length["events_beyond_certainty"], 3)}')
