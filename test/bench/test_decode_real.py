"""`crossspec bench decode --shapes`: a cut-down model says what was recorded, by itself what `generate` says.
"""
from __future__ import annotations

import json
from argparse import Namespace

import pytest

from crossspec_ros.bench import decode_real
from crossspec_ros.bench.decode_shapes import read_traces, world_captions
from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import real_shapes
from crossspec_ros.models.random_shapes import random_adapter
from crossspec_ros.models.real_shapes import MODELS, SHORT, config_of

SAID = [310, 1200, 450, 4000, 17, 310]
VOCABULARY = 5000                                       # heads of 150,000 words would take most of the test's time


@pytest.fixture
def traces(tmp_path):
    rows = [{'target': SAID, 'draft': [310, 1200]}, {'target': [*SAID[:4], 900]}]
    (tmp_path / 'traces.json').write_text(json.dumps({'rows': rows}), encoding='utf-8')
    return str(tmp_path / 'traces.json')


@pytest.fixture
def few_words(monkeypatch):
    for name, (kind, fields, tokens, dtype) in MODELS.items():
        text = {**fields.get('text_config', {}), 'vocab_size': VOCABULARY}
        monkeypatch.setitem(MODELS, name, (kind, {**fields, 'text_config': text}, tokens, dtype))


@pytest.fixture
def small(few_words, monkeypatch):
    for name, value in (('_HEIGHT', 96), ('_WIDTH', 128), ('_FRAMES', 2)):
        monkeypatch.setattr(decode_real, name, value)


@pytest.mark.parametrize('name', SHORT)
def test_a_shape_says_what_was_recorded_and_by_itself_what_generate_says(name, traces, capsys, small):
    words = ['--shapes', name, '--layers', '2', '--width', '256', '--traces', traces, '--windows', '2']
    assert main(['bench', 'decode', *words, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['model'].startswith(f'{SHORT[name]}, 2 of ') and report['windows'] == 2
    assert report['schemes'].keys() | report['not_run'].keys() == {'generate', 'prompt_lookup', 'session', 'ours'}
    assert all(row['identical'] and row['host']['operations'] > 10 for row in report['schemes'].values())
    assert report['schemes']['generate']['passes'] == report['schemes']['session']['passes'] == len(SAID) + 0.5
    assert report['schemes']['ours']['passes'] < report['schemes']['session']['passes']
    assert report['schemes']['ours']['host']['most_reads'] <= (2 if 'qwen3' in name else 1)      # DeepStack goes free
    own = report['own_words']
    assert own['identical_windows'] == own['windows'] == 2 and own['different_tokens'] > 8


def shown(capsys, *words: str) -> str:
    assert main(['bench', 'decode', *words]) != 0
    return capsys.readouterr().err


def test_a_shape_that_does_not_fit_is_refused_before_anything_is_built(capsys, monkeypatch):
    monkeypatch.setattr(decode_real, 'random_adapter', lambda *args: pytest.fail('nothing may be built'))
    monkeypatch.setattr(decode_real, 'room_of', lambda device: 10**7)
    text = shown(capsys, '--shapes', 'qwen3vl-8b', '--windows', '1', '--layers', '3')
    assert 'Qwen3-VL 8B with 3 layers does not fit cpu: it takes' in text and 'fewer --layers' in text
    assert 'does not fit' in shown(capsys, '--shapes', 'qwen3vl-8b', '--windows', '1', '--width', '128')


def test_a_shape_is_made_narrower_only_where_memory_asks_for_that(monkeypatch):
    def chosen(room, **asked):
        monkeypatch.setattr(decode_real, 'room_of', lambda device: room)
        options = dict(shapes='onevision', layers=0, width=0, counts=False, device='cpu', dtype='float32')
        return decode_real.choose(Namespace(**options | asked), world_captions(2, 3))
    roomy, tight = chosen(10**11), chosen(5 * 10**9)
    assert (roomy.layers, roomy.width) == (2, 0) and roomy.cut.endswith('2 of 28 layers, 3584 of 3584 wide')
    assert tight.width == 1792 and '1792 of 3584 wide (the whole width takes' in tight.cut
    assert chosen(10**11, layers=4, width=256).cut.endswith('4 of 28 layers, 256 of 3584 wide')
    counted = chosen(10**11, counts=True)
    assert (counted.layers, counted.width) == (0, 256)


def test_a_class_that_transformers_does_not_have_is_refused_with_the_version_that_has_it(capsys, monkeypatch):
    monkeypatch.setattr(real_shapes, 'class_of', lambda kind: None)
    text = shown(capsys, '--shapes', 'cosmos3', '--windows', '1')
    assert 'Cosmos3EdgeForConditionalGeneration, which transformers' in text and '5.20.2 has it' in text


def test_a_window_has_as_many_tokens_as_the_real_processor_makes(tmp_path, few_words):
    for short, name in SHORT.items():
        (tmp_path / short).mkdir()
        layout = random_adapter(name, tmp_path / short, 1, 128).layout('What is happening?', 8, 480, 640)
        assert sum(group.tokens for group in layout.groups) in (MODELS[name][2], MODELS[name][2] - 1)   # a newline more
        assert 5 < layout.length - MODELS[name][2] <= decode_real._TEXT


def test_narrow_shapes_keep_heads_and_what_hangs_on_them():
    config = config_of('Qwen3-VL 8B', 2, 1000)
    text, vision = config.text_config, config.vision_config
    assert (text.num_hidden_layers, text.num_attention_heads, text.hidden_size, text.head_dim) == (2, 7, 896, 128)
    assert text.num_attention_heads % text.num_key_value_heads == 0 and vision.out_hidden_size == 896
    assert vision.depth == 2 and vision.deepstack_visual_indexes == [0, 1] and vision.hidden_size == 3 * 72
    assert config_of('Qwen3-VL 8B').vision_config.deepstack_visual_indexes == [8, 16, 24]


def test_captions_of_the_package_are_those_of_a_drive():
    said = [caption.target for caption in world_captions(12, 3)]
    assert said == [caption.target for caption in world_captions(12, 3)] and len(set(said)) > 3
    assert all(8 < len(caption) < 64 and max(caption) < 3072 for caption in said)


def test_traces_of_another_kind_are_refused(tmp_path):
    (tmp_path / 'other.json').write_text('{"rows": [1]}', encoding='utf-8')
    with pytest.raises(CrossSpecError, match='must be JSON with rows of target and draft'):
        read_traces(str(tmp_path / 'other.json'))
