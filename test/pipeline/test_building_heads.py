"""Heads that a verifier's parameter names: loaded, counted, refused beside another verifier; captions stay."""
from __future__ import annotations

import numpy as np
import pytest

from crossspec_ros.config import VerifierConfig, make
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads import new_head, save_head
from crossspec_ros.models.targets import load_target
from crossspec_ros.pipeline import building
from engine_harness import QUESTION, caption_of, clip_of, strip
from tiny_models import write_checkpoint


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('model') / 'verifier')


@pytest.fixture(scope='module')
def heads(checkpoint, tmp_path_factory):
    target, folders = load_target(checkpoint), []
    for kind in ('eagle3', 'block'):
        folders.append(tmp_path_factory.mktemp(kind))
        save_head(new_head(kind, target, range(6, 290), attention_heads=4), folders[-1])
    return [str(folder) for folder in folders]


def _engine(checkpoint, heads):
    return building.build_engine(make(VerifierConfig, {'model.path': str(checkpoint), 'decode.max_new_tokens': 12,
                                                       'model.heads': heads}))


def test_named_heads_draft_and_are_counted(checkpoint, heads):
    engine = _engine(checkpoint, heads)
    clip = clip_of(np.random.default_rng(1), 8)
    assert caption_of(engine, 1, clip).token_ids == strip(engine.target, engine.target.generate(clip, QUESTION, 12))
    assert {'eagle3', 'block'} <= set(engine.statistics()['proposer']['sources'])
    counts = engine.proposer.counts()
    assert counts['eagle3_drafts'] > 0 and counts['block_drafts'] > 0 and counts['block_failed'] == 0
    assert engine.statistics()['proposer']['asked'] == counts


@pytest.mark.parametrize('named', [pytest.param([], id='none'), pytest.param([''], id='none as ROS has it')])
def test_without_heads_there_are_none(checkpoint, named):
    assert _engine(checkpoint, named).proposer.counts() == {}


def test_heads_of_another_verifier_are_refused(heads, tmp_path):
    with pytest.raises(CrossSpecError, match='trained on the states of the verifier'):
        _engine(write_checkpoint(tmp_path / 'other', seed=7), heads)
