"""Certified decoding: in 16 bits, drafts or none, the same tokens; plain decoding there says that it is not certain."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import tiny_models
from crossspec_ros.bench.decode import make_windows
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.builtin import builtin_path
from crossspec_ros.models.targets import load_target
from crossspec_ros.world import DESCRIBE, EVALUATION_SEED
from crossspec_ros.speculation.types import Stage, prompt_key
from engine_harness import FRAMES, KINDS, QUESTION, TOKENS, caption_of, clip_of, draft_of, feed, make_engine

ORDERS = tuple(itertools.permutations(range(FRAMES)))


WIDE = dict(hidden=256, layers=4, heads=8, kv_heads=8, spread=0.12)
"""Shapes of a decoder wide enough that the order of its sums follows the number of rows of a forward."""


@pytest.fixture(scope='module', params=KINDS)
def half(request, tmp_path_factory):
    folder = tiny_models.write_checkpoint(tmp_path_factory.mktemp('wide'), request.param, **WIDE)
    return load_target(folder, dtype='bfloat16')


@pytest.fixture(scope='module')
def clips():
    generator = np.random.default_rng(21)
    return [clip_of(generator) for _ in range(3)]


def plain_captions(target, clips, **settings) -> list[tuple[int, ...]]:
    """What a certified engine says that never drafts."""
    engine = make_engine(target, exactness='certified', speculate=False, **settings)
    captions = [caption_of(engine, window, clip) for window, clip in enumerate(clips)]
    assert not any(caption.drafted for caption in captions) and all(caption.token_ids for caption in captions)
    return [caption.token_ids for caption in captions]


def hostile(tokens) -> list[int]:
    """Wrong words, with some that are right in between, so that some are accepted and most are not."""
    return [token if place % 3 else (token + 11) % 200 + 20 for place, token in enumerate(tokens)]


@pytest.mark.parametrize('block', [3, 32])
@pytest.mark.parametrize('rehearse', [False, True], ids=['straight', 'rehearsed'])
@pytest.mark.parametrize('kind', ['good', 'hostile', 'none'])
def test_certified_captions_in_bfloat16_do_not_depend_on_drafts(half, clips, kind, rehearse, block):
    assert half.dtype == torch.bfloat16
    settings = dict(block=block, max_new_tokens=max(TOKENS, block + 8))         # into a second block at least
    expected = plain_captions(half, clips, **settings)
    engine = make_engine(half, exactness='certified', **settings)
    for window in range(len(clips) + 2):                         # the second time memory knows the caption as well
        clip, tokens = clips[window % len(clips)], expected[window % len(clips)]
        if kind != 'none':
            words = tokens if kind == 'good' else hostile(tokens)
            assert engine.offer(draft_of(half, window, words)) is None
        caption = caption_of(engine, window, clip, order=ORDERS[window % len(ORDERS)], rehearse=rehearse)
        assert caption.token_ids == tokens == engine.audit(clip, QUESTION, window)
        assert caption.lossless and caption.exact
        if kind == 'good':
            assert caption.accepted > 0 and caption.target_passes < len(tokens)
    assert engine.judgeable


def shapes_of(engine, clips, drafts, monkeypatch) -> list[set[tuple]]:
    """Of each window's forwards: whether logits were asked for, where they start, their rows and who sees whom."""
    target, seen = engine.target, []
    extend, verify = target.extend, target.verify
    monkeypatch.setattr(target, 'extend', lambda cache, rows: (
        seen[-1].add(('extend', cache.length, len(rows), ())), extend(cache, rows))[1])
    monkeypatch.setattr(target, 'verify', lambda cache, rows, tree, committed: (
        seen[-1].add(('verify', cache.length, len(rows), tree.parents)), verify(cache, rows, tree, committed))[1])
    for window, (clip, words) in enumerate(zip(clips, drafts)):
        seen.append(set())
        if words:
            assert engine.offer(draft_of(target, window, words)) is None
        caption_of(engine, window, clip, order=ORDERS[-1 if words else 0])
    monkeypatch.undo()
    return seen


@pytest.mark.parametrize('anticipatory', [True, False], ids=['as they come', 'at once'])
def test_certified_forwards_have_shapes_that_no_draft_changes(half, clips, anticipatory, monkeypatch):
    expected = plain_captions(half, clips, block=6)
    plain = make_engine(half, exactness='certified', block=6, speculate=False)
    without = shapes_of(plain, clips, [()] * len(clips), monkeypatch)
    drafted = make_engine(half, exactness='certified', block=6, anticipatory=anticipatory)
    for words in (expected, [hostile(tokens) for tokens in expected]):
        assert shapes_of(drafted, clips, words, monkeypatch) == without
        drafted.reset()
    length = half.layout(QUESTION, FRAMES, 30, 40).length
    blocks = [shape for shape in without[0] if shape[1] >= length]
    assert len(blocks) > 1 and all(shape[0] == 'verify' and shape[2:] == (6, (-1, 0, 1, 2, 3)) for shape in blocks)


@pytest.mark.parametrize('settings', [
    pytest.param(dict(anticipatory=False), id='not anticipatory'), pytest.param(dict(frame_cache=False), id='no cache'),
    pytest.param(dict(fused=False), id='not fused'), pytest.param(dict(max_new_tokens=1), id='one token'),
    pytest.param(dict(max_new_tokens=7), id='cut within a block'),
    pytest.param(dict(acceptance='gumbel', temperature=2.0, seed=4), id='gumbel')])
def test_certified_captions_under_every_setting_do_not_depend_on_drafts(half, clips, settings):
    engine = make_engine(half, exactness='certified', **settings)
    plain = make_engine(half, exactness='certified', speculate=False, **settings)
    for window, clip in enumerate(clips + clips):
        tokens = caption_of(plain, window, clip).token_ids
        engine.offer(draft_of(half, window, hostile(tokens)))
        caption = caption_of(engine, window, clip, rehearse=window % 2 == 0)
        assert caption.token_ids == tokens == engine.audit(clip, QUESTION, window) and caption.lossless


def test_certified_answer_stopped_between_passes_goes_on_the_same(half, clips):
    expected = plain_captions(half, clips)
    engine = make_engine(half, exactness='certified')
    for window, (clip, tokens) in enumerate(zip(clips, expected)):
        engine.offer(draft_of(half, window, hostile(tokens)))
        session, asked, final = feed(engine, window, clip), itertools.count(), None
        while final is None or final.stage is not Stage.FINAL:
            *_, final = session.answer(should_stop=lambda: next(asked) % 2 == 1)
        assert final.token_ids == tokens
        session.close()


def test_certified_in_float32_equals_generate(target, scenes):
    engine = make_engine(target, exactness='certified')
    for window, (clip, expected) in enumerate(scenes + scenes):
        engine.offer(draft_of(target, window, hostile(expected)))
        assert caption_of(engine, window, clip, rehearse=True).token_ids == expected


def test_plain_decoding_in_bfloat16_says_that_it_is_not_certain(half, clips):
    engine = make_engine(half, near_tie=1.0)
    captions = [caption_of(engine, window, clip, rehearse=True) for window, clip in enumerate(clips + clips)]
    assert not any(caption.exact or caption.lossless for caption in captions) and not engine.judgeable
    assert sum(caption.near_ties for caption in captions) == engine.counters.near_ties > 0


def test_plain_decoding_in_float32_says_that_it_is_exact(target, scenes):
    caption = caption_of(make_engine(target), 1, scenes[0][0])
    assert caption.exact and caption.lossless


SOME = [pytest.param(0, marks=pytest.mark.long)]                  # the others take a quarter of an hour


def differences(target, windows, question=QUESTION, **settings) -> tuple[int, int, int]:
    """Of windows (frames, draft): how many captions differ from an audit or from plain decoding; tokens; passes."""
    engine = make_engine(target, exactness='certified', **settings)
    plain = make_engine(target, exactness='certified', speculate=False, **settings)
    different = 0
    for window, (clip, words) in enumerate(windows):
        tokens = caption_of(plain, window, clip, question=question).token_ids
        draft = hostile(tokens) if words is None else words
        engine.offer(draft_of(target, window, tokens if window % 4 == 0 else draft, prompt_key=prompt_key(question)))
        order = np.random.default_rng(window).permutation(len(clip)).tolist()
        caption = caption_of(engine, window, clip, question=question, order=order, rehearse=window % 3 == 0)
        different += not caption.token_ids == tokens == engine.audit(clip, question, window)
        assert caption.lossless
    return different, engine.counters.tokens, engine.counters.target_passes


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('seed', SOME + [pytest.param(seed, marks=pytest.mark.longest) for seed in (1, 2, 3)])
def test_four_hundred_certified_captions_of_tiny_checkpoints_are_the_same(tmp_path, kind, seed):
    target = load_target(tiny_models.write_checkpoint(tmp_path / kind, kind, seed=seed, **WIDE), dtype='bfloat16')
    generator = np.random.default_rng(seed)
    windows = [(clip_of(generator), None) for _ in range(50)]       # two kinds, four seeds: 400 clips
    different, tokens, passes = differences(target, windows, block=(4, 8, 16, 32)[seed], max_new_tokens=40)
    assert different == 0 and tokens > 1.2 * passes


@pytest.mark.parametrize('part', SOME + [pytest.param(part, marks=pytest.mark.longest) for part in range(1, 10)])
def test_hundred_certified_captions_of_the_builtin_pair_are_the_same(part):
    from crossspec_ros.models.drafter import load_drafter
    try:
        builtin_path('verifier')
    except CrossSpecError as error:
        pytest.skip(str(error))
    target, drafter = load_target('builtin', dtype='bfloat16'), load_drafter('builtin')
    made = make_windows(10, EVALUATION_SEED + 700 + part, 0, DESCRIBE, drafter)     # ten parts: 100 clips
    windows = [(window.frames, window.early.token_ids) for window in made]
    different, tokens, passes = differences(target, windows, DESCRIBE, window_frames=8, max_new_tokens=96)
    assert different == 0 and tokens > 1.5 * passes
