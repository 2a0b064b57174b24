"""Questions beside running captions: each answer is generate's, and no caption becomes another for them."""
from __future__ import annotations

import numpy as np
import pytest

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.history import FrameHistory
from crossspec_ros.frames.slots import Frame
from crossspec_ros.models.targets import load_target
from crossspec_ros.pipeline.asking import Asking, End
from crossspec_ros.speculation.types import Stage
from crossspec_ros.timing.window import WindowGrid
from engine_harness import FRAMES, QUESTION, clip_of, make_engine, strip

ANOTHER = 'Is there a dog?'
MS = 1_000_000
GRID = WindowGrid(FRAMES, 100.0, FRAMES)


@pytest.fixture(scope='module')
def target(tmp_path_factory):
    return load_target(tiny_models.write_checkpoint(tmp_path_factory.mktemp('tiny'), 'video_llava'))


@pytest.fixture
def engine(target):
    return make_engine(target)


class Asker:
    """Frames of noise in a history, and what became of the questions."""

    def __init__(self, engine, slots=12, waiting=4) -> None:
        self.clip, self.engine = clip_of(np.random.default_rng(1), slots), engine
        history = FrameHistory(GRID, 60.0, 10**9)
        for slot, picture in enumerate(self.clip, start=1):
            history.add(slot, Frame(slot * 100 * MS - MS, picture))
        self.asking = Asking(engine, history, waiting)
        self.ends, self.partials = [], []

    def ask(self, text=ANOTHER, slot=None, draft=''):
        stamp_ns = None if slot is None else slot * 100 * MS - MS
        return self.asking.ask(text, stamp_ns, None, draft, self.partials.append, lambda *end: self.ends.append(end))

    def expected(self, text, last):
        target = self.engine.target
        return strip(target, target.generate(self.clip[last - FRAMES:last], text, self.engine.config.max_new_tokens))

    def finish(self, should_stop=lambda: False):
        while self.asking.step(should_stop):
            pass


def test_an_answer_is_generates_of_now_and_of_then(engine):
    asker = Asker(engine)
    asker.ask()
    asker.ask(slot=7)
    asker.finish()
    assert [end[0] for end in asker.ends] == [End.ANSWERED] * 2
    assert [end[1].token_ids for end in asker.ends] == [asker.expected(ANOTHER, 12), asker.expected(ANOTHER, 7)]
    assert all(end[1].lossless and end[2][0].name == 'answer' for end in asker.ends)
    assert not engine.sizes()['windows']


def test_captions_and_questions_pass_by_pass_do_not_change_each_other(engine):
    asker = Asker(engine)
    free = asker.expected(QUESTION, 12)
    for round_ in range(3):
        asker.ask(draft='a dog')
        session = engine.open(round_, 0, QUESTION)
        for slot, picture in enumerate(asker.clip[-FRAMES:]):
            session.add_frame(slot, (10 + slot) * 100 * MS - MS, picture)
            asker.asking.step(lambda: True)
        for output in session.answer():                         # a pass of the question between two of the caption
            asker.asking.step(lambda: True)
        session.close()
        assert output.stage is Stage.FINAL and output.token_ids == free
        asker.finish(lambda: True)
    assert [end[1].token_ids for end in asker.ends] == [asker.expected(ANOTHER, 12)] * 3
    assert [end[2][0].stood for end in asker.ends] == [1, 2, 3]


def test_a_cancelled_question_ends_and_frees_its_window(engine):
    asker = Asker(engine)
    question = asker.ask()
    for _ in range(FRAMES + 1):
        asker.asking.step(lambda: True)
    question.cancelled = True
    asker.finish()
    assert [end[0] for end in asker.ends] == [End.CANCELLED] and not engine.sizes()['windows']
    assert asker.asking.counts == {'questions': 1, 'questions_cancelled': 1}


def test_more_questions_than_may_wait_are_refused_and_counted(engine):
    asker = Asker(engine, waiting=1)
    asker.ask()
    with pytest.raises(CrossSpecError, match='at most 1 questions may wait'):
        asker.ask()
    assert asker.asking.counts['questions_refused'] == 1


def test_a_question_whose_window_the_engine_closed_fails_in_a_line_and_the_next_goes_on(target):
    engine = make_engine(target, max_windows=1)
    asker = Asker(engine)
    asker.ask()
    asker.asking.step(lambda: True)
    engine.open(5, 0, QUESTION).close()                         # pushes the question's window out
    asker.ask(slot=7)
    asker.finish()
    assert [end[0] for end in asker.ends] == [End.FAILED, End.ANSWERED] and 'closed' in asker.ends[0][3]


def test_a_jump_of_time_ends_what_is_open_and_forgets_the_frames(engine):
    asker = Asker(engine)
    asker.ask()
    asker.asking.step(lambda: True)
    asker.asking.reset('time jumped back')
    assert asker.ends == [(End.FAILED, None, [], 'time jumped back')] and not asker.asking.pending
    with pytest.raises(CrossSpecError, match='no frame has come yet'):
        asker.ask()


def test_what_the_model_cannot_be_asked_is_refused_when_asked(engine):
    with pytest.raises(CrossSpecError):
        Asker(engine).ask('')
