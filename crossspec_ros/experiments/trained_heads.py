"""Heads on the verifier's states for an experiment: those that are given, else trained on the lab's windows."""
from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from crossspec_ros.bench.heads_replay import ALWAYS
from crossspec_ros.experiments.field_heads import HydraHead
from crossspec_ros.experiments.lab import Lab, Seen
from crossspec_ros.experiments.scenes import scenes_of
from crossspec_ros.experiments.seeing_heads import (
    CROSSED, PROJECTED, VECTORS, EyedHead, GlideHead, SceneSource, SceneStage, SceneStated, SeeingHead)
from crossspec_ros.models.heads import HeadConfig, StateHead, bound_head, load_head, load_heads, new_head
from crossspec_ros.models.heads.config import KINDS
from crossspec_ros.models.heads.recording import as_stored
from crossspec_ros.speculation.sources.base import DraftSource
from crossspec_ros.speculation.sources.heads import HeadSource
from crossspec_ros.speculation.worth import Worth
from crossspec_ros.train.head_stage import LEARNING, HeadStage, learn_head, train_head
from crossspec_ros.train.loop import StageConfig
from crossspec_ros.train.states import Stated, said_ids

_BATCH = 8


@dataclass(frozen=True)
class Form:
    """A head that only experiments have: the kind whose shapes it takes, how it is built of them for a verifier whose
    keys are so wide, whether it looks at scenes; ``narrow``: its MLP is no wider than the states."""

    kind: str
    build: Callable[[HeadConfig, int], StateHead]
    sees: bool = False
    narrow: bool = False


FIELD = {'hydra': Form('medusa', lambda config, width: HydraHead(config)),
         'glide': Form('eagle1', GlideHead, sees=True)}
EYES = {f'{VECTORS}1': Form('eagle1', lambda config, width: EyedHead(config, VECTORS, 1), sees=True),
        f'{VECTORS}4': Form('eagle1', lambda config, width: EyedHead(config, VECTORS, 4), sees=True),
        PROJECTED: Form('eagle1', lambda config, width: EyedHead(config, PROJECTED), sees=True),
        CROSSED: Form('eagle1', lambda config, width: EyedHead(config, CROSSED), sees=True, narrow=True)}


def given_or_trained(lab: Lab, seed: int, kinds: Sequence[str] = KINDS) -> dict[str, StateHead]:
    """Heads by kind. Trained ones are kept beside the records; a training that was stopped goes on."""
    if lab.settings.heads:
        return {head.config.kind: head for head in load_heads(lab.settings.heads, lab.target)}
    return {kind: load_head(_trained(lab, kind, seed), lab.target) for kind in kinds}


def field_source(lab: Lab, name: str, form: Form, seed: int, windows: Sequence[Seen], alone: bool) -> DraftSource:
    """A source of a head that only experiments have, for these windows, trained on the lab's; the training is kept and
    gone on with as any. ``alone``: it is asked whether it pays or not."""
    head, worth = _formed(lab, name, form, seed), Worth(trial=ALWAYS) if alone else Worth()
    if not isinstance(head, SeeingHead):
        return HeadSource(head, lab.target.vocab_size, worth=worth)
    seen = {each.window.window_id: scene for each, scene in zip(windows, scenes_of(lab, windows), strict=True)}
    return SceneSource(head, seen, lab.target.vocab_size, worth)


def _formed(lab: Lab, name: str, form: Form, seed: int) -> StateHead:
    """Trained, or read from its checkpoint."""
    answers, text = _answers(lab), lab.target.adapter.text_config
    width = getattr(text, 'head_dim', None) or text.hidden_size // text.num_attention_heads
    shapes = {'mlp_dim': int(lab.target.adapter.head.weight.shape[1])} if form.narrow else {}
    head = new_head(form.kind, lab.target, said_ids(answers), seed, lambda config: form.build(config, width), **shapes)
    head = bound_head(head, lab.target, torch.float32)
    stage = HeadStage
    if form.sees:
        answers = [SceneStated(answer.token_ids, answer.states, scene)
                   for answer, scene in zip(answers, scenes_of(lab, lab.taught()), strict=True)]
        stage = SceneStage
    config = StageConfig(name, steps=lab.settings.steps, batch=_BATCH, lr=LEARNING[form.kind], seed=seed)
    learn_head(stage(head, answers, lab.layers), config, _work(lab, seed), resume=True)
    return head.eval().requires_grad_(False)


def _answers(lab: Lab) -> list[Stated]:
    return [Stated(np.array(seen.window.token_ids, np.int64), as_stored(seen.window.states)) for seen in lab.taught()]


def _work(lab: Lab, seed: int) -> Path:
    settings = lab.settings
    key = f'{lab.target.model_key} {lab.layers} {settings.prompt} {settings.taught} {settings.steps}'
    return lab.records / f'heads_{zlib.crc32(key.encode()):08x}_{seed}'


def _trained(lab: Lab, kind: str, seed: int) -> Path:
    work = _work(lab, seed)
    if (work / kind).is_dir():
        return work / kind
    stage = StageConfig(kind, steps=lab.settings.steps, batch=_BATCH, lr=LEARNING[kind], seed=seed)
    return train_head(kind, lab.target, _answers(lab), lab.layers, work, stage, resume=True)
