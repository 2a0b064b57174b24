"""`crossspec bench decode --counts`: what a pass asks of the host - operations, and reads that wait for the device.

On a GPU a pass of a small decoder is bound by launches and waits, not by arithmetic, and these can be counted without
one: torch tells of every operation before it is run, and of every tensor that is turned into numbers of Python. The
target is run as on an accelerator: transformers' decoder, logits ranked by torch. What is inside a step that is
captured there counts as one launch.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from crossspec_ros.bench.decode_schemes import Window
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation import ranking
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources import SOURCE_NAMES

if TYPE_CHECKING:
    from crossspec_ros.models.targets import TransformersTarget
    from crossspec_ros.models.targets.graphs import Step
    from crossspec_ros.speculation.rules import Rule

FREE, PADDED = 'as long as they are', 'filled up to sizes'
_READS = {'item', 'tolist', 'cpu', '__bool__', '__int__', '__float__', '__index__', 'nonzero'}


@dataclass
class Counts:
    """Of a pass: ``operations`` in all, those of them that are ``captured`` in ``steps``, and ``reads`` by the host."""

    operations: int = 0
    captured: int = 0
    steps: int = 0
    reads: int = 0

    def since(self, before: Counts) -> Counts:
        """What came on top."""
        return Counts(*(now - then for now, then in zip(astuple(self), astuple(before))))

    @property
    def launches(self) -> int:
        """What the host launches where steps are captured."""
        return self.operations - self.captured + self.steps


class Counter:
    """Counts while `watching`; its `recorder` takes the place of one that captures."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._inside = False

    def recorder(self, step: Step) -> Step:
        """Nothing is captured: the step is run, and its operations are told apart."""
        def run() -> Any:
            self._inside = True
            try:
                return step()
            finally:
                self._inside = False
                self.counts.steps += 1
        return run

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, operations and reads are counted, and logits are ranked as on an accelerator."""
        with patch.object(ranking, '_on_cpu', lambda logits: False), _Operations(self._operation), _Reads(self._read):
            yield

    def _operation(self) -> None:
        self.counts.operations += 1
        self.counts.captured += self._inside

    def _read(self) -> None:
        self.counts.reads += 1


class _Operations(TorchDispatchMode):
    """Tells of each operation that torch runs."""

    def __init__(self, heard: Callable[[], None]) -> None:
        super().__init__()
        self._heard = heard

    def __torch_dispatch__(self, func: Callable, types: Sequence[type], args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        self._heard()
        return func(*args, **(kwargs or {}))


class _Reads(TorchFunctionMode):
    """Tells of each tensor that becomes numbers of the host."""

    def __init__(self, heard: Callable[[], None]) -> None:
        super().__init__()
        self._heard = heard

    def __torch_function__(self, func: Callable, types: Sequence[type], args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        if getattr(func, '__name__', '') in _READS:
            self._heard()
        return func(*args, **(kwargs or {}))


def run_counts(args: argparse.Namespace) -> dict:
    """Both ways over the same windows: counts of first and of later passes. Raises `CrossSpecError` as the bench does,
    and where windows have no later pass."""
    counter = Counter()
    with TemporaryDirectory() as folder:
        if args.shapes:
            from crossspec_ros.bench.decode_real import counted_targets
            return _compared(args, counter, *counted_targets(args, counter.recorder, Path(folder)))
        from crossspec_ros.bench.decode import make_windows
        windows = make_windows(args.windows, args.seed, 1, args.prompt, None)
        return _compared(args, counter, windows, None, _loaded(args, counter), str(args.model))


def _compared(args: argparse.Namespace, counter: Counter, windows: Sequence[Window], rule: Rule | None,
              targets: dict[str, TransformersTarget], model: str) -> dict:
    report: dict[str, Any] = {'windows': len(windows), 'model': model, 'counts': {}}
    tokens = []
    for name, target in targets.items():
        engine = CaptionEngine(target, EngineConfig(max_new_tokens=args.max_tokens, sources=SOURCE_NAMES))
        if rule is not None:
            engine.use_rule(rule)
        said, report['counts'][name] = _counted(engine, windows, counter, name)
        tokens.append(said)
        report['layers'] = int(target.adapter.text_config.num_hidden_layers)
    report['identical'] = all(said == tokens[0] for said in tokens)
    return report


def _loaded(args: argparse.Namespace, counter: Counter) -> dict[str, TransformersTarget]:
    """A model that is loaded once, served both ways as an accelerator would."""
    from crossspec_ros.models.targets import TransformersTarget
    from crossspec_ros.models.targets.load import load_adapter

    adapter = load_adapter(args.model, args.device, args.dtype)
    return {FREE: TransformersTarget(adapter, 'dynamic', lean=False),
            PADDED: TransformersTarget(adapter, 'padded', recorder=counter.recorder)}


def _counted(engine: CaptionEngine, windows: Sequence[Window], counter: Counter,
             name: str) -> tuple[list[tuple[int, ...]], dict[str, dict[str, float]]]:
    """Tokens of each window, and what first and later passes took."""
    first: list[Counts] = []
    later: list[Counts] = []
    tokens = []
    for window in track(windows, description=name, console=Console(stderr=True), transient=True):
        passes, caption = answer_counted(engine, window, counter)
        first, later = [*first, passes[0]], [*later, *passes[1:]]
        tokens.append(caption)
    if not later:
        raise CrossSpecError('--counts needs answers of several passes, got one each: ask for more --windows or '
                             '--max-tokens')
    return tokens, {'first': summed_up(first), 'later': summed_up(later)}


def answer_counted(engine: CaptionEngine, window: Window, counter: Counter) -> tuple[list[Counts], tuple[int, ...]]:
    """What each pass of a window's answer took, once its frames are there, and the answer's tokens."""
    session = engine.open(window.window_id, window.window_id * 10**9, window.prompt)
    for slot, frame in enumerate(window.frames):
        session.add_frame(slot, window.window_id * 10**9 + slot, frame)
    if window.early is not None:
        engine.offer(window.early)
    found = _passes(session, counter)
    session.close()
    return found


def generation_counted(target: TransformersTarget, run: Callable[[], object], counter: Counter) -> list[Counts]:
    """What each pass of ``generate`` took in ``run``: from one forward of the decoder to the next, the last to the
    end."""
    marks: list[Counts] = []
    hook = target.adapter.language_model.register_forward_pre_hook(lambda *_: marks.append(replace(counter.counts)))
    try:
        with counter.watching():
            run()
    finally:
        hook.remove()
    return [after.since(before) for before, after in zip(marks, [*marks[1:], replace(counter.counts)])]


def _passes(session: Any, counter: Counter) -> tuple[list[Counts], tuple[int, ...]]:
    """What each pass of an answer took, what its sources learn from it included, and the answer's tokens."""
    passes: list[Counts] = []
    with counter.watching():
        before = replace(counter.counts)
        for number, output in enumerate(session.answer()):
            if number % 2:                              # a Verdict, then the Caption of the same pass
                passes.append(counter.counts.since(before))
                before, caption = replace(counter.counts), output.token_ids
        rest = counter.counts.since(before)
        passes[-1] = Counts(*np.add(astuple(passes[-1]), astuple(rest)).tolist())
    return passes, caption


def summed_up(passes: Sequence[Counts]) -> dict[str, float]:
    """Medians over passes."""
    return {'passes': len(passes), 'operations': median(one.operations for one in passes),
            'launches': median(one.launches for one in passes), 'reads': median(one.reads for one in passes),
            'most_reads': max(one.reads for one in passes)}


def show_counts(report: dict, console: Console) -> None:
    """The counts as a table for people."""
    table = Table(title=f'{report["model"]}, {report["layers"]} layers, {report["windows"]} windows: the host, a pass')
    for column in ('forwards', 'pass', 'passes', 'operations', 'launches if captured', 'reads', 'reads at most'):
        table.add_column(column, justify='left' if column in ('forwards', 'pass') else 'right')
    for name, ways in report['counts'].items():
        for which, row in ways.items():
            table.add_row(name, which, str(row['passes']), f'{row["operations"]:.0f}', f'{row["launches"]:.0f}',
                          f'{row["reads"]:.0f}', str(row['most_reads']))
    console.print(table)
    console.print('tokens identical' if report['identical'] else 'tokens differ')
