"""The engine's captions are token for token those of transformers' own generate, whatever drafts come, and when."""
from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.sources import SOURCE_NAMES
from crossspec_ros.speculation.types import Mode, Stage, Verdict, prefix_hash, prompt_key
from engine_harness import (FRAMES, QUESTION, TOKENS, caption_of, clip_of, draft_of, feed, make_engine, strip,
                            without_clock)


@pytest.mark.parametrize('sources', [pytest.param((name,), id=name) for name in SOURCE_NAMES]
                         + [pytest.param((), id='none'), pytest.param(SOURCE_NAMES, id='all')])
def test_answer_every_source_equals_generate(target, scenes, sources):
    engine = make_engine(target, sources)
    for window, (clip, expected) in enumerate(scenes + scenes):
        engine.offer(draft_of(target, window, [*expected[:6], 99, *expected[7:]]))
        assert caption_of(engine, window, clip, rehearse=True).token_ids == expected


@pytest.mark.parametrize('budget', [1, 2, 5, 16, 64, 128])
def test_answer_every_budget_equals_generate(target, scenes, budget):
    engine = make_engine(target, max_nodes=budget, first_nodes=budget)
    for window, (clip, expected) in enumerate(scenes + scenes):
        assert caption_of(engine, window, clip).token_ids == expected


@pytest.mark.parametrize('anticipatory, fused, frame_cache', itertools.product([True, False], repeat=3))
def test_answer_every_prefill_equals_generate(target, scenes, anticipatory, fused, frame_cache):
    engine = make_engine(target, anticipatory=anticipatory, fused=fused, frame_cache=frame_cache)
    for window, (clip, expected) in enumerate(scenes[:2] * 2):
        assert caption_of(engine, window, clip).token_ids == expected


@pytest.mark.parametrize('order', [pytest.param(order, id=''.join(map(str, order)))
                                   for order in itertools.permutations(range(FRAMES))])
def test_answer_frames_in_any_order_equals_generate(target, scenes, order):
    clip, expected = scenes[0]
    assert caption_of(make_engine(target), 1, clip, order=order).token_ids == expected


@pytest.mark.parametrize('settings', [dict(fused=False), dict(max_new_tokens=1), dict(max_nodes=0, first_nodes=0)],
                         ids=['not fused', 'one token', 'no nodes'])
def test_answer_tells_sources_of_each_pass_what_they_were_asked(target, scenes, settings):
    engine = make_engine(target, **settings)
    calls = []
    propose, observe = engine.proposer.propose, engine.proposer.observe
    engine.proposer.propose = lambda committed, *args, **options: (
        calls.append(('propose', len(committed))), propose(committed, *args, **options))[1]
    engine.proposer.observe = lambda *args: (calls.append(('observe',)), observe(*args))[1]
    for window, (clip, expected) in enumerate(scenes):
        assert caption_of(engine, window, clip).token_ids == expected[:engine.config.max_new_tokens]
    assert [call[0] for call in calls] == ['propose', 'observe'] * (len(calls) // 2)


def test_answer_static_cache_equals_generate(target, scenes, monkeypatch):
    monkeypatch.setattr(target, 'cache_kind', 'static')
    monkeypatch.setattr(target, '_pool', [])
    engine = make_engine(target)
    for window, (clip, expected) in enumerate(scenes + scenes):
        assert caption_of(engine, window, clip, rehearse=window % 2 == 0).token_ids == expected


def test_answer_sliding_windows_share_features_and_equal_generate(target):
    stream = clip_of(np.random.default_rng(8), 7)
    engine, sessions = make_engine(target), {}
    for index, frame in enumerate(stream):
        for window in range(max(index, FRAMES - 1), min(index + FRAMES, len(stream))):      # window: its newest frame
            slot = index - window + FRAMES - 1
            if slot == 0:
                sessions[window] = engine.open(window, window * 10**9, QUESTION)
            sessions[window].add_frame(slot, index, frame)
        if index >= FRAMES - 1:
            *_, final = sessions[index].answer()
            sessions[index].close()
            clip = stream[index - FRAMES + 1:index + 1]
            assert final.token_ids == strip(target, target.generate(clip, QUESTION, TOKENS))
    assert engine.statistics()['frames_encoded'] == len(stream)


HOSTILE = {
    'all wrong': lambda tokens: dict(token_ids=tuple((token + 1) % 290 or 7 for token in tokens)),
    'end token in the middle': lambda tokens: dict(token_ids=(*tokens[:4], 1, *tokens[4:])),
    'placeholder': lambda tokens: dict(token_ids=(*tokens[:4], 5, *tokens[4:])),
    'out of vocabulary': lambda tokens: dict(token_ids=(*tokens[:4], 10**6, *tokens[4:])),
    'negative': lambda tokens: dict(token_ids=(*tokens[:4], -1, *tokens[4:])),
    'cycle': lambda tokens: dict(parents=tuple((i + 1) % len(tokens) for i in range(len(tokens)))),
    'stale hash': lambda tokens: dict(base_length=2, base_hash=prefix_hash((7, 7))),
    'weights of zero': lambda tokens: dict(weights=(0,) * len(tokens)),
    'another question': lambda tokens: dict(prompt_key='0' * 16),
    'another tokenizer': lambda tokens: dict(tokenizer_key='0' * 16, text='a red car ahead'),
    'very long': lambda tokens: dict(token_ids=tuple(tokens) * 100),
    'empty': lambda tokens: dict(token_ids=()),
}


@pytest.mark.parametrize('hostile', [pytest.param(change, id=name) for name, change in HOSTILE.items()])
def test_answer_hostile_draft_changes_nothing(target, scenes, hostile):
    engine = make_engine(target)
    for window, (clip, expected) in enumerate(scenes[:2]):
        engine.offer(draft_of(target, window, expected, **hostile(expected)))
        assert caption_of(engine, window, clip).token_ids == expected


def test_answer_drafts_late_doubled_reordered_between_passes_change_nothing(target, scenes):
    engine = make_engine(target, sources=['drafts'], max_nodes=2, first_nodes=2)
    for window, (clip, expected) in enumerate(scenes):
        session = feed(engine, window, clip)
        offers = [draft_of(target, window, expected, revision=3), draft_of(target, window, expected, revision=3),
                  draft_of(target, window, expected[::-1], revision=2), draft_of(target, window - 1, expected),
                  draft_of(target, window + 1, expected)]
        outputs = []
        for output in session.answer():
            outputs.append(output)
            if offers:
                engine.offer(offers.pop())
        assert outputs[-1].token_ids == expected
        session.close()


def test_answer_perfect_draft_takes_few_passes(target, scenes):
    clip, expected = scenes[0]
    engine = without_clock(make_engine(target, sources=['drafts']))
    assert engine.offer(draft_of(target, 1, expected)) is None
    final = caption_of(engine, 1, clip)
    assert final.target_passes <= 2 and final.mode is Mode.CROSS_MODAL
    assert final.accepted >= len(expected) - 2


def test_answer_streams_verdicts_and_growing_stable_text(target, scenes):
    clip, expected = scenes[1]
    engine = make_engine(target, sources=[])
    session = feed(engine, 3, clip)
    outputs = list(session.answer())
    verdicts, captions = outputs[::2], outputs[1::2]
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    assert [caption.stage for caption in captions] == [Stage.PARTIAL] * (len(captions) - 1) + [Stage.FINAL]
    for verdict, caption, following in zip(verdicts, captions, captions[1:]):
        assert verdict.committed == caption.token_ids == expected[:len(verdict.committed)]
        assert verdict.committed_hash == prefix_hash(verdict.committed)
        assert following.text.startswith(caption.text[:caption.stable_length])
    assert verdicts[-1].final and captions[-1].lossless and captions[-1].mode is Mode.VERIFIER_ONLY
    assert captions[-1].frame_stamps_ns == tuple(3 * 10**9 + slot for slot in range(FRAMES))


def test_answer_stopped_goes_on_where_it_was(target, scenes):
    clip, expected = scenes[2]
    engine = make_engine(target, sources=[])
    session = feed(engine, 1, clip)
    asked = itertools.count()
    first = list(session.answer(should_stop=lambda: next(asked) >= 3))
    assert first[-1].stage is Stage.PARTIAL and first[-1].token_ids == expected[:3]
    *_, final = session.answer()
    assert final.token_ids == expected and final.stage is Stage.FINAL


def test_answer_deadline_in_the_past_ends_without_a_pass(target, scenes):
    engine = make_engine(target)
    session = feed(engine, 1, scenes[0][0])
    assert list(session.answer(deadline_ns=0)) == []
    assert engine.statistics()['windows_cut'] == 1


def test_answer_stop_string_equals_generate(target, scenes):
    clip, expected = scenes[0]
    text = target.decode(expected)
    stop = next(char for char in text[3:] if char.isascii() and char.isprintable())
    wanted = target.generate(clip, QUESTION, TOKENS, stop_strings=[stop], tokenizer=target.tokenizer)
    engine = make_engine(target, stop_strings=(stop,))
    for window in range(2):                                      # the second time memory proposes the whole caption
        assert caption_of(engine, window, clip).token_ids == strip(target, wanted)


def test_answer_end_token_ends_the_caption(target, scenes, monkeypatch):
    clip, expected = scenes[0]
    end = expected[5]
    monkeypatch.setattr(target, 'eos_ids', (end,))
    wanted = expected[:expected.index(end)]
    engine = without_clock(make_engine(target))
    for window in range(2):
        assert caption_of(engine, window, clip).token_ids == wanted
    assert caption_of(engine, 2, clip).target_passes == 1


def test_answer_length_limit_equals_generate(target, scenes):
    clip, expected = scenes[0]
    for limit in (1, 2, 7):
        engine = make_engine(target, max_new_tokens=limit)
        for window in range(2):
            assert caption_of(engine, window, clip).token_ids == expected[:limit]


def test_answer_missing_frames_is_refused_and_the_engine_goes_on(target, scenes):
    engine = make_engine(target)
    session = engine.open(1, 10**9, QUESTION)
    session.add_frame(0, 0, scenes[0][0][0])
    with pytest.raises(CrossSpecError, match=r'missing are \[1, 2\]'):
        next(session.answer())
    assert caption_of(engine, 2, scenes[0][0]).token_ids == scenes[0][1]


def test_answer_not_finite_logits_fail_the_window_only(target, scenes):
    engine = make_engine(target)
    weight = target.adapter.head.weight
    session = feed(engine, 1, scenes[0][0])
    kept = weight[9].clone()
    with torch.no_grad():
        weight[9] = float('nan')
    with pytest.raises(CrossSpecError, match='finite'):
        list(session.answer())
    with torch.no_grad():
        weight[9] = kept
    assert caption_of(engine, 2, scenes[0][0]).token_ids == scenes[0][1]
    assert engine.statistics()['windows_failed'] == 1


def test_answer_out_of_memory_fails_the_window_only(target, scenes, monkeypatch):
    engine = make_engine(target)
    session = feed(engine, 1, scenes[0][0])

    def out_of_memory(*_):
        raise torch.OutOfMemoryError('no memory')

    with monkeypatch.context() as patch, pytest.raises(CrossSpecError, match='ran out of memory'):
        patch.setattr(target, 'verify', out_of_memory)
        list(session.answer())
    assert caption_of(engine, 2, scenes[0][0]).token_ids == scenes[0][1]


def test_add_frame_bad_frame_leaves_the_window_as_it_was(target, scenes):
    clip, expected = scenes[0]
    engine = make_engine(target)
    session = engine.open(1, 10**9, QUESTION)
    for bad, slot, match in [(clip[0][..., 0], 0, 'uint8'), (clip[0].astype(float), 0, 'uint8'), (clip[0], 9, 'slot')]:
        with pytest.raises(CrossSpecError, match=match):
            session.add_frame(slot, 0, bad)
    for slot, frame in enumerate(clip):
        session.add_frame(slot, slot, frame)
    with pytest.raises(CrossSpecError, match='once'):
        session.add_frame(0, 0, clip[0])
    *_, final = session.answer()
    assert final.token_ids == expected


@pytest.mark.parametrize('prompt', ['', ' ', 'word ' * 3000], ids=['empty', 'blank', 'too long'])
def test_open_bad_prompt_is_refused(target, prompt):
    with pytest.raises(CrossSpecError, match='prompt must'):
        make_engine(target).open(1, 0, prompt)


def test_open_more_windows_than_allowed_closes_the_oldest(target, scenes):
    engine = make_engine(target, max_windows=2)
    sessions = [engine.open(window, 0, QUESTION) for window in range(3)]
    assert [session.closed for session in sessions] == [True, False, False]
    assert engine.statistics()['windows_replaced'] == 1 and engine.sizes()['windows'] == 2
    with pytest.raises(CrossSpecError, match='window 0 must be open, it was closed'):
        sessions[0].add_frame(0, 0, scenes[0][0][0])


def test_rehearse_of_an_unchanged_scene_leaves_one_pass(target):
    frame = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    engine = without_clock(make_engine(target, sources=['rehearsal']))
    final = caption_of(engine, 1, [frame] * FRAMES, rehearse=True)
    assert final.target_passes == 1
    assert final.token_ids == strip(target, target.generate([frame] * FRAMES, QUESTION, TOKENS))


def test_rehearse_cut_short_leaves_the_cache_as_it_was(target, scenes):
    clip, expected = scenes[3]
    engine = make_engine(target, sources=['rehearsal'])
    session = engine.open(1, 0, QUESTION)
    for slot, frame in enumerate(clip):
        session.add_frame(slot, slot, frame)
        asked = itertools.count()
        session.rehearse(lambda: next(asked) >= 2)
    *_, final = session.answer()
    assert final.token_ids == expected


def test_audit_equals_the_answer(target, scenes):
    engine = make_engine(target)
    for clip, expected in scenes:
        assert engine.audit(clip, QUESTION) == expected


def test_warm_up_measures_the_cost_of_tokens(target, scenes):
    engine = make_engine(target, max_nodes=8)
    costs = engine.warm_up(QUESTION, 30, 40)
    assert list(costs)[:4] == [1, 2, 4, 8] and all(cost > 0 for cost in costs.values())
    assert engine.proposer.cost.known
    assert caption_of(engine, 1, scenes[0][0]).token_ids == scenes[0][1]


def test_offer_from_another_thread_while_answering_changes_nothing(target, scenes):
    engine = make_engine(target, max_nodes=3, first_nodes=3)
    done = threading.Event()

    def pester():
        revision = 0
        while not done.is_set():
            for window, (_, expected) in enumerate(scenes):
                revision += 1
                tokens = expected if revision % 2 else expected[::-1]
                engine.offer(draft_of(target, window, tokens, revision=revision))

    thread = threading.Thread(target=pester)
    thread.start()
    try:
        for window, (clip, expected) in enumerate(scenes):
            assert caption_of(engine, window, clip).token_ids == expected
    finally:
        done.set()
        thread.join()
    assert engine.statistics()['proposer']['offers']['taken'] > 0


def test_reset_forgets_windows_and_captions(target, scenes):
    engine = make_engine(target)
    caption_of(engine, 5, scenes[0][0])
    engine.open(6, 0, QUESTION)
    engine.reset()
    assert caption_of(engine, 1, scenes[0][0]).token_ids == scenes[0][1]
    assert engine.statistics()['windows'] == 1


@pytest.mark.long
def test_answer_five_hundred_prompts_equal_generate(target):
    generator = np.random.default_rng(11)
    engine = make_engine(target, max_nodes=12, first_nodes=40)
    for window in range(260):                                    # two classes: 520 prompts
        clip = clip_of(generator)
        question = f'What about number {window % 37}?'
        expected = strip(target, target.generate(clip, question, TOKENS))
        noisy = [token if generator.random() < 0.8 else int(generator.integers(6, 280)) for token in expected]
        engine.offer(draft_of(target, window, noisy, prompt_key=prompt_key(question)))
        assert caption_of(engine, window, clip, question=question, rehearse=window % 3 == 0).token_ids == expected
