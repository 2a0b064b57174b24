"""A session between open and close: sizes, order, and what is refused with the rest going on."""
from __future__ import annotations

import gc

import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.sources import SOURCE_NAMES
from crossspec_ros.speculation.types import Caption, Stage
from engine_harness import (FRAMES, QUESTION, TOKENS, caption_of, clip_of, draft_of, feed, make_engine, strip,
                            without_clock)


@pytest.fixture
def sized(target, monkeypatch):
    """A target whose layouts hang on the size of frames, as those of some classes do."""
    monkeypatch.setattr(target.adapter, 'sized', True, raising=False)
    return target


def big_frame(height: int = 60, width: int = 52) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_size_change_amid_a_window_is_refused_and_the_window_goes_on(sized, scenes):
    clip, expected = scenes[0]
    engine = make_engine(sized)
    session = engine.open(1, 0, QUESTION)
    session.add_frame(1, 1, clip[1])
    for slot in (0, 2):
        with pytest.raises(CrossSpecError, match="30 x 40 as the window's first frame, got 60 x 52"):
            session.add_frame(slot, slot, big_frame())
    assert session.missing == (0, 2)
    session.add_frame(0, 0, clip[0])
    session.add_frame(2, 2, clip[2])
    *_, final = session.answer()
    assert final.token_ids == expected
    session.close()
    assert caption_of(engine, 2, clip).token_ids == expected


def test_size_change_between_windows_is_taken(sized, scenes):
    engine = make_engine(sized)
    big = [big_frame() for slot in range(FRAMES)]
    for window in range(4):
        clip = scenes[0][0] if window % 2 else big
        assert caption_of(engine, window, clip).token_ids == strip(sized, sized.generate(clip, QUESTION, TOKENS))
    assert len(sized._pool) <= 4


def test_size_change_where_layouts_do_not_hang_on_it_is_taken_amid_a_window(target, scenes):
    clip = [scenes[0][0][0], big_frame(), scenes[0][0][2]]
    assert caption_of(make_engine(target), 1, clip).token_ids == strip(target, target.generate(clip, QUESTION, TOKENS))


def test_closed_session_is_refused_and_the_engine_goes_on(target, scenes):
    clip, expected = scenes[0]
    engine = make_engine(target)
    session = feed(engine, 1, clip)
    session.close()
    session.close()
    assert session.closed and engine.sizes()['windows'] == 0
    for use in (lambda: session.add_frame(0, 0, clip[0]), lambda: next(session.answer())):
        with pytest.raises(CrossSpecError, match='window 1 must be open, it was closed'):
            use()
    assert session.rehearse() == () and not session.prepare()
    assert caption_of(engine, 1, clip).token_ids == expected, 'its number is free again'


def test_session_closed_twice_hands_its_cache_back_once(target, scenes):
    engine = make_engine(target)
    target._pool.clear()
    session = feed(engine, 1, scenes[0][0])
    for _ in range(3):
        session.close()
    assert len(target._pool) == 1


def test_answer_twice_is_refused_and_the_caption_stands(target, scenes):
    clip, expected = scenes[0]
    engine = make_engine(target)
    session = feed(engine, 1, clip)
    list(session.answer())
    with pytest.raises(CrossSpecError, match='window 1 is answered already'):
        next(session.answer())
    assert session.token_ids == expected and session.rehearse() == () and not session.prepare()
    session.close()
    assert engine.statistics()['windows_answered'] == 1
    assert caption_of(engine, 2, scenes[1][0]).token_ids == scenes[1][1]


def test_answer_left_between_passes_goes_on_when_asked_again(target, scenes):
    clip, expected = scenes[0]
    engine = make_engine(target, sources=[])
    session = feed(engine, 1, clip)
    answer = session.answer()
    next(answer)                                                # a verdict; its caption is never asked for
    answer.close()
    del answer
    gc.collect()
    assert session.token_ids == expected[:1]
    *_, final = session.answer()
    assert final.token_ids == expected


def test_open_a_window_that_is_open_is_refused(target, scenes):
    engine = make_engine(target)
    session = engine.open(1, 0, QUESTION)
    with pytest.raises(CrossSpecError, match='window_id must not be open already, got 1'):
        engine.open(1, 0, QUESTION)
    assert not session.closed and engine.sizes()['windows'] == 1


def test_open_bad_prompt_leaves_the_open_windows_alone(target, scenes):
    engine = make_engine(target, max_windows=1)
    session = feed(engine, 1, scenes[0][0])
    with pytest.raises(CrossSpecError, match='prompt must not be empty'):
        engine.open(2, 0, ' ')
    *_, final = session.answer()
    assert final.token_ids == scenes[0][1]


@pytest.mark.parametrize('most', [1, 2, 5])
def test_max_windows_closes_the_oldest_only(target, scenes, most):
    engine = make_engine(target, max_windows=most)
    sessions = []
    for window in range(7):
        sessions.append(feed(engine, window, scenes[window % 4][0]))
        open_ones = [session.window_id for session in sessions if not session.closed]
        assert open_ones == list(range(max(0, window + 1 - most), window + 1))
        assert engine.sizes()['windows'] == len(open_ones)
    assert engine.statistics()['windows_replaced'] == 7 - most
    for session in sessions[-most:]:
        *_, final = session.answer()
        assert final.token_ids == scenes[session.window_id % 4][1]
        session.close()
    assert engine.sizes()['windows'] == 0


def test_windows_answered_in_turn_do_not_mix(target, scenes):
    engine = make_engine(target, max_nodes=2, first_nodes=2)
    sessions = [feed(engine, window, clip) for window, (clip, _) in enumerate(scenes)]
    while not all(session.closed for session in sessions):
        for session in [session for session in sessions if not session.closed]:
            started = iter([False, True])
            *_, last = session.answer(should_stop=lambda: next(started))
            if last.stage == last.stage.FINAL:
                assert last.token_ids == scenes[session.window_id][1]
                session.close()


def test_frames_of_a_closed_window_are_not_encoded_again(target):
    clip = clip_of(np.random.default_rng(30))
    engine = make_engine(target)
    first, second = engine.open(1, 0, QUESTION), engine.open(2, 0, QUESTION)
    for session in (first, second):
        for slot, frame in enumerate(clip):
            session.add_frame(slot, slot, frame)
        session.close()
    assert engine.statistics()['frames_encoded'] == FRAMES == engine.statistics()['frames_shared']


@pytest.mark.parametrize('names', [('drafts',), SOURCE_NAMES], ids=['drafts', 'all'])
def test_answers_read_in_turn_pass_by_pass_do_not_mix(target, scenes, names):
    engine = make_engine(target, names, max_nodes=2, first_nodes=2)
    for start in (0, 4):                                        # the second time memory knows the captions
        for window, (_, expected) in enumerate(scenes, start):
            noisy = [token if place % 4 else 99 for place, token in enumerate(expected)]
            engine.offer(draft_of(target, window, noisy))
        sessions = [feed(engine, window, clip) for window, (clip, _) in enumerate(scenes, start)]
        answers = {session: session.answer() for session in sessions}
        while answers:
            for session, answer in list(answers.items()):
                if next(answer, None) is None:
                    del answers[session]
                    assert session.token_ids == scenes[session.window_id - start][1]
                    session.close()


def test_answer_of_a_window_closed_meanwhile_is_refused_and_touches_no_other(target, scenes):
    engine = make_engine(target, sources=[], max_windows=1)
    (old_clip, _), (clip, expected) = scenes[:2]
    old = feed(engine, 1, old_clip).answer()
    next(old)
    new = feed(engine, 2, clip)                                 # takes the cache over that the closed one handed back
    with pytest.raises(CrossSpecError, match='window 1 must be open, it was closed'):
        list(old)
    *_, final = new.answer()
    assert final.token_ids == expected
    assert engine.statistics()['windows_failed'] == 0


def test_session_closed_at_the_final_caption_ends_its_answer_and_is_remembered(target, scenes):
    clip, expected = scenes[0]
    engine = without_clock(make_engine(target, sources=['memory']))
    session = feed(engine, 1, clip)
    for output in session.answer():
        if isinstance(output, Caption) and output.stage is Stage.FINAL:
            session.close()
    assert output.token_ids == expected and engine.sizes()['memory_captions'] == 1
    alone = caption_of(make_engine(target, sources=[]), 1, clip)
    assert caption_of(engine, 2, clip).target_passes < alone.target_passes
