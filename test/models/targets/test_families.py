"""Every family says through its target what the model's own `generate` says, with the folder's own processor."""
from __future__ import annotations

import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import load_target
from crossspec_ros.models.targets.adapters import ADAPTERS, Parts
from crossspec_ros.models.targets.decoding import NO_TREE
from crossspec_ros.models.targets.generic import GenericAdapter
from crossspec_ros.models.targets.transformers_target import TransformersTarget
from crossspec_ros.speculation.tree import TokenTree
from families import FAMILIES, oracle, write_family
from target_driving import answer, bushy, frames_of

QUESTION, TOKENS = 'What is it?', 10
NAMED = sorted(name for name, family in FAMILIES.items() if family.named and name != 'gemma4_small')
WHOLE = ('molmo2',)                              # frames of a window see each other: prefilled at once
REFUSED = {'qwen3_5': 'linear_attention', 'lfm2_vl': 'conv', 'gemma4_small': 'keys and values of their own',
           'video_llama_3_compressed': 'must not depend on what frames show', 'paligemma': 'must not see the question'}
SERVED = sorted(set(FAMILIES) - set(REFUSED))


@pytest.fixture(scope='module')
def folder_of(tmp_path_factory):
    """Writes a family's checkpoint once."""
    made = {}

    def folder(name: str):
        if name not in made:
            made[name] = write_family(tmp_path_factory.mktemp('families') / name, name, seed=1)
        return made[name]
    return folder


def compare(target, folder, seeds, count=4):
    """Answers by plain decoding, right drafts and wrong ones are those of the folder's own classes; the answers."""
    lengths = set()
    for seed in seeds:
        frames = frames_of(seed, count, 60, 80)
        expected = list(target.generate(frames, QUESTION, TOKENS))
        assert expected == list(oracle(folder, frames, QUESTION, TOKENS, suppress=target.banned_ids))
        plain, passes = answer(target, frames, QUESTION, TOKENS, lambda committed: NO_TREE)
        assert plain == expected and passes == len(expected)
        right, passes = answer(target, frames, QUESTION, TOKENS,
                               lambda committed: TokenTree.chain(expected[len(committed):len(committed) + 4]))
        assert right == expected and passes < len(expected)
        hostile, _ = answer(target, frames, QUESTION, TOKENS,
                            lambda committed: bushy(expected[len(committed):len(committed) + 3], seed, 250))
        assert hostile == expected
        lengths.add(tuple(expected))
    return lengths


@pytest.mark.parametrize('name', SERVED)
def test_family_answers_as_its_own_generate(folder_of, name):
    target = load_target(folder_of(name))
    assert type(target.adapter) is (ADAPTERS[type(target.model).__name__] if name in NAMED else GenericAdapter)
    assert compare(target, folder_of(name), range(2))
    assert target.abilities.anticipatory == target.abilities.frame_cache == (name not in WHOLE)
    group = target.layout(QUESTION, 4, 60, 80).groups[0]
    assert group.frames == (4 if name in WHOLE else FAMILIES[name].frames_a_group)


@pytest.mark.parametrize('name', [name if name in ('qwen3_vl', 'gemma4', 'smolvlm') else
                                  pytest.param(name, marks=pytest.mark.long) for name in NAMED])
def test_named_family_is_served_without_its_name_too(folder_of, name):
    named = load_target(folder_of(name))
    parts = named.adapter.parts
    learned = TransformersTarget(GenericAdapter(Parts(parts.folder, parts.model, parts.tokenizer)))
    ours, theirs = (target.layout(QUESTION, 4, 60, 80) for target in (named, learned))
    assert ours.ids == theirs.ids and ours.groups == theirs.groups
    assert compare(learned, folder_of(name), [3])


@pytest.mark.parametrize('name', ['gemma3', 'qwen3_vl', 'molmo2'])
def test_family_in_a_fixed_buffer(folder_of, name):
    assert compare(load_target(folder_of(name), cache='static'), folder_of(name), [5])


@pytest.mark.parametrize('name', sorted(REFUSED))
def test_family_that_cannot_be_exact_is_refused(folder_of, name):
    with pytest.raises(CrossSpecError, match=REFUSED[name]):
        load_target(folder_of(name))


@pytest.mark.parametrize('name, shape', [
    pytest.param('video_llava', dict(sliding_window=24), id='mistral window'),
    pytest.param('llava_onevision', dict(sliding_window=20), id='qwen2 mixed layers'),
    pytest.param('llava_next_video', dict(rope_scaling=dict(rope_type='linear', factor=2.0)), id='linear rope'),
    pytest.param('video_llava', dict(rope_scaling=dict(rope_type='dynamic', factor=2.0)), id='dynamic rope, short')])
def test_settings_of_the_decoder_are_kept(tmp_path, name, shape):
    folder = write_family(tmp_path / name, name, seed=2, **shape)
    assert compare(load_target(folder), folder, [1, 2])


def test_dynamic_rope_is_refused_where_it_would_depend_on_the_forward(tmp_path):
    folder = write_family(tmp_path / 'rope', 'video_llava', seed=2, context=64,
                          rope_scaling=dict(rope_type='dynamic', factor=4.0))
    target = load_target(folder)
    layout = target.layout(QUESTION, 4, 60, 80)
    target.new_cache(layout, 64)
    with pytest.raises(CrossSpecError, match='64 tokens up to which'):
        target.new_cache(layout, 65)


@pytest.mark.parametrize('name', ['qwen2_vl', 'glm4v'])
def test_odd_frames_of_pairs_are_refused(folder_of, name):
    with pytest.raises(CrossSpecError, match='divisible by 2'):
        load_target(folder_of(name)).layout(QUESTION, 3, 60, 80)


@pytest.mark.parametrize('name', ['qwen3_vl', 'idefics3'])
def test_frames_of_another_size_are_refused(folder_of, name):
    target = load_target(folder_of(name))
    layout = target.layout(QUESTION, 4, 60, 80)
    frames = frames_of(0, layout.groups[0].frames, 60, 90)
    with pytest.raises(CrossSpecError, match='must be 60 x 80 px'):
        target.encode(layout, 0, frames)


def test_a_frame_that_shows_nothing_is_refused_where_the_model_drops_it(tmp_path):
    folder = write_family(tmp_path / 'smolvlm', 'smolvlm', seed=1)
    target = load_target(folder)
    target.adapter.pictures.processor.video_processor.image_mean = [0.0] * 3        # so that black is zero
    layout = target.layout(QUESTION, 2, 60, 80)
    with pytest.raises(CrossSpecError, match='must show something'):
        target.encode(layout, 0, [np.zeros((60, 80, 3), np.uint8)])


def test_times_of_frames_reach_the_prompt(folder_of):
    slow, fast = (load_target(folder_of('qwen3_vl'), fps=fps) for fps in (2.0, 8.0))
    assert slow.layout(QUESTION, 4, 60, 80).ids != fast.layout(QUESTION, 4, 60, 80).ids
