"""What the engine keeps from window to window: made ready before it is needed, counted, and bounded."""
from __future__ import annotations

import numpy as np

from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.inbox import Admission
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources import SOURCE_NAMES, SourceSettings
from engine_harness import FRAMES, QUESTION, caption_of, clip_of, draft_of, make_engine, without_clock


def test_prepare_takes_growing_out_of_the_answer(target, scenes):
    engine = without_clock(make_engine(target, rehearse_missing=0))
    said = [caption_of(engine, window, clip) for window, (clip, _) in enumerate(scenes)]
    clip, tokens = scenes[0]
    session = engine.open(9, 9, QUESTION)
    session.add_frame(0, 1, clip[0])
    assert not session.prepare(), 'frames before the newest are missing'
    session.add_frame(1, 2, clip[1])
    session.rehearse()                                          # nothing to rehearse here, but time to prepare
    assert session.prepare() and not session.prepare()
    tree = engine.proposer._prepared.tree
    session.add_frame(2, 3, clip[2])
    assert not session.prepare()
    checked, verify = [], target.verify
    try:
        target.verify = lambda cache, rows, tree, committed: (checked.append(tree),
                                                              verify(cache, rows, tree, committed))[1]
        *_, final = session.answer()
    finally:
        del target.verify
    assert checked[0] == tree and len(tree) > 0 and final.token_ids == tokens
    assert said[0].token_ids == tokens


def test_sizes_stay_bounded_however_long_the_drive(target):
    held_by_sources = SourceSettings(memory_captions=4, max_prompts=2)
    engine = CaptionEngine(target, EngineConfig(window_frames=FRAMES, max_new_tokens=8),
                           Proposer(ProposerConfig(SOURCE_NAMES, held_by_sources), Admission.of(target)))
    generator, held = np.random.default_rng(4), []
    for window in range(72):
        clip = clip_of(generator)
        question = f'What is {window // 12 % 3}?'
        for ahead in range(3):                                  # of this window, and of some that are still to come
            engine.offer(draft_of(target, window + ahead, (8, 9, 10), revision=window))
        caption_of(engine, window, clip, question=question, rehearse=True)
        held.append(engine.sizes())
    assert held[-1]['memory_captions'] == 8 and held[-1]['memory_prompts'] == held[-1]['previous_captions'] == 2
    assert held[-1]['features'] == 2 * FRAMES and held[-1]['windows'] == 0 and held[-1]['uncounted_passes'] == 0
    assert held[-1]['drafted_windows'] == 64 and held[-1]['waiting_drafts'] <= 3
    assert held[-1]['recycling_rows'] <= target.vocab_size + 1    # a row a token, and one for the begin of a caption
    for name in held[0].keys() - {'drafted_windows', 'recycling_rows'}:
        early, late = (max(each[name] for each in part) for part in (held[24:48], held[48:]))
        assert late <= 1.25 * early + 8, name


def test_statistics_stay_bounded_over_many_windows(target, scenes):
    engine = make_engine(target, max_new_tokens=3)
    for window in range(60):
        caption_of(engine, window, scenes[window % 4][0])
    assert engine.sizes()['features'] <= 2 * FRAMES and not engine.sizes()['windows']
    assert len(target._pool) <= 4


def test_statistics_say_what_each_source_saved(target, scenes):
    engine = make_engine(target)
    assert set(engine.statistics()['saved_ms'].values()) == {None}
    engine.warm_up(QUESTION, 30, 40)
    for window in range(3):
        caption_of(engine, window, scenes[0][0])
    statistics = engine.statistics()
    assert statistics['saved_ms']['memory'] > 0 and statistics['proposer']['hidden_tokens_accepted'] > 0
    assert statistics['windows_answered'] == 3 and statistics['tokens'] >= statistics['target_passes']
