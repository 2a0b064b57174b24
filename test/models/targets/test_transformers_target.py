"""The split target says what the model's own `generate` says, for the two classes that need no processor."""
from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import load_target
from crossspec_ros.models.targets.decoding import NO_TREE, tree_mask
from crossspec_ros.speculation.tree import TokenTree
from target_driving import answer, bushy, frames_of, prompt_rows

QUESTION = 'What is it?'


@pytest.mark.parametrize('options', [
    pytest.param({}, id='lean'), pytest.param({'lean': False}, id='transformers'),
    pytest.param({'lean': False, 'cache': 'static'}, id='static')])
def test_answers_are_those_of_generate(folder, options):
    target = load_target(folder, **options)
    for seed in range(3):
        frames = frames_of(seed)
        expected = list(target.generate(frames, QUESTION, 12))
        plain, passes = answer(target, frames, QUESTION, 12, lambda committed: NO_TREE)
        assert plain == expected and passes == len(expected)
        right, passes = answer(target, frames, QUESTION, 12,
                               lambda committed: TokenTree.chain(expected[len(committed):len(committed) + 4]))
        assert right == expected and passes < len(expected)
        hostile, _ = answer(target, frames, QUESTION, 12,
                            lambda committed: bushy(expected[len(committed):len(committed) + 3], seed, 290))
        assert hostile == expected


def test_layout_covers_the_prompt_and_is_kept(target):
    layout = target.layout(QUESTION, 4, 30, 40)
    assert layout is target.layout(QUESTION, 4, 30, 40)
    rows = prompt_rows(target, layout, frames_of(0))
    assert sum(map(len, rows)) == layout.length == len(layout.ids) and len(layout.groups) == 4
    assert target.tokenizer(target.decode(layout.question_ids))['input_ids']
    assert tuple(layout.ids[-len(layout.question_ids):]) == layout.question_ids


def test_tree_mask_hides_siblings_and_puts_nodes_at_their_depth():
    tree = TokenTree((5, 6, 7, 8), (-1, 0, 0, -1), (1,) * 4, (1.0,) * 4, ('a',))
    mask, positions = tree_mask(3, 5, tree, 8)
    assert positions.tolist() == [3, 4, 5, 5, 4]
    assert mask.int().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0],
                                   [1, 1, 1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0, 0, 1]]


@pytest.mark.parametrize('prompt, match', [
    pytest.param('', 'must not be empty', id='empty'), pytest.param('  \n', 'must not be empty', id='blank'),
    pytest.param(['a'], 'must be a text', id='list'), pytest.param('a\ud800', 'surrogate', id='surrogate'),
    pytest.param('<video> and <video>', 'once', id='two placeholders'),
    pytest.param('What is it? <video>', 'nothing there', id='no question'),
    pytest.param('a red car ' * 400, 'shorter than the context', id='too long')])
def test_layout_bad_prompt_is_refused(target, prompt, match):
    with pytest.raises(CrossSpecError, match=match):
        target.layout(prompt, 4, 30, 40)


@pytest.mark.parametrize('frames, match', [
    pytest.param([np.zeros((4, 4), np.uint8)], 'rgb must be', id='grey'),
    pytest.param([np.zeros((4, 4, 3), np.float32)], 'rgb must be', id='float'),
    pytest.param([np.zeros((0, 4, 3), np.uint8)], 'rgb must be', id='empty'),
    pytest.param([[1]], 'rgb must be', id='list'), pytest.param([], 'frames must be 1', id='none'),
    pytest.param((frame for frame in ()), 'must be a list', id='generator')])
def test_encode_bad_frame_is_refused(target, frames, match):
    with pytest.raises(CrossSpecError, match=match):
        target.encode(target.layout(QUESTION, 2, 30, 40), 0, frames)


def test_verify_not_finite_logits_are_refused(folder):
    target = load_target(folder)
    with torch.no_grad():
        target.adapter.head.weight[7] = float('nan')
    cache = target.new_cache(target.layout(QUESTION, 1, 30, 40), 50)
    with pytest.raises(CrossSpecError, match='finite'):
        target.verify(cache, target.embed([20, 21]), NO_TREE, ())


def test_verify_scores_with_history_and_never_banned_ids(folder):
    heard = []

    def scorer(logits, prompt_ids, committed, tree):
        heard.append((tuple(prompt_ids), tuple(committed), tree))
        return logits * 0 + torch.arange(logits.shape[1])

    target, tree = load_target(folder), TokenTree.chain([22, 23])
    target.scorer = scorer
    layout = target.layout(QUESTION, 1, 30, 40)
    judged = target.verify(target.new_cache(layout, 50), target.embed([20, 21, 22, 23]), tree, (20, 21))
    assert heard == [(layout.ids, (20, 21), tree)] and judged.logits.shape == (3, target.vocab_size)
    assert set(target.banned_ids) >= {3, 4, 5, target.vocab_size - 1}
    assert torch.isinf(judged.logits[:, list(target.banned_ids)]).all()
    best = max(set(range(target.vocab_size)) - set(target.banned_ids))
    assert judged.logits.argmax(-1).tolist() == [best] * 3 and judged.states.shape[0] == 3


def test_released_caches_serve_again(target):
    layout = target.layout(QUESTION, 1, 30, 40)
    cache = target.new_cache(layout, 50)
    target.release(cache)
    assert target.new_cache(layout, 40) is cache and cache.layout is layout
    for other in [target.new_cache(layout, 40) for _ in range(6)]:
        target.release(other)
    assert len(target._pool) <= 4


def _edit(name: str, **changes):
    def apply(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))
    return apply


def _remove(*names: str):
    def apply(folder):
        for name in names:
            (folder / name).unlink()
    return apply


def _cut_weights(folder):
    data = (folder / 'model.safetensors').read_bytes()
    (folder / 'model.safetensors').write_bytes(data[:len(data) // 2])


def _pickled(folder):
    (folder / 'model.safetensors').unlink()
    torch.save({}, folder / 'pytorch_model.bin')


def _other_tokenizer(folder):
    tiny_models.build_tokenizer(290).save_pretrained(folder)
    content = json.loads((folder / 'tokenizer.json').read_text())
    content['added_tokens'] += [dict(content['added_tokens'][-1], id=290 + i, content=f'<x{i}>') for i in range(40)]
    (folder / 'tokenizer.json').write_text(json.dumps(content))


@pytest.mark.parametrize('breakage, match', [
    pytest.param(_edit('config.json', architectures=['LlamaForCausalLM']), 'class must be one', id='class'),
    pytest.param(_edit('tokenizer_config.json', auto_map={'AutoTokenizer': ['x.Y', None]}, tokenizer_class='Y'),
                 'code of its own', id='code'),
    pytest.param(_remove('tokenizer.json'), 'no tokenizer', id='no tokenizer'),
    pytest.param(_remove('video_preprocessor_config.json'), 'no processor', id='no processor'),
    pytest.param(_remove('model.safetensors'), 'no weights', id='no weights'),
    pytest.param(_pickled, 'save it as safetensors', id='pickled weights'),
    pytest.param(_remove('config.json'), 'no config.json', id='no config'),
    pytest.param(_cut_weights, 'cannot be loaded', id='cut weights'),
    pytest.param(_other_tokenizer, 'belong together', id='other tokenizer')])
def test_load_target_broken_checkpoint_is_named(folder, tmp_path, breakage, match):
    copy = shutil.copytree(folder, tmp_path / 'copy')
    breakage(copy)
    with pytest.raises(CrossSpecError, match=match):
        load_target(copy)


@pytest.mark.parametrize('arguments, match', [
    pytest.param({'path': '/nowhere/at/all'}, 'not there', id='path'),
    pytest.param({'dtype': 'int8'}, 'dtype must be', id='dtype'),
    pytest.param({'device': 'warp'}, 'device must be', id='device'),
    pytest.param({'fps': 0}, 'fps must be', id='fps'),
    pytest.param({'cache': 'sliding'}, "'dynamic' or 'static'", id='cache')])
def test_load_target_bad_argument_is_refused(folder, arguments, match):
    with pytest.raises(CrossSpecError, match=match):
        target = load_target(**({'path': folder} | arguments))
        target.new_cache(target.layout(QUESTION, 1, 30, 40), 10)
