"""The split target gives what the whole model gives, for both supported classes, and bad checkpoints are named."""
from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.preprocessing import load_preprocessor
from crossspec_ros.models.verifier import load_verifier, tree_mask

KINDS = ['video_llava', 'llava_onevision']


@pytest.fixture(scope='module', params=KINDS)
def folder(request, tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope='module')
def verifier(folder):
    return load_verifier(folder)


def frames_of(seed: int, count: int = 4) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(count)]


def prompt_embeds(verifier, frames, prompt='What is it?'):
    segments = verifier.segments(prompt, len(frames))
    return torch.cat([verifier.embed(segments.prefix_ids), *map(verifier.encode_frame, frames), segments.closing,
                      verifier.embed(segments.tail_ids)])


def whole_logits(verifier, frames, answer, prompt='What is it?'):
    """Logits of the model's own forward over prompt and answer, all rows."""
    ids = torch.tensor([[*verifier.input_ids(prompt, len(frames)), *answer]])
    pixels = torch.stack([verifier.preprocessor(frame) for frame in frames])[None]
    with torch.inference_mode():
        logits = verifier.model(input_ids=ids, pixel_values_videos=pixels).logits[0]
    logits = logits.clone()
    logits[:, list(verifier.banned_ids)] = float('-inf')
    return logits


def test_segments_cover_the_prompt(verifier):
    segments = verifier.segments('What is it?', 4)
    ids = verifier.input_ids('What is it?', 4)
    between = 4 * segments.frame_tokens + len(segments.closing)
    assert len(ids) == len(segments.prefix_ids) + between + len(segments.tail_ids)
    assert ids[:len(segments.prefix_ids)] == segments.prefix_ids
    assert ids[-len(segments.tail_ids):] == segments.tail_ids


@pytest.mark.parametrize('cache_kind', ['dynamic', 'static'])
def test_extend_in_chunks_equals_the_whole_forward(folder, cache_kind):
    verifier = load_verifier(folder, cache=cache_kind)
    frames, answer = frames_of(1), (20, 30, 40)
    expected = whole_logits(verifier, frames, answer)[-4:]
    cache = verifier.new_cache(200)
    embeds = prompt_embeds(verifier, frames)
    verifier.extend(cache, embeds[:7])
    verifier.extend(cache, embeds[7:12])
    logits = verifier.verify(cache, torch.cat([embeds[12:], verifier.embed(answer)]), (-1, 0, 1), 4)
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize('cache_kind', ['dynamic', 'static'])
def test_verify_tree_gives_each_path_its_own_logits(folder, cache_kind):
    verifier = load_verifier(folder, cache=cache_kind)
    frames = frames_of(2)
    tokens, parents = (20, 30, 40, 50, 60), (-1, 0, 0, 2, -1)
    cache = verifier.new_cache(200)
    embeds = torch.cat([prompt_embeds(verifier, frames), verifier.embed(tokens)])
    logits = verifier.verify(cache, embeds, parents, 6)
    for node, path in enumerate([(20,), (20, 30), (20, 40), (20, 40, 50), (60,)]):
        expected = whole_logits(verifier, frames, path)[-1]
        torch.testing.assert_close(logits[node + 1], expected, atol=1e-3, rtol=1e-4)
    cache.keep(cache.length - 5, (0, 2, 3))              # commit the path 20, 40, 50; go on from there
    after = verifier.verify(cache, verifier.embed([70]), (), 1)
    expected = whole_logits(verifier, frames, (20, 40, 50, 70))[-1]
    torch.testing.assert_close(after[0], expected, atol=1e-3, rtol=1e-4)


def test_tree_mask_hides_siblings_and_puts_nodes_at_their_depth():
    mask, positions = tree_mask(3, 5, (-1, 0, 0, -1), 3, static=False)
    assert positions.tolist() == [3, 4, 5, 5, 4]
    assert mask.int().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0],
                                   [1, 1, 1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0, 0, 1]]


def test_encode_frame_alone_equals_the_whole_video(verifier):
    frames = frames_of(3)
    pixels = torch.stack([verifier.preprocessor(frame) for frame in frames])
    with torch.inference_mode():
        together = verifier.adapter.encode(pixels)
    for frame, features in zip(frames, together):
        torch.testing.assert_close(verifier.encode_frame(frame), features, atol=1e-5, rtol=1e-5)


def test_preprocessor_equals_the_processor_of_transformers(verifier, folder):
    pytest.importorskip('torchvision', reason='transformers video processors need torchvision')
    from transformers import AutoVideoProcessor
    processor = AutoVideoProcessor.from_pretrained(folder)
    frames = frames_of(4)
    expected = processor([np.stack(frames)], return_tensors='pt')['pixel_values_videos'][0]
    assert torch.equal(torch.stack([verifier.preprocessor(frame) for frame in frames]), expected)


@pytest.mark.parametrize('rgb', [
    pytest.param(np.zeros((4, 4), np.uint8), id='grey'), pytest.param(np.zeros((4, 4, 3), np.float32), id='float'),
    pytest.param(np.zeros((0, 4, 3), np.uint8), id='empty'), pytest.param([[1]], id='list')])
def test_encode_frame_bad_frame_is_refused(verifier, rgb):
    with pytest.raises(CrossSpecError, match='rgb must be'):
        verifier.encode_frame(rgb)


@pytest.mark.parametrize('prompt, match', [
    pytest.param('', 'must not be empty', id='empty'), pytest.param('  \n', 'must not be empty', id='blank'),
    pytest.param('<video> and <video>', 'once', id='two placeholders'),
    pytest.param('a red car ' * 400, 'shorter than the context', id='too long')])
def test_segments_bad_prompt_is_refused(verifier, prompt, match):
    with pytest.raises(CrossSpecError, match=match):
        verifier.segments(prompt, 4)


def test_verify_not_finite_logits_are_refused(folder):
    verifier = load_verifier(folder)
    with torch.no_grad():
        verifier.adapter.head.weight[7] = float('nan')
    with pytest.raises(CrossSpecError, match='finite'):
        verifier.verify(verifier.new_cache(50), verifier.embed([20, 21]), (), 1)


def test_verify_never_scores_banned_ids(verifier):
    logits = verifier.verify(verifier.new_cache(50), verifier.embed([20, 21]), (), 1)
    assert set(verifier.banned_ids) >= {3, 4, 5, verifier.vocab_size - 1}
    assert torch.isinf(logits[0, list(verifier.banned_ids)]).all()


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


def _other_tokenizer(folder):
    tiny_models.build_tokenizer(290).save_pretrained(folder)
    content = json.loads((folder / 'tokenizer.json').read_text())
    content['added_tokens'] += [dict(content['added_tokens'][-1], id=290 + i, content=f'<x{i}>') for i in range(40)]
    (folder / 'tokenizer.json').write_text(json.dumps(content))


@pytest.mark.parametrize('breakage, match', [
    pytest.param(_edit('config.json', architectures=['LlamaForCausalLM']), 'class must be one of', id='class'),
    pytest.param(_remove('tokenizer.json'), 'no tokenizer', id='no tokenizer'),
    pytest.param(_remove('video_preprocessor_config.json'), 'no processor', id='no processor'),
    pytest.param(_remove('model.safetensors'), 'no weights', id='no weights'),
    pytest.param(_remove('config.json'), 'no config.json', id='no config'),
    pytest.param(_cut_weights, 'cannot be loaded', id='cut weights'),
    pytest.param(_other_tokenizer, 'belong together', id='other tokenizer')])
def test_load_verifier_broken_checkpoint_is_named(folder, tmp_path, breakage, match):
    copy = shutil.copytree(folder, tmp_path / 'copy')
    breakage(copy)
    with pytest.raises(CrossSpecError, match=match):
        load_verifier(copy)


@pytest.mark.parametrize('arguments, match', [
    pytest.param({'path': '/nowhere/at/all'}, 'not there', id='path'),
    pytest.param({'dtype': 'int8'}, 'dtype must be', id='dtype'),
    pytest.param({'device': 'warp'}, 'device must be', id='device'),
    pytest.param({'cache': 'sliding'}, "'dynamic' or 'static'", id='cache')])
def test_load_verifier_bad_argument_is_refused(folder, arguments, match):
    with pytest.raises(CrossSpecError, match=match):
        load_verifier(**({'path': folder} | arguments)).new_cache(10)


def test_load_preprocessor_reads_the_nested_processor_file(folder, tmp_path):
    video = json.loads((folder / 'video_preprocessor_config.json').read_text())
    (tmp_path / 'processor_config.json').write_text(json.dumps({'video_processor': video, 'patch_size': 14}))
    assert load_preprocessor(tmp_path) == load_preprocessor(folder)
