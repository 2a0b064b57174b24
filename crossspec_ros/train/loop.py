"""One training loop for every stage: seeded, resumable, with a log that can be drawn.

The random numbers of step ``k`` come from (seed, stage, k) alone, and the learning rate from how far the stage is, so
a run that was interrupted and resumed ends with the same weights as one that was not (with ``steps``; with
``minutes`` the end is the clock's).
"""
from __future__ import annotations

import csv
import logging
import math
import pickle
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.train.team import Team

_LOG = logging.getLogger(__name__)
_BETAS, _CLIP = (0.9, 0.98), 1.0


@dataclass(frozen=True)
class StageConfig:
    """How long and how a stage trains. Exactly one of ``steps`` and ``minutes`` is given.

    ``lr`` rises over the first ``warmup`` share, then falls as a cosine to ``final_lr`` of itself.
    """

    name: str
    steps: int | None = None
    minutes: float | None = None
    batch: int = 32
    lr: float = 1e-3
    final_lr: float = 0.05
    warmup: float = 0.05
    weight_decay: float = 0.05
    seed: int = 0
    checkpoint_s: float = 60.0
    log_every: int = 10

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise CrossSpecError(f'stage {self.name} needs either steps or minutes, '
                                 f'got steps={self.steps}, minutes={self.minutes}')
        limit = self.steps if self.steps is not None else self.minutes
        if not limit > 0:
            raise CrossSpecError(f'stage {self.name}: steps or minutes must be > 0, got {limit}')

    def done(self, step: int, elapsed_s: float) -> float:
        """How far the stage is, 0 to 1."""
        share = step / self.steps if self.steps is not None else elapsed_s / 60 / self.minutes
        return min(1.0, share)

    def rate(self, done: float) -> float:
        """Learning rate at that point."""
        if done < self.warmup:
            return self.lr * max(done / self.warmup, 0.01)
        falling = 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup)))
        return self.lr * (self.final_lr + (1 - self.final_lr) * falling)

    def rng(self, step: int, rank: int = 0) -> np.random.Generator:
        """The generator of one step in one process."""
        return np.random.default_rng((self.seed, zlib.crc32(self.name.encode()), step, rank))


class Stage(Protocol):
    """What a stage brings: a module with all that is trained, and a loss."""

    module: nn.Module

    def loss(self, rng: np.random.Generator, batch: int, done: float) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch drawn by ``rng``, and figures for the log; ``done`` is how far the stage is."""
        ...


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; gains, biases and embeddings of places do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [{'params': [p for p in trained if p.ndim >= 2], 'weight_decay': weight_decay},
            {'params': [p for p in trained if p.ndim < 2], 'weight_decay': 0.0}]


def save_checkpoint(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, elapsed_s: float,
                    config: StageConfig) -> None:
    """Write everything a stage needs to go on, atomically."""
    state = {'model': module.state_dict(), 'optimizer': optimizer.state_dict(), 'step': step, 'elapsed_s': elapsed_s,
             'stage': config.name, 'seed': config.seed}
    write_atomic(path, lambda target: torch.save(state, target))


def read_checkpoint(path: Path, config: StageConfig | None) -> dict[str, object]:
    """The state that ``save_checkpoint`` wrote; raises CrossSpecError if it is missing, cut or (given ``config``) of
    another run."""
    try:
        state = torch.load(path, weights_only=True)
        found = state['stage'], state['seed']
    except FileNotFoundError as error:
        raise CrossSpecError(f'no checkpoint at {path}: start without --resume') from error
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise CrossSpecError(f'the checkpoint {path} is cut or broken ({error}): delete it and train '
                             f'this stage again') from error
    if config is not None and found != (config.name, config.seed):
        raise CrossSpecError(f'{path} is of stage {found[0]!r} and seed {found[1]}, not of {config.name!r} and seed '
                             f'{config.seed}: use the same settings, or another --out')
    return state


class LossLog:
    """A CSV of figures by step; resuming cuts what came after the checkpoint."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        kept: list[list[str]] = []
        if step and path.is_file():
            with path.open(newline='', encoding='utf-8') as handle:
                kept = [row for row in csv.reader(handle) if row and (row[0] == 'step' or int(row[0]) <= step)]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('w', newline='', encoding='utf-8') as handle:
            csv.writer(handle).writerows(kept)
        self._columns = kept[0] if kept else []

    def add(self, values: dict[str, float]) -> None:
        """One row; the first row fixes the columns."""
        with self._path.open('a', newline='', encoding='utf-8') as handle:
            writer = csv.writer(handle)
            if not self._columns:
                self._columns = list(values)
                writer.writerow(self._columns)
            writer.writerow([f'{values.get(name, float("nan")):.6g}' for name in self._columns])


def progress_bar(shown: bool = True) -> Progress:
    """The bar that all stages share."""
    return Progress(TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
                    TextColumn('{task.fields[note]}'), TimeElapsedColumn(), TimeRemainingColumn(), refresh_per_second=2,
                    disable=not shown, console=Console(stderr=True))


def run_stage(stage: Stage, config: StageConfig, folder: Path, *, resume: bool = False,
              should_stop: Callable[[], bool] | None = None, team: Team | None = None) -> int:
    """Train ``stage`` to its end (or until ``should_stop``) and return the steps done.

    In a ``team`` each process calls this with equal weights, and only the leader writes. Leaves ``{name}.pt`` (the
    checkpoint) and ``{name}.csv`` (the log) in ``folder``. Raises CrossSpecError on a broken checkpoint, a full disk,
    or a loss that is no number.
    """
    team = team or Team()
    optimizer = torch.optim.AdamW(_groups(stage.module, config.weight_decay), lr=config.lr, betas=_BETAS)
    checkpoint, step, before_s = folder / f'{config.name}.pt', 0, 0.0
    if resume and checkpoint.is_file():
        state = read_checkpoint(checkpoint, config)
        stage.module.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        step, before_s = state['step'], state['elapsed_s']
        _LOG.info('stage %s goes on at step %d', config.name, step)
    log = LossLog(folder / f'{config.name}.csv', step) if team.leads else None
    start = saved = time.perf_counter()
    figures: dict[str, float] = {}
    done = config.done(step, before_s)
    with progress_bar(team.leads) as bar:
        task = bar.add_task(config.name, total=config.steps, completed=step, note='')
        while done < 1 and not (should_stop is not None and should_stop()):
            for group in optimizer.param_groups:
                group['lr'] = config.rate(done)
            loss, figures = stage.loss(config.rng(step, team.rank), team.share(config.batch), done)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise CrossSpecError(f'the loss of stage {config.name} is {value} at step {step}: lower the learning '
                                     f'rate and go on from the last checkpoint with --resume')
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            elapsed = before_s + time.perf_counter() - start
            rate, done = config.rate(done), team.average(stage.module, config.done(step + 1, elapsed))
            nn.utils.clip_grad_norm_(stage.module.parameters(), _CLIP)
            optimizer.step()
            step += 1
            bar.update(task, completed=step, note=f'loss {value:.3f}')
            if log is not None and step % config.log_every == 0:
                log.add({'step': step, 'elapsed_s': elapsed, 'loss': value, 'lr': rate} | figures)
            if team.leads and time.perf_counter() - saved > config.checkpoint_s:
                saved = time.perf_counter()
                save_checkpoint(checkpoint, stage.module, optimizer, step, elapsed, config)
    if team.leads:
        save_checkpoint(checkpoint, stage.module, optimizer, step, before_s + time.perf_counter() - start, config)
    _LOG.info('stage %s: %d steps, %s', config.name, step, figures)
    return step


def read_log(path: Path) -> dict[str, np.ndarray]:
    """Columns of a loss log as float64 arrays."""
    with path.open(newline='', encoding='utf-8') as handle:
        rows = list(csv.reader(handle))
    if len(rows) < 2:
        return {}
    table = np.array([[float(cell) for cell in row] for row in rows[1:]])
    return dict(zip(rows[0], table.T, strict=True))


def draw_curves(logs: Iterable[Path], target: Path) -> None:
    """A picture of the loss and of every accuracy in the logs, one row a stage."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot

    found = [(path.stem, read_log(path)) for path in logs if path.is_file()]
    found = [(name, table) for name, table in found if table]
    if not found:
        return
    figure, axes = pyplot.subplots(len(found), 2, figsize=(10, 2.6 * len(found)), squeeze=False)
    for (name, table), (left, right) in zip(found, axes, strict=True):
        left.plot(table['step'], table['loss'], linewidth=0.8)
        left.set(title=f'{name}: loss', xlabel='step', yscale='log')
        for column in table:
            if column.startswith('acc_'):
                right.plot(table['step'], table[column], linewidth=0.8, label=column[4:])
        right.set(title=f'{name}: accuracy', xlabel='step', ylim=(0, 1.02))
        if right.get_lines():
            right.legend(fontsize=6, ncols=2)
    figure.tight_layout()
    write_atomic(target, lambda path: figure.savefig(path, dpi=110, format='png'))
    pyplot.close(figure)
