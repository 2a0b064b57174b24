"""Heads for a verifier from nothing but its folder: answers to drives of the driving world, then a stage a kind."""
from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from crossspec_ros.models.heads.config import usual_layers
from crossspec_ros.models.targets import load_target
from crossspec_ros.train.head_stage import LEARNING, train_head
from crossspec_ros.train.loop import StageConfig, progress_bar
from crossspec_ros.train.states import collect_states, read_states, world_drives


def make_heads(model: str | Path, out: Path, kinds: Sequence[str], *, windows: int, steps: int | None,
               minutes: float | None, batch: int = 16, seed: int = 0, device: str = 'cpu', dtype: str = 'float32',
               resume: bool = False) -> Iterator[Path]:
    """Answers in ``out/states``, then a head of each kind; yields its folder when it is done.

    With ``resume`` drives that were answered and stages that were begun are gone on with. Raises CrossSpecError as
    `load_target`, `collect_states` and `train_head` do.
    """
    configs = {kind: StageConfig(kind, steps=steps, minutes=minutes, batch=batch, lr=LEARNING[kind], seed=seed)
               for kind in kinds}
    target = load_target(model, device, dtype)
    states = out / 'states'
    if not resume and states.is_dir():
        shutil.rmtree(states)
    layers = usual_layers('eagle3', int(target.adapter.text_config.num_hidden_layers))
    drives = list(world_drives(windows, seed))
    with progress_bar() as bar:
        task = bar.add_task('answers', total=len(drives), note='drives')
        for _ in collect_states(target, layers, drives, states):
            bar.advance(task)
    answers = read_states(target, layers, states)
    for kind, config in configs.items():
        yield train_head(kind, target, answers, layers, out, config, resume=resume)
