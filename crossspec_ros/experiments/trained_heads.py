"""Heads on the verifier's states for an experiment: those that are given, else trained on the lab's windows."""
from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossspec_ros.experiments.lab import Lab
from crossspec_ros.models.heads import StateHead, load_head, load_heads
from crossspec_ros.models.heads.config import KINDS
from crossspec_ros.models.heads.recording import as_stored
from crossspec_ros.train.head_stage import LEARNING, train_head
from crossspec_ros.train.loop import StageConfig
from crossspec_ros.train.states import Stated

_BATCH = 8


def given_or_trained(lab: Lab, seed: int, kinds: Sequence[str] = KINDS) -> dict[str, StateHead]:
    """Heads by kind. Trained ones are kept beside the records; a training that was stopped goes on."""
    if lab.settings.heads:
        return {head.config.kind: head for head in load_heads(lab.settings.heads, lab.target)}
    return {kind: load_head(_trained(lab, kind, seed), lab.target) for kind in kinds}


def _trained(lab: Lab, kind: str, seed: int) -> Path:
    settings = lab.settings
    key = f'{lab.target.model_key} {lab.layers} {settings.prompt} {settings.taught} {settings.steps}'
    work = lab.records / f'heads_{zlib.crc32(key.encode()):08x}_{seed}'
    if (work / kind).is_dir():
        return work / kind
    answers = [Stated(np.array(seen.window.token_ids, np.int64), as_stored(seen.window.states))
               for seen in lab.taught()]
    stage = StageConfig(kind, steps=settings.steps, batch=_BATCH, lr=LEARNING[kind], seed=seed)
    return train_head(kind, lab.target, answers, lab.layers, work, stage, resume=True)
