"""Training of heads: answers with states on disk, a loss that falls, resuming, and what a trained head is good for."""
from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny_models
from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads import KINDS, load_head
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.sources.heads import FINAL, HeadSource
from crossspec_ros.speculation.worth import Worth
from crossspec_ros.train.head_stage import HeadStage, train_head
from crossspec_ros.train.loop import StageConfig, read_log
from crossspec_ros.train.states import Asked, Stated, collect_states, read_states, said_ids, world_drives
from engine_harness import QUESTION, caption_of, clip_of, make_engine, strip, without_clock

LAYERS = (0, FINAL)
STEPS = {'eagle1': 100, 'eagle3': 60, 'medusa': 150, 'block': 80}
TOKENS = 12


@pytest.fixture(scope='module')
def target(tmp_path_factory):
    return load_target(tiny_models.write_checkpoint(tmp_path_factory.mktemp('verifier'), layers=2, context=512))


@pytest.fixture(scope='module')
def clips():
    generator = np.random.default_rng(5)
    return [clip_of(generator, 8) for _ in range(3)]


@pytest.fixture(scope='module')
def states(target, clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp('states')
    list(collect_states(target, LAYERS, [('one', [Asked(clip, QUESTION) for clip in clips])], folder, TOKENS))
    return folder


def test_collect_states_keeps_what_is_there(target, clips, states):
    before = (states / 'one.npz').stat().st_mtime_ns
    drives = [('one', [Asked(clip, QUESTION) for clip in clips]), ('two', [Asked(clips[0], QUESTION, 'a car')])]
    assert list(collect_states(target, LAYERS, drives, states, TOKENS)) == [('one', 3), ('two', 1)]
    assert (states / 'one.npz').stat().st_mtime_ns == before
    answers = read_states(target, LAYERS, states)
    (states / 'two.npz').unlink()
    for answer, clip in zip(answers, [*clips, clips[0]]):
        assert strip(target, tuple(answer.token_ids.tolist())) == strip(target, target.generate(clip, QUESTION, TOKENS))
        assert answer.states.shape == (len(answer.token_ids), 2, 32)
    assert said_ids(answers) == sorted({token for answer in answers for token in answer.token_ids.tolist()})


def test_read_states_of_another_verifier_or_broken_is_refused(target, states, tmp_path):
    with pytest.raises(CrossSpecError, match='use another folder'):
        read_states(target, (FINAL,), states)
    with pytest.raises(CrossSpecError, match='collect them first'):
        read_states(target, LAYERS, tmp_path)
    (tmp_path / 'cut.npz').write_bytes((states / 'one.npz').read_bytes()[:100])
    with pytest.raises(CrossSpecError, match='delete the file'):
        read_states(target, LAYERS, tmp_path)


@pytest.mark.parametrize('kind', KINDS)
def test_trained_head_says_what_it_learnt(target, clips, states, tmp_path, kind):
    answers = read_states(target, LAYERS, states)
    folder = train_head(kind, target, answers, LAYERS, tmp_path, StageConfig(
        kind, steps=STEPS[kind], batch=4, lr=6e-3, log_every=5), attention_heads=4)
    log = read_log(tmp_path / f'{kind}.csv')
    assert log['loss'][-1] < 0.7 * log['loss'][0]
    head = load_head(folder, target)
    assert len(head.kept) == len(said_ids(answers))
    config = make_engine(target, sources=(), window_frames=8, max_new_tokens=TOKENS).config
    engine = without_clock(CaptionEngine(target, config, more=[HeadSource(head, target.vocab_size,
                                                                          worth=Worth(trial=10**9))]))
    for window, clip in enumerate(clips):
        assert caption_of(engine, window, clip).token_ids == strip(target, target.generate(clip, QUESTION, TOKENS))
    assert engine.statistics()['mean_acceptance_length'] > 1.5


def test_training_interrupted_and_resumed_ends_with_the_same_weights(target, states, tmp_path):
    answers = read_states(target, LAYERS, states)
    config = StageConfig('medusa', steps=6, batch=2)
    whole = train_head('medusa', target, answers, LAYERS, tmp_path / 'whole', config, attention_heads=4)
    asked = iter(range(100))
    for resume in (False, True):
        parts = train_head('medusa', target, answers, LAYERS, tmp_path / 'parts', config, attention_heads=4,
                           resume=resume, should_stop=None if resume else lambda: next(asked) >= 3)
    one, other = load_head(whole, target).state_dict(), load_head(parts, target).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_resumed_with_other_words_is_refused(target, states, tmp_path):
    answers, config = read_states(target, LAYERS, states), StageConfig('medusa', steps=2, batch=2)
    train_head('medusa', target, answers, LAYERS, tmp_path, config, attention_heads=4)
    with pytest.raises(CrossSpecError, match='start anew'):
        train_head('medusa', target, answers, LAYERS, tmp_path, config, attention_heads=4, resume=True,
                   kept_ids=range(6, 40))


def test_stage_without_the_states_it_needs_is_refused(target, states):
    from crossspec_ros.models.heads import new_head
    head = new_head('eagle3', target, range(6, 20), attention_heads=4, layers=(0, FINAL))
    answers = read_states(target, LAYERS, states)
    with pytest.raises(CrossSpecError, match='are missing'):
        HeadStage(head, answers, (FINAL,))
    single = Stated(np.array([7]), np.zeros((1, 2, 32), np.float16))
    with pytest.raises(CrossSpecError, match='more than one token'):
        HeadStage(head, [single], LAYERS)


def test_world_drives_have_windows_of_their_own():
    drives = list(world_drives(30, 1))
    assert len(drives) == 2 and drives[0][0] == 'brisk_701000' and drives[1][0] == 'calm_701001'
    asked = next(drives[1][1])
    assert len(asked.frames) == 8 and asked.prompt == 'What is happening?' and asked.guess.endswith('.')


@pytest.mark.parametrize('words, text', [
    pytest.param(['--kinds', 'hydra'], '--kinds must be among', id='kind'),
    pytest.param(['--windows', '0'], '--windows must be >= 1', id='windows'),
    pytest.param(['--steps', '0'], 'steps or minutes must be > 0', id='steps'),
    pytest.param(['--model', '/nowhere'], 'not there', id='model'),
])
def test_train_heads_bad_options(words, text, tmp_path, capsys):
    assert main(['train', 'heads', '--out', str(tmp_path), *words]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.long
def test_train_heads_and_bench_on_the_driving_world(tmp_path, capsys):
    assert main(['train', 'heads', '--out', str(tmp_path), '--windows', '4', '--steps', '4', '--batch', '2']) == 0
    folders = [str(tmp_path / kind) for kind in KINDS]
    assert main(['bench', 'heads', '--heads', *folders, '--windows', '4', '--drive-windows', '2', '--resamples', '20',
                 '--paces', 'calm', '--json']) == 0
    assert 'merged + all heads' in capsys.readouterr().out
