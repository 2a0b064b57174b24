"""`crossspec bench decode`: plain generation and ours side by side on the same windows, feature by feature."""
from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from crossspec_ros.bench.decode_drive import drive
from crossspec_ros.bench.decode_predicted import Times, drafted, predicted
from crossspec_ros.bench.decode_schemes import Outcome, PlainGeneration, Speculation, Window
from crossspec_ros.bench.plugged import add_sources, sources_of
from crossspec_ros.bench.redrafts import Redrafter
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.representations import voxel_grid
from crossspec_ros.models.real_shapes import SHORT
from crossspec_ros.models.targets import TransformersTarget, load_target
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Draft, prefix_hash, prompt_key
from crossspec_ros.world import DESCRIBE, EVALUATION_SEED, Clip, World

if TYPE_CHECKING:
    from crossspec_ros.models.drafter import EventDrafter

_MS = 1_000_000
_LEAD_MS = 125                   # before a window's end, when the first event draft is begun
_DRIVE_WINDOWS = 100             # windows of one drive before the next seed is taken
_MANY, _FEW = 200, 3             # windows where none are asked for; few of a real shape on a CPU


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the options of `crossspec bench decode`."""
    parser = subparsers.add_parser('decode', help='caption age against plain generation, feature by feature')
    parser.add_argument('--model', default='builtin', help='checkpoint folder, hub id or builtin (default)')
    parser.add_argument('--drafter', default='builtin', help='event drafter folder, builtin (default) or none')
    parser.add_argument('--assistant', default='', metavar='DIR',
                        help='a small checkpoint with the verifier\'s vocabulary, for assisted generation')
    parser.add_argument('--windows', type=int,
                        help='windows to decode, default 200, and 3 with --shapes on a CPU')
    parser.add_argument('--warm', type=int, default=60, help='windows of another drive before, not counted, default 60')
    parser.add_argument('--runs', type=int, default=1, help='how often all of it is decoded, each time with a memory '
                        'that begins anew; of a window the run of the median age counts, default 1')
    add_sources(parser)
    parser.add_argument('--schemes', default='', metavar='A,B', help='only these, beside generate; default all')
    parser.add_argument('--prompt', default=DESCRIBE, help='the question')
    parser.add_argument('--max-tokens', type=int, default=96, help='tokens of a caption at most, default 96')
    parser.add_argument('--seed', type=int, default=EVALUATION_SEED, help='first seed of the driving world')
    parser.add_argument('--device', default='cpu', help='torch device, default cpu')
    parser.add_argument('--dtype', default='float32', help='float32 (default), bfloat16 or float16')
    parser.add_argument('--threads', type=int, default=0, help='torch threads, default as torch decides')
    parser.add_argument('--drive', type=int, default=0, metavar='N',
                        help='only ours, N windows in a row: report memory over the drive')
    parser.add_argument('--counts', action='store_true',
                        help='only operations and host reads of a pass, as long as it is and filled up to sizes')
    parser.add_argument('--predict', action='store_true',
                        help='also the ages that the model of ages foretells (crossspec_ros.speculation.age)')
    parser.add_argument('--shapes', choices=list(SHORT), help='random weights of the shapes of a model, its words '
                        'given')
    parser.add_argument('--traces', default='', help='recorded captions for --shapes (JSON), default those of a drive '
                        'of the driving world')
    parser.add_argument('--layers', type=int, default=0, metavar='N', help='with --shapes: layers of decoder and '
                        'vision tower at most, default 2 on a CPU (all with --counts), else all')
    parser.add_argument('--width', type=int, default=0, metavar='N', help='with --shapes: width of the decoder at most '
                        '(the tower by the same share), default whole, on a CPU what memory allows')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the bench and print a table or JSON."""
    if args.windows is None:
        args.windows = _FEW if args.shapes and not args.device.startswith('cuda') else _MANY
    _check(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.counts:
        from crossspec_ros.bench.decode_counts import run_counts
        report = run_counts(args)
    elif args.shapes:
        from crossspec_ros.bench.decode_real import run_shapes
        report = run_shapes(args)
    else:
        verifier = load_target(args.model, args.device, args.dtype)
        drafter = None if args.drafter == 'none' else drafter_for(args.drafter, verifier)
        report = _drive(args, verifier, drafter) if args.drive else compare(args, verifier, drafter)
    report['hardware'] = hardware(args.device)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 0


def _check(args: argparse.Namespace) -> None:
    for name, value, least in (('windows', args.windows, 1), ('max-tokens', args.max_tokens, 1),
                               ('layers', args.layers, 0), ('width', args.width, 0), ('runs', args.runs, 1)):
        if value < least:
            raise CrossSpecError(f'--{name} must be >= {least}, got {value}')
    if sources_of(args) and (args.counts or args.shapes or args.drive):
        raise CrossSpecError('--sources must be left out with --counts, --shapes and --drive, which have no rows of '
                             'them')
    if args.runs > 1 and (args.counts or args.shapes or args.drive or args.predict):
        raise CrossSpecError('--runs must be left out with --counts, --shapes, --drive and --predict, which tell of '
                             'one')
    if not args.shapes and (args.layers or args.width or args.traces):
        raise CrossSpecError('--layers, --width and --traces need --shapes, which says of what model')


def drafter_for(name: str, verifier: TransformersTarget) -> EventDrafter:
    from crossspec_ros.models.drafter import load_drafter
    drafter = load_drafter(name)
    if drafter.tokenizer_key != verifier.tokenizer_key:
        raise CrossSpecError(f'--drafter must share the vocabulary of the verifier ({verifier.tokenizer_key}), '
                             f'got {drafter.tokenizer_key}; name a drafter trained for it, or none')
    return drafter


# -- windows ---------------------------------------------------------------------------------------------------------

def make_windows(count: int, seed: int, first_id: int, prompt: str, drafter: EventDrafter | None,
                 pace: str = 'brisk') -> list[Window]:
    """Windows one after another of unseen drives, each drive at most ``_DRIVE_WINDOWS`` long, with event drafts."""
    windows = []
    for index in track(range(count), description='drive', console=Console(stderr=True), transient=True):
        drive_index, second = divmod(index, _DRIVE_WINDOWS)
        if second == 0:
            world = World(seed + drive_index, pace=pace)
        clip = world.clip(float(second + 2), before_s=_LEAD_MS / 1000)
        window = Window(first_id + index, [np.ascontiguousarray(frame) for frame in clip.frames], prompt)
        windows.append(window if drafter is None else _drafted(drafter, clip, window))
    return windows


def _drafted(drafter: EventDrafter, clip: Clip, window: Window) -> Window:
    """The window with its event drafts, and with what makes more of them after verdicts."""
    end_ns = round(clip.window_end_s * 1e9)
    early_look, look = (_look(drafter, clip, end_ns - lead_ms * _MS) for lead_ms in (_LEAD_MS, 0))

    def draft(seen: np.ndarray, revision: int, committed: tuple[int, ...] = ()) -> Draft:
        made = drafter.draft(seen, prompt=window.prompt, prefix_ids=committed)
        return Draft(window.window_id, end_ns, revision, prompt_key(window.prompt), drafter.tokenizer_key, made.text,
                     made.token_ids, made.parents, made.weights, len(committed), prefix_hash(committed),
                     events_used=len(clip.events), compute_ms=made.compute_ms)

    early, late = draft(early_look, 0), draft(look, 1)
    return replace(window, early=early, late=late, follow=lambda: Redrafter(late, partial(draft, look)))


def _look(drafter: EventDrafter, clip: Clip, end_ns: int) -> np.ndarray:
    """What the drafter sees of the second before ``end_ns``."""
    bins, height, width = drafter.shape
    return voxel_grid(clip.events, end_ns - 1000 * _MS, end_ns, bins=bins, shape=(height, width))


# -- schemes ---------------------------------------------------------------------------------------------------------

def load_assistant(name: str, verifier: TransformersTarget, args: argparse.Namespace) -> torch.nn.Module:
    """The model that drafts in the assisted generation of transformers; it must share the verifier's vocabulary."""
    assistant = load_target(name, args.device, args.dtype)
    if assistant.tokenizer_key != verifier.tokenizer_key:
        raise CrossSpecError(f'--assistant must share the vocabulary of the verifier ({verifier.tokenizer_key}), got '
                             f'{assistant.tokenizer_key}: name a smaller checkpoint of the same family')
    return assistant.model


def make_schemes(verifier: TransformersTarget, max_tokens: int, with_drafter: bool,
                 assistant: torch.nn.Module | None = None, plugged: Sequence[str] = ()
                 ) -> dict[str, PlainGeneration | Speculation]:
    """Plain, prompt lookup and assisted generation, and the ladder: each rung adds one feature to the one before;
    ``plugged``: sources of other packages, each alone and beside ours."""
    base = EngineConfig(window_frames=8, max_new_tokens=max_tokens, anticipatory=False, fused=False, frame_cache=False,
                        speculate=False)
    cached = replace(base, frame_cache=True)
    memory, fused = replace(cached, speculate=True), replace(cached, speculate=True, fused=True)
    ahead = replace(fused, anticipatory=True)
    recall = ('memory', 'previous', 'recycling')
    schemes: dict[str, PlainGeneration | Speculation] = {
        'generate': PlainGeneration(verifier, max_tokens),
        'prompt_lookup': PlainGeneration(verifier, max_tokens, prompt_lookup_num_tokens=10),
    }
    if assistant is not None:
        schemes['assisted'] = PlainGeneration(verifier, max_tokens, assistant_model=assistant)
    schemes |= {
        'plain': Speculation(verifier, base, (), early_encode=False),
        'cache': Speculation(verifier, cached, ()),
        'memory': Speculation(verifier, memory, ('memory', 'previous'), chains=True),
        'tree': Speculation(verifier, memory, recall),
        'fused': Speculation(verifier, fused, recall),
        'anticipatory': Speculation(verifier, ahead, recall),
    }
    if with_drafter:
        schemes['drafts'] = Speculation(verifier, ahead, (*recall, 'drafts'), drafts=True)
    ours = (*recall, 'drafts', 'rehearsal')
    schemes |= {name: Speculation(verifier, ahead, (name,)) for name in plugged}
    schemes |= {name: Speculation(verifier, ahead, sources, drafts=with_drafter, rehearse=True)
                for name, sources in {'ours': ours, **{f'ours + {name}': (*ours, name) for name in plugged}}.items()}
    return schemes


def chosen_schemes(schemes: dict[str, PlainGeneration | Speculation], names: str) -> dict:
    """Those named, comma separated, and generate, which all are compared with; all where none is named."""
    wanted = [name.strip() for name in names.split(',') if name.strip()]
    unknown = [name for name in wanted if name not in schemes]
    if unknown:
        raise CrossSpecError(f'--schemes must be among {", ".join(schemes)}, got {", ".join(unknown)}')
    return {name: scheme for name, scheme in schemes.items() if not wanted or name in wanted or name == 'generate'}


def compare(args: argparse.Namespace, verifier: TransformersTarget, drafter: EventDrafter | None) -> dict:
    """All schemes on the same windows, window by window, so that the machine's load is the same for each."""
    assistant = load_assistant(args.assistant, verifier, args) if args.assistant else None
    made = make_schemes(verifier, args.max_tokens, drafter is not None, assistant, sources_of(args))
    schemes = chosen_schemes(made, args.schemes)
    warm = make_windows(args.warm, args.seed + 10_000, 1, args.prompt, drafter)
    windows = make_windows(args.windows, args.seed, args.warm + 1, args.prompt, drafter)
    for scheme in schemes.values():
        if isinstance(scheme, Speculation):
            scheme.engine.warm_up(args.prompt)
    times, counted = [], {}
    runs: list[dict[str, list[Outcome]]] = []
    errors: dict[str, str] = {}
    for number in range(args.runs):
        for scheme in schemes.values():
            if number and isinstance(scheme, Speculation):
                scheme.engine.reset()
        for window in track(warm, description='warm up', console=Console(stderr=True), transient=True):
            for name, scheme in schemes.items():
                if name not in errors and (isinstance(scheme, Speculation) or window.window_id <= 3):
                    scheme.run(window)
        if args.predict:
            times.append(Times.measure(verifier, windows[0]))
        counted = {name: drafted(scheme) for name, scheme in schemes.items()}
        runs.append(_decoded(schemes, windows, errors))
    said = {name: list(zip(*(run[name] for run in runs))) for name in schemes}
    outcomes = {name: [_median(row) for row in rows] for name, rows in said.items()}
    report = {'windows': len(windows), 'runs': args.runs, 'prompt': args.prompt, 'model': str(args.model),
              'schemes': {name: summary(rows, outcomes['generate'], said[name]) for name, rows in outcomes.items()
                          if name not in errors}}
    plain = report['schemes']['generate']['age_ms']['p50']
    report['speedup'] = {name: plain / scheme['age_ms']['p50'] for name, scheme in report['schemes'].items()}
    report['not_run'] = errors
    if assistant is None:
        report['not_run']['assisted'] = 'the event drafter is no transformers model; name one with --assistant'
    if args.predict:
        times.append(Times.measure(verifier, windows[0]))
        layout = verifier.layout(args.prompt, len(windows[0].frames), *windows[0].frames[0].shape[:2])
        report['predicted'] = predicted(times, layout.last_tokens, outcomes,
                                        {name: _nodes(schemes[name], before) for name, before in counted.items()})
    if 'ours' in schemes:
        report['statistics'] = schemes['ours'].engine.statistics()
    return report


def _decoded(schemes: dict[str, PlainGeneration | Speculation], windows: Sequence[Window], errors: dict[str, str]
             ) -> dict[str, list[Outcome]]:
    """Outcomes by scheme; what goes wrong in one of them is noted in ``errors``, and it is left out from there on."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in schemes}
    for window in track(windows, description='decode', console=Console(stderr=True), transient=True):
        for name, scheme in schemes.items():
            if name in errors:
                continue
            try:
                outcomes[name].append(scheme.run(window))
            except (RuntimeError, ValueError, IndexError) as error:         # transformers' prompt lookup may break
                errors[name] = f'{type(error).__name__}: {str(error).splitlines()[0]}'
    return outcomes


def _median(runs: Sequence[Outcome]) -> Outcome:
    """Of one window: the run of the median age, of an even number the younger."""
    return sorted(runs, key=lambda run: run.age_ms)[(len(runs) - 1) // 2]


def _nodes(scheme: PlainGeneration | Speculation, before: tuple[int, int]) -> float:
    nodes, passes = (now - then for now, then in zip(drafted(scheme), before))
    return nodes / passes if passes else 0.0


def summary(rows: Sequence[Outcome], reference: Sequence[Outcome], said: Sequence[Sequence[Outcome]] = ()) -> dict:
    """Figures of one scheme; ``identical``: every window has the tokens that generate has, in all its runs ``said``."""
    ages = np.array([row.age_ms for row in rows])
    same = sum(all(run.tokens == other.tokens for run in runs)
               for runs, other in zip(said or [(row,) for row in rows], reference))
    own = [(row.own_ms / row.age_ms, row.beside_ms / row.age_ms) for row in rows if row.own_ms is not None]
    own_share, beside_share = np.median(own, axis=0).tolist() if own else (None, None)
    return {'age_ms': {'p50': float(np.median(ages)), 'p99': float(np.percentile(ages, 99))},
            'compute_ms': float(np.mean([row.compute_ms for row in rows])),
            'tau': sum(row.emitted for row in rows) / sum(row.passes for row in rows),
            'passes': float(np.mean([row.passes for row in rows])),
            'identical': same == len(rows), 'identical_windows': same,
            'own_share': own_share, 'beside_model_share': beside_share}


def _drive(args: argparse.Namespace, verifier: TransformersTarget, drafter: EventDrafter | None) -> dict:
    """Ours alone over a long drive; see `bench.decode_drive`."""
    scheme = make_schemes(verifier, args.max_tokens, drafter is not None)['ours']
    return drive(args, scheme, make_windows(min(args.drive, _DRIVE_WINDOWS), args.seed, 0, args.prompt, drafter))


# -- output ----------------------------------------------------------------------------------------------------------

def hardware(device: str) -> str:
    """The machine in words."""
    name = platform.processor() or platform.machine()
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as lines:
            name = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), name)
    except OSError:
        pass
    text = f'{name}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads'
    return f'{torch.cuda.get_device_name(device)}; {text}' if device.startswith('cuda') else text


def _same(row: dict) -> str:
    return 'yes' if row['identical'] else f'{row["identical_windows"]} windows'


def show(report: dict) -> None:
    """The report as a table for people."""
    console = Console()
    if 'counts' in report:
        from crossspec_ros.bench.decode_counts import show_counts
        show_counts(report, console)
        return
    if 'schemes' not in report:
        console.print_json(json.dumps(report))
        return
    if 'own_words' in report:
        from crossspec_ros.bench.decode_real import show_shapes
        show_shapes(report, console)
        return
    runs = f', medians of {report["runs"]} runs' if report['runs'] > 1 else ''
    table = Table(title=f'{report["windows"]} windows{runs}, {report["hardware"]}')
    for column in ('scheme', 'age p50, ms', 'age p99, ms', 'compute, ms', 'tau', 'own share', 'identical', 'speedup'):
        table.add_column(column, justify='left' if column == 'scheme' else 'right', no_wrap=column == 'scheme')
    for name, row in report['schemes'].items():
        own = '' if row['own_share'] is None else f'{100 * row["own_share"]:.1f}%'
        table.add_row(name, f'{row["age_ms"]["p50"]:.1f}', f'{row["age_ms"]["p99"]:.1f}', f'{row["compute_ms"]:.1f}',
                      f'{row["tau"]:.2f}', own, _same(row),
                      f'{report["speedup"][name]:.2f} x')
    console.print(table)
    for name, row in report.get('predicted', {}).items():
        console.print(f'{name}: mean age {row["measured_ms"]:.1f} ms, foretold {row["predicted_ms"]:.1f} ms '
                      f'({row["ratio"]:.2f} of it)')
    for name, reason in report['not_run'].items():
        console.print(f'{name}: not run ({reason})')
