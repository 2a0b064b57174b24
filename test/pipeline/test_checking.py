"""The check at load: clips through `generate` and through the engine, and what is switched off where they differ."""
from __future__ import annotations

import json

import pytest
import torch

from crossspec_ros import cli
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.builtin import builtin_path
from crossspec_ros.models.targets import load_target
from crossspec_ros.pipeline.checking import CheckOptions, check_target, describe, make_clips
from crossspec_ros.speculation.target import Judged
from families import FAMILIES, write_family
from tiny_eventgpt import write_eventgpt

OPTIONS = CheckOptions(clips=4, frames=4, max_new_tokens=16, height=60, width=80)
REFUSED = ('qwen3_5', 'lfm2_vl', 'gemma4_small', 'paligemma', 'video_llama_3_compressed')
SERVED = sorted(set(FAMILIES) - set(REFUSED))
KEYS = {'class', 'adapter', 'clips', 'identical', 'frame_cache', 'anticipatory', 'trees', 'frames_a_group',
        'tokens_a_frame', 'dtype', 'refused', 'memory_mb', 'cost_ms'}


@pytest.mark.parametrize('name', [name if name in ('video_llava', 'qwen3_vl', 'gemma3', 'idefics3', 'molmo2') else
                                  pytest.param(name, marks=pytest.mark.long) for name in SERVED])
def test_check_target_of_a_family_is_identical(tmp_path, name):
    target = load_target(write_family(tmp_path / name, name, seed=3))
    assert check_target(target, OPTIONS).exact
    assert describe(target, check_target(target, OPTIONS), OPTIONS).keys() >= KEYS


@pytest.mark.timeout(1800)
@pytest.mark.parametrize('wanted', [pytest.param(300, marks=pytest.mark.long),
                                    pytest.param(1500, marks=pytest.mark.longest)])
def test_check_target_finds_no_difference_in_many_clips(tmp_path, wanted):
    count = -(-wanted // (2 * len(SERVED)))
    different, clips = {}, 0
    for name in SERVED:
        for seed in (5, 6):
            target = load_target(write_family(tmp_path / f'{name}{seed}', name, seed=seed))
            found = check_target(target, CheckOptions(count, 4, 12, height=60, width=80, seed=seed))
            clips += found.clips
            if not found.exact:
                different[name, seed] = found
    assert clips >= wanted and not different


def test_check_target_turns_off_groups_that_are_encoded_wrongly(tmp_path, monkeypatch):
    target = load_target(write_family(tmp_path / 'tiny', 'video_llava', seed=3))
    encode = target.encode
    monkeypatch.setattr(target, 'encode_all', lambda layout, frames: [
        encode(layout, number, [frame]) for number, frame in enumerate(frames)])
    monkeypatch.setattr(target, 'encode', lambda layout, group, frames: encode(layout, group, frames).flip(0) * 2)
    found = check_target(target, OPTIONS)
    assert found.exact and not found.abilities.anticipatory and 'anticipatory is off' in found.abilities.notes[-1]


def test_check_target_turns_off_trees_that_are_verified_wrongly(tmp_path, monkeypatch):
    target = load_target(write_family(tmp_path / 'tiny', 'video_llava', seed=3))
    verify = target.verify

    def wrong_in_trees(cache, rows, tree, committed):
        judged = verify(cache, rows, tree, committed)
        if any(parent != node - 1 for node, parent in enumerate(tree.parents)):
            return Judged(judged.logits.flip(0), judged.states)
        return judged
    monkeypatch.setattr(target, 'verify', wrong_in_trees)
    found = check_target(target, OPTIONS)
    assert found.exact and not found.abilities.trees and target.abilities is found.abilities


def test_check_target_says_where_nothing_helps(tmp_path, monkeypatch):
    target = load_target(write_family(tmp_path / 'tiny', 'video_llava', seed=3))
    had = target.abilities
    generate = target.generate
    monkeypatch.setattr(target, 'generate', lambda *args, **options: generate(*args, **options)[::-1])
    found = check_target(target, OPTIONS)
    assert found.identical < found.clips and target.abilities is had


def test_make_clips_move_stand_still_and_overlap():
    clips = make_clips(OPTIONS)
    starts = [start for start, _ in clips]
    assert starts == [0, 2, 6, 8] and all(len(frames) == 4 for _, frames in clips)
    assert (clips[0][1][2] == clips[1][1][0]).all()
    assert not clips[1][1][2].any()                                      # the black one
    with pytest.raises(CrossSpecError, match='clips must be >= 1'):
        CheckOptions(clips=0)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_model_check_command_reports(tmp_path, capsys, dtype):
    folder = write_family(tmp_path / 'tiny', 'qwen3_vl', seed=3)
    code = cli.main(['model', 'check', str(folder), '--clips', '2', '--frames', '4', '--size', '80x60',
                     '--dtype', dtype, '--json'])
    report = json.loads(capsys.readouterr().out)
    assert report['class'] == 'Qwen3VLForConditionalGeneration' and report['frames_a_group'] == 2
    assert code == (0 if report['identical'] == report['clips'] else 1) and report['dtype'] == dtype
    assert dtype == 'bfloat16' or code == 0
    assert torch.get_default_dtype() == torch.float32


def test_model_check_command_of_a_refused_checkpoint_says_why(tmp_path, capsys):
    folder = write_family(tmp_path / 'tiny', 'qwen3_5', seed=3)
    assert cli.main(['model', 'check', str(folder), '--json']) == 1
    report = json.loads(capsys.readouterr().out)
    assert report.keys() >= KEYS and 'linear_attention' in report['refused'] and report['clips'] == 0
    assert cli.main(['model', 'check', str(folder)]) == 1
    assert 'refused' in capsys.readouterr().out
    assert cli.main(['model', 'check', str(folder), '--size', 'large']) == 2


def test_model_check_command_says_what_a_drafter_is(tmp_path, capsys):
    write_eventgpt(tmp_path / 'eventgpt')
    assert cli.main(['model', 'check', str(tmp_path / 'eventgpt'), '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['identical'] is True and report['tokens'] > 0 and report['drafter'].startswith('EventGPT')
    assert cli.main(['model', 'check', str(builtin_path('drafter'))]) == 0
    said = capsys.readouterr().out
    assert 'event drafter' in said and 'VoxelGrid' in said and 'learned from the verifier' in said
    (tmp_path / 'eventgpt' / 'tokenizer.json').unlink()
    assert cli.main(['model', 'check', str(tmp_path / 'eventgpt')]) == 1
    assert 'refused' in capsys.readouterr().out


def test_stop_strings_of_the_checkpoint_end_a_caption(tmp_path):
    folder = write_family(tmp_path / 'tiny', 'video_llava', seed=3)
    target, options = load_target(folder), OPTIONS
    frames = make_clips(options)[0][1]
    tokens = target.generate(frames, options.prompt, options.max_new_tokens)
    middle = next(text for token in tokens[4:] if (text := target.decode([token])).isascii() and text.strip())
    config = json.loads((folder / 'generation_config.json').read_text())
    (folder / 'generation_config.json').write_text(json.dumps(config | {'stop_strings': [middle]}))
    stopped = load_target(folder)
    shorter = stopped.generate(frames, options.prompt, options.max_new_tokens)
    assert middle and len(shorter) < len(tokens) and check_target(stopped, options).exact


@pytest.mark.parametrize('settings', [
    pytest.param({'repetition_penalty': 1.4}, id='repetition_penalty'),
    pytest.param({'no_repeat_ngram_size': 2}, id='no_repeat_ngram_size'),
    pytest.param({'encoder_repetition_penalty': 1.3}, id='encoder_repetition_penalty'),
    pytest.param({'min_new_tokens': 12}, id='min_new_tokens'),
    pytest.param({'min_length': 40}, id='min_length'),
    pytest.param({'suppress_tokens': [7, 83, 125]}, id='suppress_tokens'),
    pytest.param({'begin_suppress_tokens': [83, 144]}, id='begin_suppress_tokens'),
    pytest.param({'bad_words_ids': [[7], [125, 151]]}, id='bad_words_ids'),
    pytest.param({'sequence_bias': [[[7, 7], -20.0], [[109], 15.0]]}, id='sequence_bias'),
    pytest.param({'forced_eos_token_id': 1}, id='forced_eos_token_id'),
    pytest.param({'exponential_decay_length_penalty': [4, 1.5]}, id='exponential_decay_length_penalty'),
    pytest.param({'remove_invalid_values': True, 'renormalize_logits': True}, id='renormalize_logits'),
    pytest.param({'eos_token_id': [1, 7]}, id='several_ends'),
    pytest.param({'do_sample': True, 'temperature': 0.3, 'top_p': 0.5, 'top_k': 3}, id='sampling_is_left_out'),
    pytest.param({'repetition_penalty': 1.2, 'no_repeat_ngram_size': 3, 'min_new_tokens': 5}, id='together')])
@pytest.mark.parametrize('name', ['video_llava', 'qwen3_vl'])
def test_generation_settings_change_captions_as_they_change_generate(tmp_path, name, settings):
    folder = write_family(tmp_path / name, name, seed=3)
    path = folder / 'generation_config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    target = load_target(folder, max_new_tokens=OPTIONS.max_new_tokens)
    assert check_target(target, OPTIONS).exact and target.abilities.trees
