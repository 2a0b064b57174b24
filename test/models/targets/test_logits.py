"""The split target's logits are those of the whole model's own forward, in chunks and on every path of a tree."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from crossspec_ros.models.preprocessing import load_preprocessor
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.tree import TokenTree
from target_driving import frames_of, prompt_rows

QUESTION = 'What is it?'


def tree_of(tokens, parents) -> TokenTree:
    return TokenTree(tokens, parents, (1,) * len(tokens), (1.0,) * len(tokens), ('test',))


def whole_logits(target, frames, answer):
    """Logits of the model's own forward over prompt and answer, all rows."""
    inputs = target.adapter.inputs(QUESTION, frames)
    ids = torch.cat([inputs['input_ids'], torch.tensor([answer])], -1)
    with torch.inference_mode():
        logits = target.model(**(inputs | dict(input_ids=ids, attention_mask=torch.ones_like(ids)))).logits[0]
    logits = logits.clone()
    logits[:, list(target.banned_ids)] = float('-inf')
    return logits


def opened(target, frames):
    """A layout, its rows joined, and an empty cache."""
    layout = target.layout(QUESTION, len(frames), *frames[0].shape[:2])
    return torch.cat(prompt_rows(target, layout, frames)), target.new_cache(layout, 200)


@pytest.mark.parametrize('options', [
    pytest.param({}, id='lean'), pytest.param({'lean': False}, id='transformers'),
    pytest.param({'cache': 'static'}, id='static')])
def test_extend_in_chunks_equals_the_whole_forward(folder, options):
    target = load_target(folder, **options)
    frames, answer = frames_of(1), (20, 30, 40)
    expected = whole_logits(target, frames, answer)[-4:]
    rows, cache = opened(target, frames)
    target.extend(cache, rows[:7])
    target.extend(cache, rows[7:12])
    logits = target.verify(cache, torch.cat([rows[12:], target.embed(answer)]), TokenTree.chain(answer), ()).logits
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize('cache_kind', ['dynamic', 'static'])
def test_verify_tree_gives_each_path_its_own_logits(folder, cache_kind):
    target = load_target(folder, cache=cache_kind)
    frames, tree = frames_of(2), tree_of((20, 30, 40, 50, 60), (-1, 0, 0, 2, -1))
    rows, cache = opened(target, frames)
    logits = target.verify(cache, torch.cat([rows, target.embed(tree.token_ids)]), tree, ()).logits
    for node, path in enumerate([(20,), (20, 30), (20, 40), (20, 40, 50), (60,)]):
        expected = whole_logits(target, frames, path)[-1]
        torch.testing.assert_close(logits[node + 1], expected, atol=1e-3, rtol=1e-4)
    cache.keep(cache.length - 5, (0, 2, 3))              # commit the path 20, 40, 50; go on from there
    after = target.verify(cache, target.embed([70]), TokenTree(), (20, 40, 50, 70)).logits
    expected = whole_logits(target, frames, (20, 40, 50, 70))[-1]
    torch.testing.assert_close(after[0], expected, atol=1e-3, rtol=1e-4)


def test_encode_a_group_alone_equals_the_whole_video(target):
    frames = frames_of(3)
    pixels = torch.stack([target.adapter.preprocessor(frame) for frame in frames])
    layout = target.layout(QUESTION, len(frames), 30, 40)
    with torch.inference_mode():
        together = target.adapter.features(pixels)
    for number, (frame, features) in enumerate(zip(frames, together)):
        torch.testing.assert_close(target.encode(layout, number, [frame]), features, atol=1e-5, rtol=1e-5)


def test_preprocessor_equals_the_processor_of_transformers(target, folder):
    pytest.importorskip('torchvision', reason='transformers video processors need torchvision')
    from transformers import AutoVideoProcessor
    processor = AutoVideoProcessor.from_pretrained(folder)
    frames = frames_of(4)
    expected = processor([np.stack(frames)], return_tensors='pt')['pixel_values_videos'][0]
    assert torch.equal(torch.stack([target.adapter.preprocessor(frame) for frame in frames]), expected)


def test_load_preprocessor_reads_the_nested_processor_file(folder, tmp_path):
    video = json.loads((folder / 'video_preprocessor_config.json').read_text())
    (tmp_path / 'processor_config.json').write_text(json.dumps({'video_processor': video, 'patch_size': 14}))
    assert load_preprocessor(tmp_path) == load_preprocessor(folder)
