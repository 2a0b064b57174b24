"""Acceptance rules in the engine: sampling gives the undrafted seeded sample, lossy rules are marked."""
from __future__ import annotations

import numpy as np
import pytest

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.verifier import load_verifier
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.rules import RULES, make_rule
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Draft, prompt_key

QUESTION = 'What is happening?'


@pytest.fixture(scope='module', params=['video_llava', 'llava_onevision'])
def verifier(request, tmp_path_factory):
    return load_verifier(tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


def clip_of(seed: int):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(2)]


def engine_of(verifier, sources=('memory', 'previous', 'event_drafter', 'rehearsal'), **settings):
    return CaptionEngine.for_verifier(verifier, EngineConfig(window_frames=2, max_new_tokens=16, **settings), sources)


def caption_of(engine, window, clip, draft=()):
    engine.open(window, window, QUESTION)
    if draft:
        engine.offer(Draft(window, window, 0, prompt_key(QUESTION), engine.verifier.tokenizer_key, '', tuple(draft)))
    for slot, frame in enumerate(clip):
        engine.add_frame(window, slot, slot, frame)
        engine.rehearse(window)
    *_, final = engine.answer(window)
    engine.close(window)
    return final


@pytest.mark.parametrize('law', [
    pytest.param(dict(temperature=0.7), id='temperature'), pytest.param(dict(temperature=3.0, top_k=20), id='top_k'),
    pytest.param(dict(temperature=2.0, top_p=0.8), id='top_p')])
def test_gumbel_answer_equals_the_undrafted_seeded_run(verifier, law):
    plain = engine_of(verifier, (), acceptance='gumbel', speculate=False, seed=5, **law)
    drafted = engine_of(verifier, acceptance='gumbel', seed=5, **law)
    for window in range(6):
        clip = clip_of(window % 2)
        expected = caption_of(plain, window, clip)
        noisy = [token if i % 3 else 50 for i, token in enumerate(expected.token_ids)]
        final = caption_of(drafted, window, clip, noisy)
        assert final.token_ids == expected.token_ids == drafted.audit(clip, QUESTION, window)
        assert final.lossless and final.acceptance_rule == 'gumbel'


def test_gumbel_seed_changes_the_sample(verifier):
    samples = {caption_of(engine_of(verifier, acceptance='gumbel', temperature=3.0, seed=seed), 1, clip_of(0)).token_ids
               for seed in range(4)}
    assert len(samples) == 4


def test_rejection_runs_and_can_be_made_again(verifier):
    first, second = (caption_of(engine_of(verifier, acceptance='rejection', seed=3), 1, clip_of(0), (20, 30, 40))
                     for _ in range(2))
    assert first.token_ids == second.token_ids


@pytest.mark.parametrize('name', ['typical', 'fuzzy', 'deferral'])
def test_lossy_rules_are_marked_in_every_caption(verifier, name):
    engine = engine_of(verifier, acceptance=name)
    engine.open(1, 1, QUESTION)
    for slot, frame in enumerate(clip_of(0)):
        engine.add_frame(1, slot, slot, frame)
    captions = list(engine.answer(1))[1::2]
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
    assert all(callable(make_rule(EngineConfig(acceptance=name))) for name in RULES)
