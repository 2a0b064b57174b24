"""The tiny checkpoints are what they are said to be: they load, and answer by what they see and are asked."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from families import FAMILIES, answer, clip, load, look, needs, older_files, oracle, rows_of_frames, table, write_family

QUESTION, OTHER = 'what is ahead?', 'is the road wet?'
everyone = pytest.mark.parametrize('name', FAMILIES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they give at these sizes, above all where others use the cores too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@everyone
def test_answer_depends_on_frames_and_question(name: str, tmp_path: Path) -> None:
    by_frame = by_question = 0
    words: set[int] = set()
    for seed in range(3):
        model, processor = load(write_family(tmp_path / str(seed), name, seed))
        frames = clip(seed=seed)
        said = answer(model, processor, frames, QUESTION, 12)
        by_frame += said != answer(model, processor, [*frames[:2], 255 - frames[2], frames[3]], QUESTION, 12)
        by_question += said != answer(model, processor, frames, OTHER, 12)
        words.update(said)
        assert 0 < len(said) <= 12
    assert by_frame and by_question
    assert len(words) >= 8, f'answers should vary, got only {sorted(words)}'


@everyone
def test_folder_answers_clips_of_eight_frames_and_says_the_same_twice(name: str, tmp_path: Path) -> None:
    one, two = write_family(tmp_path / 'one', name, 3), write_family(tmp_path / 'two', name, 3)
    said = oracle(one, clip(8), QUESTION, 6)
    assert said and said == oracle(two, clip(8), QUESTION, 6)


@everyone
def test_frames_of_a_group_share_their_rows_with_no_other(name: str, tmp_path: Path) -> None:
    model, processor = load(write_family(tmp_path, name))
    group, count = FAMILIES[name].frames_a_group, 8
    rows = rows_of_frames(model, processor, clip(count), QUESTION)
    assert all(rows)
    for a in range(count):
        for b in range(count):
            shared = set(rows[a]) & set(rows[b])
            assert shared == (set(rows[a]) if a // group == b // group else set())


@everyone
def test_placeholder_of_frames_is_banned_by_asking(name: str, tmp_path: Path) -> None:
    model, processor = load(write_family(tmp_path, name))
    said = answer(model, processor, clip(), QUESTION, 4)
    other = answer(model, processor, clip(), QUESTION, 4, suppress=said[:1])
    assert said[0] not in other


def test_video_is_said_where_the_processor_takes_videos(tmp_path: Path) -> None:
    for name, family in FAMILIES.items():
        _, processor = load(family.write(tmp_path / name))
        assert family.video == (getattr(processor, 'video_processor', None) is not None), name


@everyone
def test_older_layout_of_files_says_the_same(name: str, tmp_path: Path) -> None:
    said = oracle(write_family(tmp_path, name), clip(), QUESTION, 4)
    assert oracle(older_files(tmp_path), clip(), QUESTION, 4) == said
    assert not (tmp_path / 'chat_template.jinja').exists()


@everyone
def test_rows_of_a_group_depend_on_the_number_of_frames_where_said(name: str, tmp_path: Path) -> None:
    model, processor = load(write_family(tmp_path, name))
    few, many = (len(rows_of_frames(model, processor, clip(count), QUESTION)[0]) for count in (4, 8))
    assert (few != many) == ('depends on the number of frames' in FAMILIES[name].notes)


def test_every_family_says_what_an_adapter_must_know() -> None:
    assert all(family.notes.endswith('.') and '\n' not in family.notes for family in FAMILIES.values())
    assert sum(family.named for family in FAMILIES.values()) >= 11
    assert sum(not family.named and not family.refused for family in FAMILIES.values()) >= 6


@pytest.mark.parametrize(('name', 'shape'), [
    pytest.param('video_llava', dict(tie=True), id='tied'),
    pytest.param('video_llava', dict(sliding_window=12, layers=3), id='mistral-windows'),
    pytest.param('video_llava', dict(rope_scaling={'rope_type': 'dynamic', 'factor': 2.0}), id='dynamic-rope'),
    pytest.param('video_llava', dict(heads=4, kv_heads=4), id='one-key-a-head'),
    pytest.param('video_llava', dict(heads=4, kv_heads=1), id='one-key-for-all'),
    pytest.param('llava_onevision', dict(sliding_window=12, layers=4), id='qwen2-windows'),
    pytest.param('llava_onevision', dict(rope_scaling={'rope_type': 'yarn', 'factor': 4.0}), id='yarn'),
    pytest.param('internvl', dict(rope_scaling={'rope_type': 'linear', 'factor': 2.0}), id='linear-rope'),
    pytest.param('qwen2_vl', dict(sliding_window=12, layers=4, tie=True), id='mrope-windows-tied'),
    pytest.param('qwen3_vl', dict(layers=4, vision_layers=3, tie=True), id='deepstack-of-three'),
    pytest.param('gemma3', dict(layers=6, sliding_window=8, tie=False), id='gemma-windows-untied'),
    pytest.param('gemma4', dict(sliding_window=300), id='gemma4-wide-window'),
    pytest.param('mistral3', dict(sliding_window=10), id='mistral3-windows'),
    pytest.param('smolvlm', dict(vocab_size=500, hidden=48, context=512), id='other-sizes'),
    pytest.param('internvl', dict(text=dict(rms_norm_eps=1e-3)), id='setting-of-the-decoder')])
def test_shape_changes_the_checkpoint(name: str, shape: dict[str, Any], tmp_path: Path) -> None:
    plain, changed = write_family(tmp_path / 'plain', name), write_family(tmp_path / 'changed', name, **shape)
    assert (plain / 'config.json').read_text() != (changed / 'config.json').read_text()
    assert oracle(changed, clip(), QUESTION, 6)


@pytest.mark.parametrize('name', ['video_llava', 'qwen3_vl', 'gemma3', 'smolvlm'])
def test_dtype_is_that_of_the_weights_on_disk(name: str, tmp_path: Path) -> None:
    from safetensors import safe_open
    folder = write_family(tmp_path, name, dtype='bfloat16')
    with safe_open(folder / 'model.safetensors', 'pt') as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.bfloat16}
    assert oracle(folder, clip(), QUESTION, 4, dtype=torch.bfloat16)


def test_shape_that_a_family_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='sliding_window must be None for this family, got 8'):
        write_family(tmp_path, 'qwen3_vl', sliding_window=8)
    with pytest.raises(TypeError, match='windows'):
        write_family(tmp_path, 'qwen3_vl', windows=8)


# -- why some are refused
@everyone
def test_only_recurrent_families_have_caches_that_cannot_be_cut(name: str, tmp_path: Path) -> None:
    from transformers import DynamicCache
    model, _ = load(write_family(tmp_path, name))
    cache = DynamicCache(config=model.config.get_text_config())
    assert cache.is_croppable == (name not in ('qwen3_5', 'lfm2_vl'))


@pytest.mark.parametrize(('name', 'mixes'), [
    pytest.param('molmo2', True, id='frames-both-ways'), pytest.param('paligemma', True, id='prompt-both-ways'),
    pytest.param('gemma3', False, id='inside-a-frame')])
def test_masks_let_a_frame_see_later_ones(name: str, mixes: bool, tmp_path: Path) -> None:
    model, processor = load(write_family(tmp_path, name))
    rows = rows_of_frames(model, processor, clip(), QUESTION)
    mask = look(model, processor, clip(), QUESTION)['attention_mask']
    mask = mask['full_attention'] if isinstance(mask, dict) else mask
    seen = mask if mask.dtype == torch.bool else mask == 0      # (1, 1, L, L)
    assert bool(seen[0, 0, rows[0][0], rows[0][-1]])
    assert bool(seen[0, 0, rows[0][0], rows[3][-1]]) == mixes


@pytest.mark.parametrize(('name', 'fewer'), [('video_llama_3', False), ('video_llama_3_compressed', True)])
def test_still_scenes_give_fewer_rows_where_tokens_are_dropped(name: str, fewer: bool, tmp_path: Path) -> None:
    model, processor = load(write_family(tmp_path, name))
    moving = look(model, processor, clip(), QUESTION)['inputs_embeds'].shape[1]
    still = look(model, processor, [clip(1)[0]] * 4, QUESTION)['inputs_embeds'].shape[1]
    assert (still < moving) == fewer


@pytest.mark.parametrize('name', ['smolvlm', 'idefics3'])
def test_black_frames_are_lost_where_pixels_are_not_normalised(name: str, tmp_path: Path) -> None:
    needs('5.23', 'dropping black frames')
    config = write_family(tmp_path, name) / 'processor_config.json'
    black = np.zeros((40, 56, 3), np.uint8)
    assert oracle(tmp_path, [*clip(3), black], QUESTION, 4)
    config.write_text(config.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    assert oracle(tmp_path, clip(), QUESTION, 4)
    with pytest.raises(ValueError, match='features and image tokens do not match, tokens: 16, features: 12'):
        oracle(tmp_path, [*clip(3), black], QUESTION, 4)


# -- helpers
def test_table_has_a_line_a_family() -> None:
    lines = table({name: FAMILIES[name] for name in ('video_llava', 'qwen3_5')}).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith('| video_llava | VideoLlavaForConditionalGeneration | 1 | 5 | ')
    assert lines[3].startswith('| qwen3_5 (refused) | ')
