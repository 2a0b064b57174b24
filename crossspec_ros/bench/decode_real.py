"""`crossspec bench decode --shapes NAME`: the ladder at the shapes of models people drive with, random weights.

What is said is recorded (`bench.decode_shapes`), by ``generate`` too, so that each scheme makes the forwards that it
would make for these captions. On a CPU few layers are run; what was cut is told in the report.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from crossspec_ros.bench.decode_counts import FREE, PADDED, Counter, answer_counted, generation_counted, summed_up
from crossspec_ros.bench.decode_schemes import Outcome, PlainGeneration, Speculation, Window
from crossspec_ros.bench.decode_shapes import Recorded, ShapesTarget, read_traces, recorded_rule, world_captions
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.devices import find_device
from crossspec_ros.models.fit import GB, Need, Serving, need, room_of, text_of
from crossspec_ros.models.loading import find_dtype
from crossspec_ros.models.random_shapes import random_adapter
from crossspec_ros.models.random_weights import EOS_ID
from crossspec_ros.models.real_shapes import MODELS, SHORT, config_of, empty_shapes
from crossspec_ros.models.targets.adapters import Adapter
from crossspec_ros.models.targets.graphs import Recorder
from crossspec_ros.speculation.rules import Rule
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Draft, prompt_key

_PROMPT, _HEIGHT, _WIDTH, _FRAMES = 'What is happening?', 480, 640, 8
_CPU_LAYERS, _COUNTED_WIDTH = 2, 256     # the number of operations hangs on layers, not on widths
_TEXT = 100                              # tokens of question, template and marks between frames, from above
_HALVINGS = 4
_OWN_WORDS, _COUNTED = 16, 2             # tokens said freely for the comparison with generate; windows counted
_RECALL = ('memory', 'previous', 'drafts')
_STATIC = 'generate_static'


@dataclass(frozen=True)
class Shape:
    """Which model, and how much of it: ``layers`` and ``width`` as for `config_of`; ``cut`` says it in words."""

    name: str
    layers: int
    width: int
    cut: str


def run_shapes(args: argparse.Namespace) -> dict:
    """All schemes at a shape over the captions in their order. Raises `CrossSpecError` where it does not fit."""
    recorded, source = _captions(args)
    shape = choose(args, recorded)
    with TemporaryDirectory() as folder:
        adapter = random_adapter(shape.name, Path(folder), shape.layers, shape.width, args.device, args.dtype)
        target = ShapesTarget(adapter, 'padded' if args.device.startswith('cuda') else 'dynamic')
        from crossspec_ros.bench.decode import chosen_schemes
        schemes = chosen_schemes(make_schemes(target, recorded), args.schemes)
        windows = _windows(recorded)
        costs = schemes['ours'].engine.warm_up(_PROMPT, _HEIGHT, _WIDTH) if 'ours' in schemes else {}
        rows, not_run = _decoded(schemes, windows)
        counts = _host(adapter, recorded, windows[:_COUNTED], [name for name in rows if name != _STATIC])
        own = own_words(target)
    report = {'windows': len(recorded), 'model': f'{shape.cut}, random weights', 'captions': source,
              'parameters': sum(weight.numel() for weight in adapter.model.parameters()), 'dtype': str(target.dtype),
              'prompt_tokens': target.layout(_PROMPT, _FRAMES, _HEIGHT, _WIDTH).length, 'cost_ms': costs,
              'schemes': {name: _summary(found, recorded) | {'host': counts.get(name)} for name, found in rows.items()},
              'own_words': own, 'not_run': not_run}
    plain = report['schemes']['generate']['age_ms']['p50']
    report['speedup'] = {name: plain / scheme['age_ms']['p50'] for name, scheme in report['schemes'].items()}
    return report


def counted_targets(args: argparse.Namespace, recorder: Recorder, folder: Path
                    ) -> tuple[list[Window], Rule, dict[str, ShapesTarget], str]:
    """For `bench.decode_counts`: windows, what their captions say, and a target for each way; on a CPU all layers,
    narrow."""
    recorded, _ = _captions(args)
    shape = choose(args, recorded)
    adapter = random_adapter(shape.name, folder, shape.layers, shape.width, args.device, args.dtype)
    return (_windows(recorded), recorded_rule(recorded),
            {FREE: ShapesTarget(adapter, 'dynamic', lean=False),
             PADDED: ShapesTarget(adapter, 'padded', recorder=recorder)}, f'{shape.cut}, random weights')


# -- which shape -----------------------------------------------------------------------------------------------------

def choose(args: argparse.Namespace, recorded: Sequence[Recorded]) -> Shape:
    """What is to be built: on a CPU two layers as wide as they are, narrower only where memory asks for that.

    Raises `CrossSpecError` where what is asked for is more than the memory that is there; nothing is built.
    """
    name, on_cpu = SHORT[args.shapes], not args.device.startswith('cuda')
    layers = args.layers or (_CPU_LAYERS if on_cpu and not args.counts else 0)
    width = args.width or (_COUNTED_WIDTH if on_cpu and args.counts else 0)
    whole, answer = config_of(name).get_text_config(decoder=True), max(len(row.target) for row in recorded) + 1
    free = room_of(find_device(args.device))
    asked = _need(name, layers, width, args, answer)
    widths = [width]
    if on_cpu and not (args.width or args.counts):
        widths += [whole.hidden_size >> step for step in range(1, _HALVINGS + 1)]
    for taken in widths:
        if _beside(asked if taken == width else _need(name, layers, taken, args, answer)) <= free:
            break
    else:
        raise CrossSpecError(f'{name} with {layers or "all its"} layers does not fit {args.device}: it takes '
                             f'{text_of(asked)}, {free / GB:.1f} GB are free; ask for fewer --layers, a smaller '
                             '--width or another --dtype')
    made = config_of(name, layers, taken).get_text_config(decoder=True)
    cut = (f'{name}, {made.num_hidden_layers} of {whole.num_hidden_layers} layers, {made.hidden_size} of '
           f'{whole.hidden_size} wide')
    if taken != width:
        cut += f' (the whole width takes {asked.total / GB:.1f} GB, {free / GB:.1f} GB are free)'
    return Shape(name, layers, taken, cut)


def _need(name: str, layers: int, width: int, args: argparse.Namespace, answer: int) -> Need:
    kind = 'cuda' if args.device.startswith('cuda') else 'cpu'
    serving = Serving(frames=_FRAMES, max_new_tokens=answer, size=(_HEIGHT, _WIDTH), padded=kind == 'cuda')
    dtype = find_dtype(args.dtype, find_device(args.device)) or MODELS[name][3]
    return need(empty_shapes(name, layers, width), serving, kind, dtype, tokens=MODELS[name][2] + _TEXT)


def _beside(wanted: Need) -> int:
    return wanted.total - wanted.process                  # the libraries are loaded by now


# -- what is said ----------------------------------------------------------------------------------------------------

def _captions(args: argparse.Namespace) -> tuple[list[Recorded], str]:
    if args.traces:
        return read_traces(args.traces)[:args.windows], f'recorded ({Path(args.traces).name})'
    return world_captions(args.windows, args.seed), 'of a drive of the driving world'


def _windows(recorded: Sequence[Recorded]) -> list[Window]:
    """A window a caption, frames of noise; its draft is there before the newest frame."""
    frames = [np.random.default_rng(i).integers(0, 256, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
              for i in range(2 * _FRAMES)]
    drafts = [Draft(index, 0, 0, prompt_key(_PROMPT), 'random', '', row.draft) if row.draft else None
              for index, row in enumerate(recorded)]
    return [Window(index, frames[index % _FRAMES:index % _FRAMES + _FRAMES], _PROMPT, early=draft)
            for index, draft in enumerate(drafts)]


class _Saying:
    """A processor of logits under which ``generate`` says given tokens."""

    def __init__(self, said: Sequence[int]) -> None:
        self._said, self._start = said, -1

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits (1, V) in which the token that is due is the only one."""
        if self._start < 0:
            self._start = input_ids.shape[1]
        due = self._said[min(input_ids.shape[1] - self._start, len(self._said) - 1)]
        only = torch.full_like(scores, float('-inf'))
        only[:, due] = 0
        return only


class RecordedGeneration:
    """transformers ``generate`` with options of its own, saying what was recorded of a window."""

    def __init__(self, target: ShapesTarget, recorded: Sequence[Recorded], **options: object) -> None:
        self.target, self._recorded, self._options = target, recorded, options

    def run(self, window: Window) -> Outcome:
        """Tokens, age and passes of one window."""
        said = (*self._recorded[window.window_id].target, EOS_ID)
        return PlainGeneration(self.target, len(said), logits_processor=[_Saying(said)], **self._options).run(window)


# -- schemes ---------------------------------------------------------------------------------------------------------

Scheme = RecordedGeneration | Speculation


def make_schemes(target: ShapesTarget, recorded: Sequence[Recorded]) -> dict[str, Scheme]:
    """``generate`` (on a GPU also with its static cache, compiled), its prompt lookup, a session without drafts that is
    prefilled as frames come, and ours, without rehearsal, whose tokens nobody recorded."""
    length = max(len(row.target) for row in recorded) + 1
    schemes: dict[str, Scheme] = {'generate': RecordedGeneration(target, recorded)}
    if target.device.type == 'cuda':
        schemes[_STATIC] = RecordedGeneration(target, recorded, cache_implementation='static')
    schemes |= {'prompt_lookup': RecordedGeneration(target, recorded, prompt_lookup_num_tokens=10),
                'session': Speculation(target, _settings(length, False), ()),
                'ours': Speculation(target, _settings(length, True), _RECALL, drafts=True)}
    for scheme in schemes.values():
        if isinstance(scheme, Speculation):
            scheme.engine.use_rule(recorded_rule(recorded))
    return schemes


def _settings(length: int, speculate: bool) -> EngineConfig:
    return EngineConfig(window_frames=_FRAMES, max_new_tokens=length, speculate=speculate, fused=speculate)


def _decoded(schemes: dict[str, Scheme], windows: Sequence[Window]) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
    """Outcomes by scheme, window by window, and why a scheme of transformers could not be run."""
    rows: dict[str, list[Outcome]] = {name: [] for name in schemes}
    not_run: dict[str, str] = {}
    for window in track(windows, description='decode', console=Console(stderr=True), transient=True):
        for name, scheme in schemes.items():
            if name in not_run:
                continue
            try:
                rows[name].append(scheme.run(window))
            except (RuntimeError, ValueError, IndexError) as error:
                if name in ('generate', 'session', 'ours'):
                    raise
                not_run[name] = f'{type(error).__name__}: {str(error).splitlines()[0]}'
    return {name: found for name, found in rows.items() if name not in not_run}, not_run


def _summary(found: Sequence[Outcome], recorded: Sequence[Recorded]) -> dict:
    from crossspec_ros.bench.decode import summary
    return summary(found, [replace(row, tokens=caption.target) for row, caption in zip(found, recorded)])


def _host(adapter: Adapter, recorded: Sequence[Recorded], windows: Sequence[Window],
          names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Operations and reads of the host, a pass, by scheme; ours and the session in passes filled up to sizes, as on an
    accelerator, where a step that is captured is one launch."""
    counter = Counter()
    made = make_schemes(ShapesTarget(adapter, 'padded', recorder=counter.recorder), recorded)
    found = {}
    for name in names:
        scheme = made[name]
        passes = []
        for window in windows:
            passes += generation_counted(scheme.target, lambda: scheme.run(window), counter) \
                if isinstance(scheme, RecordedGeneration) else answer_counted(scheme.engine, window, counter)[0]
        found[name] = summed_up(passes)
    return found


def own_words(target: ShapesTarget) -> dict[str, int | bool]:
    """The same target without a recording: in how many windows our tokens are those of its ``generate``."""
    ours = Speculation(target, _settings(_OWN_WORDS, True), _RECALL)
    windows = _windows([Recorded((), ())] * 2)
    said = [ours.run(window).tokens for window in windows]
    wanted = [target.generate(window.frames, _PROMPT, _OWN_WORDS) for window in windows]
    same = sum(tokens == tuple(token for token in one if token != EOS_ID) for tokens, one in zip(said, wanted))
    return {'windows': len(windows), 'identical_windows': same, 'tokens': sum(map(len, said)),
            'different_tokens': len({token for tokens in said for token in tokens})}


def show_shapes(report: dict, console: Console) -> None:
    """The report as a table for people."""
    console.print(f'{report["model"]}; captions {report["captions"]}')
    table = Table(title=f'{report["windows"]} windows, {report["hardware"]}')
    for column in ('scheme', 'age p50, ms', 'p99', 'sooner', 'same', 'passes', 'operations a pass', 'launches',
                   'reads'):
        table.add_column(column, justify='left' if column == 'scheme' else 'right', no_wrap=column == 'scheme')
    for name, row in report['schemes'].items():
        host = row['host'] or {}
        asked = [f'{host[one]:,.0f}' if host else '-' for one in ('operations', 'launches', 'reads')]
        table.add_row(name, f'{row["age_ms"]["p50"]:,.0f}', f'{row["age_ms"]["p99"]:,.0f}',
                      f'{report["speedup"][name]:.1f}x', 'yes' if row['identical'] else str(row['identical_windows']),
                      f'{row["passes"]:.1f}', *asked)
    console.print(table)
    own = report['own_words']
    console.print(f'launches: operations where a step is captured and is one of them. Its own words, {own["tokens"]} '
                  f'tokens without the captions: as generate says them in {own["identical_windows"]} of '
                  f'{own["windows"]} windows')
    for name, reason in report['not_run'].items():
        console.print(f'{name}: not run ({reason})')
