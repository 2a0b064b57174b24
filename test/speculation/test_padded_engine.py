"""The engine over a target whose passes are filled up to a size: the same captions, ranked and read by the target."""
from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny_models
from crossspec_ros.bench.decode_counts import Counter
from crossspec_ros.models.targets import load_target
from crossspec_ros.models.targets.padded import SIZES
from crossspec_ros.speculation.budget import CostCurve, best_size
from crossspec_ros.speculation.ranking import packed, ranked, unpacked
from crossspec_ros.speculation.types import Stage
from engine_harness import (FRAMES, KINDS, QUESTION, TOKENS, caption_of, clip_of, draft_of, feed, make_engine,
                            without_clock)
from target_driving import padded

WIDE = dict(hidden=256, layers=2, heads=8, kv_heads=8, spread=0.12)


@pytest.fixture(scope='module')
def filled(target):
    return padded(target)


def hostile(tokens) -> list[int]:
    return [token if place % 3 else (token + 11) % 200 + 20 for place, token in enumerate(tokens)]


@pytest.mark.parametrize('settings', [
    pytest.param({}, id='all'), pytest.param(dict(anticipatory=False), id='not anticipatory'),
    pytest.param(dict(fused=False), id='not fused'),
    pytest.param(dict(first_nodes=300, max_nodes=127), id='large trees'),
    pytest.param(dict(exactness='certified', block=6), id='certified')])
def test_captions_are_those_of_generate(filled, scenes, settings):
    engine, before = without_clock(make_engine(filled, **settings)), filled.forwards['filled']
    for window, (clip, expected) in enumerate(scenes + scenes):
        engine.offer(draft_of(filled, window, hostile(expected) if window % 2 else expected))
        caption = caption_of(engine, window, clip, rehearse=window % 3 == 0)
        assert caption.token_ids == expected == engine.audit(clip, QUESTION, window) and caption.lossless
    assert engine.counters.tokens > 1.5 * engine.counters.target_passes
    assert filled.forwards['filled'] > before and not filled.forwards['not_captured']
    assert engine.statistics()['forwards']['filled'] == filled.forwards['filled']


def test_windows_that_are_open_together_keep_their_own_keys_and_values(filled, scenes):
    engine = make_engine(filled)
    sessions = [feed(engine, window, clip) for window, (clip, _) in enumerate(scenes[:3])]
    answers = [session.answer() for session in sessions]
    last = {}
    while len(last) < 3 or any(caption.stage is not Stage.FINAL for caption in last.values()):
        for window, outputs in enumerate(answers):         # a Verdict or a Caption of each in turn
            output = next(outputs, None)
            if hasattr(output, 'stage'):
                last[window] = output
    assert [last[window].token_ids for window in range(3)] == [expected for _, expected in scenes[:3]]


def test_seeded_samples_are_the_same_either_way(target, filled, scenes):
    settings = dict(acceptance='gumbel', temperature=2.0, seed=4)
    free, mine = make_engine(target, **settings), make_engine(filled, **settings)
    for window, (clip, _) in enumerate(scenes):
        assert caption_of(mine, window, clip).token_ids == caption_of(free, window, clip).token_ids


def test_near_ties_and_sources_see_the_same_ranking(target, filled, scenes):
    engines = [make_engine(one, near_tie=1.0) for one in (target, filled)]
    for engine in engines:
        for window, (clip, _) in enumerate(scenes):
            caption_of(engine, window, clip)
    (gap, ties), other = ((engine.counters.smallest_gap, engine.counters.near_ties) for engine in engines)
    assert gap == pytest.approx(other[0], abs=1e-3) and ties == other[1] > 0
    assert engines[1].sizes()['recycling_rows'] > 5


def test_the_host_reads_once_a_pass(filled, scenes):
    engine, counter = make_engine(filled), Counter()
    for window, (clip, expected) in enumerate(scenes + scenes):
        engine.offer(draft_of(filled, window, hostile(expected)))
        session, passes = feed(engine, window, clip), engine.counters.target_passes
        reads = counter.counts.reads
        with counter.watching():
            *_, final = session.answer()
        session.close()
        assert counter.counts.reads - reads == engine.counters.target_passes - passes and final.stage is Stage.FINAL


@pytest.mark.parametrize('kind, block', zip(KINDS, (31, 5)))
def test_certified_captions_in_bfloat16_do_not_depend_on_drafts(tmp_path, kind, block):
    half = padded(load_target(tiny_models.write_checkpoint(tmp_path / kind, kind, **WIDE), dtype='bfloat16'))
    clips = [clip_of(np.random.default_rng(seed)) for seed in (21, 22)]
    settings = dict(exactness='certified', block=block, max_new_tokens=block + 4)
    plain, engine = make_engine(half, speculate=False, **settings), make_engine(half, **settings)
    for window in range(3):
        clip = clips[window % 2]
        tokens = caption_of(plain, window, clip).token_ids
        engine.offer(draft_of(half, window, hostile(tokens) if window % 2 else tokens))
        caption = caption_of(engine, window, clip, rehearse=window > 1, order=(2, 0, 1))
        assert caption.token_ids == tokens == engine.audit(clip, QUESTION, window) and tokens
        assert caption.lossless and caption.exact
    assert engine.counters.tokens > engine.counters.target_passes
    assert half.dtype == torch.bfloat16 and half.forwards['filled'] > 10


def test_costs_are_measured_at_the_sizes_and_trees_fill_them(filled):
    engine = make_engine(filled, first_nodes=64, max_nodes=64)
    costs = engine.warm_up(QUESTION, 30, 40)
    limit = filled.layout(QUESTION, FRAMES, 30, 40).last_tokens + 64
    assert set(costs) == {size for size in SIZES if size <= limit} and TOKENS < limit
    cost = engine.proposer.cost
    cost.observe(5, 1e-6)
    assert cost(2) == cost(5) == cost(8) and cost(9) == cost(16)


@pytest.mark.parametrize('pace', [None, 0.05])
def test_a_tree_grows_to_the_size_that_its_forward_has_anyway(pace):
    curve = CostCurve({1: 10.0, 8: 10.5, 16: 30.0}, sizes=(1, 8, 16))
    survivals = [0.9, 0.3, 0.1, 0.05, 0.05, 0.01, 0.01, 0.01, 0.01]
    assert best_size(survivals, curve, pace) == 7                       # with the last token: 8
    assert best_size(survivals, CostCurve({1: 10.0, 8: 45.0, 16: 85.0}), pace) < 3
    assert curve.along(1, 9).tolist() == [10.0] + [10.5] * 7 + [30.0]
    assert curve(40) > curve(16) == curve(9)


def test_packed_ranking_puts_the_lowest_of_equal_logits_first():
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0, 2.0], [0.5, 0.5, 0.5, 0.5, -float('inf')]], dtype=torch.bfloat16)
    best, finite = unpacked(packed(logits, torch.tensor([True, True])).numpy())
    assert best.ids.tolist() == [[1, 2, 3, 4], [0, 1, 2, 3]] and finite
    assert best.values.tolist() == [[3.0, 3.0, 2.0, 2.0], [0.5] * 4]
    values, ids = ranked(logits.float(), 4)
    assert (best.ids == ids).all() and (best.values == values).all() and logits[0, 1] == 3.0
    assert not unpacked(packed(logits, torch.tensor([True, False])).numpy())[1]
    few, _ = unpacked(packed(logits[:, :2], torch.tensor([True, True])).numpy())
    assert few.ids.tolist() == [[1, 0], [0, 1]]
