"""Acceptance rules in the engine: sampling gives the undrafted seeded sample, lossy rules are marked."""
from __future__ import annotations

import numpy as np
import pytest

import tiny_models
from engine_harness import without_clock
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.rules import RULES, make_rule
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Draft, prompt_key

QUESTION = 'What is happening?'


@pytest.fixture(scope='module', params=['video_llava', 'llava_onevision'])
def target(request, tmp_path_factory):
    return load_target(tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


def clip_of(seed: int):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(2)]


def engine_of(target, sources=('memory', 'previous', 'drafts', 'rehearsal'), **settings):
    return CaptionEngine(target, EngineConfig(window_frames=2, max_new_tokens=16, sources=sources, **settings))


def caption_of(engine, window, clip, draft=()):
    session = engine.open(window, window, QUESTION)
    if draft:
        engine.offer(Draft(window, window, 0, prompt_key(QUESTION), engine.target.tokenizer_key, '', tuple(draft)))
    for slot, frame in enumerate(clip):
        session.add_frame(slot, slot, frame)
        session.rehearse()
    *_, final = session.answer()
    session.close()
    return final


@pytest.mark.parametrize('sampling', [
    pytest.param(dict(temperature=0.7), id='temperature'), pytest.param(dict(temperature=3.0, top_k=20), id='top_k'),
    pytest.param(dict(temperature=2.0, top_p=0.8), id='top_p')])
def test_gumbel_answer_equals_the_undrafted_seeded_run(target, sampling):
    plain = engine_of(target, (), acceptance='gumbel', speculate=False, seed=5, **sampling)
    drafted = engine_of(target, acceptance='gumbel', seed=5, **sampling)
    for window in range(6):
        clip = clip_of(window % 2)
        expected = caption_of(plain, window, clip)
        noisy = [token if i % 3 else 50 for i, token in enumerate(expected.token_ids)]
        final = caption_of(drafted, window, clip, noisy)
        assert final.token_ids == expected.token_ids == drafted.audit(clip, QUESTION, window)
        assert final.lossless and final.acceptance_rule == 'gumbel'


def test_gumbel_seed_changes_the_sample(target):
    samples = {caption_of(engine_of(target, acceptance='gumbel', temperature=3.0, seed=seed), 1, clip_of(0)).token_ids
               for seed in range(4)}
    assert len(samples) == 4


def test_rejection_runs_and_can_be_made_again(target):
    first, second = (caption_of(without_clock(engine_of(target, acceptance='rejection', seed=3)), 1, clip_of(0),
                                (20, 30, 40)) for _ in range(2))
    assert first.token_ids == second.token_ids


@pytest.mark.parametrize('name', ['typical', 'fuzzy', 'deferral'])
def test_lossy_rules_are_marked_in_every_caption(target, name):
    engine = engine_of(target, acceptance=name)
    session = engine.open(1, 1, QUESTION)
    for slot, frame in enumerate(clip_of(0)):
        session.add_frame(slot, slot, frame)
    captions = list(session.answer())[1::2]
    assert captions and all(not caption.lossless and caption.acceptance_rule == name for caption in captions)


@pytest.mark.parametrize('settings, match', [
    pytest.param(dict(acceptance='hope'), 'acceptance must be', id='name'),
    pytest.param(dict(acceptance='gumbel', temperature=0.0), 'temperature', id='temperature'),
    pytest.param(dict(acceptance='gumbel', top_p=0.0), 'top_p', id='top_p'),
    pytest.param(dict(acceptance='gumbel', top_k=-1), 'top_k', id='top_k')])
def test_make_rule_bad_settings_are_refused(settings, match):
    with pytest.raises(CrossSpecError, match=match):
        make_rule(EngineConfig(**settings))


def test_rules_are_all_made():
    for name in RULES:
        rule = make_rule(EngineConfig(acceptance=name))
        assert rule.name == name and callable(rule.accept)
