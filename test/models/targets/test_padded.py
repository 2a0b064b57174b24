"""Passes filled up to a size say what `generate` says, read once, and step aside where they cannot serve."""
from __future__ import annotations

import logging
from functools import wraps

import pytest
import torch
from torch.overrides import TorchFunctionMode

import tiny_models
from crossspec_ros.bench.decode_counts import Counter
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import graphs, load, load_target, padded as room
from crossspec_ros.models.targets.decoding import NO_TREE, sight, tree_mask
from crossspec_ros.models.targets.padded import SIZES
from crossspec_ros.speculation.ranking import ranked
from crossspec_ros.speculation.tree import TokenTree
from families import write_family
from target_driving import Tape, answer, bushy, frames_of, grown, padded, prompt_rows

QUESTION, COUNT = 'What is it?', 10
LARGEST = SIZES[-1]


@pytest.fixture(scope='module')
def filled(target):
    """The same model in padded passes, recorded on a tape."""
    return padded(target)


def near(size: int) -> list[int]:
    """Numbers of new tokens that are filled up to a size: the fewest and the most."""
    smaller = max((one for one in SIZES if one < size), default=0)
    return sorted({smaller + 1, size})


@pytest.mark.parametrize('count, nodes, cached', [
    pytest.param(1, 0, 5, id='one token'), pytest.param(7, 0, 0, id='a prompt'), pytest.param(9, 8, 3, id='a tree'),
    pytest.param(70, 40, 11, id='a prompt and a tree'), pytest.param(64, 63, 2, id='a deep tree')])
def test_sight_on_the_device_is_that_of_the_host(count, nodes, cached):
    tree = grown(range(6, 6 + nodes // 2), nodes, 3, 200)
    chunk = count - nodes
    parents = [*range(-1, chunk - 1), *(chunk + parent if parent >= 0 else chunk - 1 for parent in tree.parents)]
    mask, index, columns = sight(torch.tensor(cached), torch.tensor(parents), cached + count + 4)
    expected, places = tree_mask(cached, count, tree, cached + count + 4)
    assert torch.equal(mask, expected) and torch.equal(index, places)
    assert columns.tolist() == list(range(cached, cached + count))


@pytest.mark.parametrize('size', SIZES)
def test_answers_of_every_size_are_those_of_generate(target, filled, size):
    before = dict(filled.forwards)
    for seed, tokens in enumerate(near(size)):
        frames = frames_of(seed)
        expected = list(target.generate(frames, QUESTION, COUNT))
        said, _ = answer(filled, frames, QUESTION, COUNT,
                         lambda committed: grown(expected[len(committed):], tokens - 1, seed, 280), room=LARGEST)
        assert said == expected
    assert filled.forwards['filled'] > before.get('filled', 0)
    assert filled.forwards['replayed'] == filled.forwards['filled'] and not filled.forwards['free_room']


def test_passes_are_replayed_from_one_step_a_size_and_cache(target):
    tape = Tape()
    filled = padded(target, tape)
    layout = target.layout(QUESTION, 2, 30, 40)
    caches = [filled.new_cache(layout, layout.length + 320) for _ in range(2)]
    assert tape.recorded == 2 * len(SIZES)
    for cache in caches:
        filled.release(cache)
    for _ in range(3):
        answer(filled, frames_of(1, 2), QUESTION, COUNT, lambda committed: NO_TREE, room=310)
    assert tape.recorded == 2 * len(SIZES) and tape.replayed == filled.forwards['filled'] > 3
    longer = filled.new_cache(layout, layout.length + 800)
    assert tape.recorded == 3 * len(SIZES) and longer.capacity > 800


@pytest.mark.parametrize('name', ['qwen3_vl', 'gemma3', 'molmo2',
                                  *(pytest.param(name, marks=pytest.mark.long) for name in (
                                      'gemma4', 'smolvlm', 'internvl', 'qwen2_vl', 'mistral3', 'glm4v', 'idefics3'))])
def test_families_of_other_masks_positions_and_features(tmp_path, name):
    target = load_target(write_family(tmp_path / name, name, seed=1))
    filled, frames = padded(target), frames_of(5, 4, 60, 80)
    expected = list(target.generate(frames, QUESTION, COUNT))
    for draft in (lambda committed: NO_TREE,
                  lambda committed: bushy(expected[len(committed):len(committed) + 3], 5, 250)):
        assert answer(filled, frames, QUESTION, COUNT, draft)[0] == expected
    assert filled.forwards['filled'] >= COUNT - 1 and not filled.forwards['not_captured']
    assert (filled.forwards['free_pictures'] > 0) == (not target.adapter.rows.plain)


def test_forwards_with_features_go_free_and_that_is_said_once(tmp_path, caplog):
    target = load_target(write_family(tmp_path / 'qwen3_vl', 'qwen3_vl', seed=1))
    filled = padded(target)
    with caplog.at_level(logging.WARNING, room.__name__):
        for seed in range(2):
            answer(filled, frames_of(seed, 4, 60, 80), QUESTION, 3, lambda committed: NO_TREE)
    assert filled.forwards['free_pictures'] == 2
    assert [record.message for record in caplog.records if 'rows of pictures' in record.message] == [
        room._WHY['free_pictures']]


def test_a_long_forward_goes_free_and_says_the_same(target, filled):
    frames = frames_of(7)
    expected, before = list(target.generate(frames, QUESTION, COUNT)), filled.forwards['free_long']
    said, passes = answer(filled, frames, QUESTION, COUNT,
                          lambda committed: grown(expected[len(committed):], LARGEST, 7, 290), room=LARGEST + 10)
    assert said == expected and filled.forwards['free_long'] == before + passes


class Reads(TorchFunctionMode):
    """Fails where a tensor becomes numbers of the host."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, '__name__', '')
        assert name not in ('item', 'tolist', 'cpu', 'numpy', '__bool__', '__int__', '__float__', '__index__',
                            'nonzero'), f'{name} waits for the device'
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('name', ['video_llava', 'qwen3_vl', 'gemma3'])
def test_nothing_in_a_step_waits_for_the_device(tmp_path, name):
    def recorder(step):
        def run():
            with Reads():
                return step()
        return run

    target = load_target(write_family(tmp_path / name, name, seed=1))
    filled, frames = padded(target, recorder), frames_of(3, 4, 60, 80)
    assert answer(filled, frames, QUESTION, 4, lambda committed: NO_TREE)[0] == list(
        target.generate(frames, QUESTION, 4))


def test_verify_reads_once_and_ranks_as_the_host_does(target, filled):
    tree, counter = grown([30, 31, 32], 9, 1, 250), Counter()
    layout, judged = target.layout(QUESTION, 1, 30, 40), []
    for one in (target, filled):
        cache = one.new_cache(layout, layout.length + 40)
        one.extend(cache, torch.cat(prompt_rows(one, layout, frames_of(0, 1))))
        rows, before = one.embed((29, *tree.token_ids)), counter.counts.reads
        with counter.watching():
            judged.append(one.verify(cache, rows, tree, (29,)))
        reads = counter.counts.reads - before
        one.release(cache)
    free, mine = judged
    assert reads == 1
    torch.testing.assert_close(mine.logits, free.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mine.states, free.states, atol=1e-4, rtol=1e-4)
    values, ids = ranked(mine.logits, 4)
    assert (mine.best.ids == ids).all() and (mine.best.values == values).all()
    assert (mine.rows(slice(2, 5)).best.ids == ids[2:5]).all() and free.best is None


def test_tapped_layers_say_the_same_states(folder):
    states = []
    for target in (load_target(folder, lean=False), padded(load_target(folder))):
        layout = target.layout(QUESTION, 1, 30, 40)
        cache = target.new_cache(layout, layout.length + 20)
        target.tap((0, 1))                            # after the steps were recorded: those no longer do
        again = target.new_cache(layout, layout.length + 20)
        for one in (cache, again):
            target.extend(one, torch.cat(prompt_rows(target, layout, frames_of(0, 1))))
            judged = target.verify(one, target.embed([29, 30, 31]), TokenTree.chain([30, 31]), (29,))
            assert set(judged.layers) == {0, 1} and judged.layers[0].shape == judged.states.shape
            states.append([judged.layers[layer].clone() for layer in (0, 1)])
    for other in states[1:]:
        torch.testing.assert_close(states[0], other, atol=1e-4, rtol=1e-4)


def test_settings_of_generation_are_obeyed(tmp_path):
    folder = tiny_models.write_checkpoint(tmp_path / 'model', 'llava_onevision', seed=3)
    model = load_target(folder).model
    model.generation_config.repetition_penalty = 3.0
    model.generation_config.no_repeat_ngram_size = 2
    model.generation_config.save_pretrained(folder)
    target = load_target(folder)
    filled = padded(target)
    assert filled.scorer is not None
    for seed in range(3):
        frames = frames_of(seed)
        expected = list(target.generate(frames, QUESTION, COUNT))
        for draft in (lambda committed: NO_TREE, lambda committed: grown(expected[len(committed):], 12, seed, 280)):
            assert answer(filled, frames, QUESTION, COUNT, draft)[0] == expected


def test_numbers_that_are_none_are_refused_and_leave_nothing_behind(folder):
    filled = padded(load_target(folder))
    layout, frames = filled.layout(QUESTION, 1, 30, 40), frames_of(0, 1)
    expected = list(filled.generate(frames, QUESTION, 4))
    cache = filled.new_cache(layout, layout.length + 20)
    filled.extend(cache, torch.cat(prompt_rows(filled, layout, frames)))
    rows, base = filled.embed([29, 30]).clone(), cache.length
    rows[1] = float('nan')
    with pytest.raises(CrossSpecError, match='finite'):
        filled.verify(cache, rows, TokenTree.chain([30]), (29,))
    assert cache.length == base
    filled.release(cache)
    assert answer(filled, frames, QUESTION, 4, lambda committed: NO_TREE, room=8)[0] == expected


def test_what_cannot_be_captured_is_run_said_once_and_counted(target, caplog):
    def refuses(step):
        raise RuntimeError('operation not permitted\nwhen stream is capturing')

    filled, frames = padded(target, refuses), frames_of(2)
    with caplog.at_level(logging.WARNING, room.__name__):
        said = answer(filled, frames, QUESTION, COUNT, lambda committed: NO_TREE)[0]
    assert said == list(target.generate(frames, QUESTION, COUNT))
    assert filled.forwards['not_captured'] == len(SIZES) and not filled.forwards['replayed']
    told = [record.message for record in caplog.records]
    assert len(told) == 1 and told[0].endswith('operation not permitted when stream is capturing')


def test_captures_without_room_are_not_begun(target, monkeypatch, caplog):
    tape = Tape()
    filled, frames = padded(target, tape), frames_of(2)
    steps = filled._padded._needed(SIZES[0], 64)
    monkeypatch.setattr(filled._padded, '_ask', lambda cache: None)
    monkeypatch.setattr(room, 'free_bytes', lambda device: steps // 2)
    with caplog.at_level(logging.WARNING, room.__name__):
        said = answer(filled, frames, QUESTION, 4, lambda committed: NO_TREE)[0]
    assert said == list(target.generate(frames, QUESTION, 4))
    assert tape.recorded == 0 and filled.forwards['not_captured'] == len(SIZES)
    assert 'a captured step of 1 tokens need' in caplog.text


def test_keys_and_values_without_room_are_refused_by_name(target, monkeypatch):
    filled = padded(target)
    monkeypatch.setattr(room, 'free_bytes', lambda device: 1000)
    with pytest.raises(CrossSpecError, match='keys and values of \\d+ tokens need .* MB on the device, 0 MB are free'):
        filled.new_cache(target.layout(QUESTION, 1, 30, 40), 0)


def test_room_is_asked_only_where_it_is_known():
    graphs.check_room(None, 1 << 60, 'all')
    graphs.check_room(5, 5, 'five')
    assert graphs.free_bytes(torch.device('cpu')) is None
    assert graphs.recorder_for(torch.device('cpu')) is graphs.again


def test_a_model_that_padded_passes_do_not_fit_is_served_without(folder, monkeypatch, caplog):
    fits = load_target(folder, cache='padded')
    assert fits.sizes == SIZES and 'padded_refused' not in fits.forwards
    forward = fits.model.get_decoder().forward.__func__

    @wraps(forward)
    def counts_itself(self, *args, **handed):          # a decoder that does not take the positions it is handed
        handed['position_ids'] = handed['position_ids'] * 0 + handed['inputs_embeds'].shape[1]
        return forward(self, *args, **handed)

    monkeypatch.setattr(type(fits.model.get_decoder()), 'forward', counts_itself)
    monkeypatch.setattr(load, 'fault', lambda adapter: None)
    with caplog.at_level(logging.WARNING, load.__name__):
        refused = load_target(folder, cache='padded')
    assert refused.sizes == () and refused.forwards == {'padded_refused': 1}
    assert 'without: its logits are off' in caplog.text
    assert load_target(folder).sizes == () and load_target(folder).forwards == {}
