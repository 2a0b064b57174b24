"""Heads on the verifier's states that learn from the same answers as the drafter: what they read, their training.

Letters: T tokens of an answer, K states of a token, D their width.
"""
from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.lessons import Lesson, Lessons
from crossspec_ros.learn.settings import LearnConfig
from crossspec_ros.learn.sources import heads_of
from crossspec_ros.models.heads import StateHead, load_head, new_head
from crossspec_ros.models.heads.config import usual_layers
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.sources.heads import FINAL
from crossspec_ros.train.head_stage import train_head
from crossspec_ros.train.loop import read_log
from crossspec_ros.train.states import Stated

HEADS = 'heads'
"""The folder in a result that holds a folder a head."""


@dataclass(frozen=True)
class HeadPlan:
    """Which heads are to learn, and what the answers must keep for them: states of ``layers``, ``state_bytes`` a token.
    """

    kinds: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    state_bytes: int = 0


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A head as it will be loaded, and the log of its losses."""

    head: StateHead
    log: Path

    def losses(self) -> dict[str, list[float]]:
        """By step."""
        return {name: values.tolist() for name, values in read_log(self.log).items() if name in ('step', 'loss')}


def plan_heads(config: LearnConfig, target: TransformersTarget) -> HeadPlan:
    """What the sources that are named need. Raises CrossSpecError for a verifier that no head can be made for, before
    anything is answered."""
    kinds = heads_of(config.sources)
    if not kinds:
        return HeadPlan()
    count = int(target.adapter.text_config.num_hidden_layers)
    layers = tuple(sorted({layer for kind in kinds for layer in usual_layers(kind, count)} - {FINAL}))
    target.tap(layers)
    for kind in kinds:
        new_head(kind, target, [target.eos_ids[0]])
    width = int(target.adapter.head.weight.shape[1])
    return HeadPlan(kinds, (*layers, FINAL), 2 * (len(layers) + 1) * width)


def train_heads(plan: HeadPlan, target: TransformersTarget, lessons: Lessons, config: LearnConfig
                ) -> dict[str, TrainedHead]:
    """A head of each kind; goes on where it was stopped.

    Raises CrossSpecError for a loss that is no number, a disk that fills, and answers of a token each.
    """
    if not plan.kinds:
        return {}
    answers = [Stated(answer.token_ids, answer.states)
               for lesson in lessons.learned for answer in lesson.window.answers]
    trained = {}
    for kind in plan.kinds:
        stage = config.head_stage(kind)
        settings = [stage.steps, stage.minutes, stage.batch, stage.lr, stage.seed, len(answers)]
        work = config.work / f'{HEADS}-{zlib.crc32(json.dumps(settings).encode()):08x}'
        try:
            folder = train_head(kind, target, answers, plan.layers, work, stage, resume=True)
        except OSError as error:
            raise CrossSpecError(f'{work} cannot be written: {error.strerror or error}; free some space, then go on '
                                 'with --resume') from error
        trained[kind] = TrainedHead(load_head(folder, target), work / f'{stage.name}.csv')
    return trained


def states_of(lesson: Lesson) -> np.ndarray:
    """States (T, K, D) of the answer that is judged by."""
    return np.asarray(lesson.window.answers[0].states, np.float32)
