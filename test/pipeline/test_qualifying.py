"""Frames and drafts in, better drafts out, before the verifier answers or not at all."""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_verifying import MS, Engine, S, Window

from crossspec_ros.config import QualifierConfig, make
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.slots import Frame
from crossspec_ros.pipeline.qualifying import Look, QualifyingPipeline
from crossspec_ros.pipeline.verifying import VerifyingPipeline
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage, Verdict, prompt_key

QUESTION, EOS = 'What is happening?', 2
SAID = (5, 6, 7)


class Saying(Window):
    """Says its three tokens in two passes, and starts none that it must not."""

    def answer(self, *, deadline_ns=None, should_stop=None):
        for stage, count in ((Stage.PARTIAL, 2), (Stage.FINAL, 3)):
            self.engine.before_pass()
            if should_stop():
                return
            self.engine.left_ns.append(deadline_ns)
            yield Caption(self.window_id, self.window_id * S, stage, 'a red car'[:3 * count], 0, SAID[:count],
                          Mode.VERIFIER_ONLY, True, stage_ms={'total': 4.0})


class Middle(Engine):
    """Stands where the decode engine of the middle model would."""

    def __init__(self):
        super().__init__()
        self.target = SimpleNamespace(tokenizer_key='middle', eos_ids={EOS})
        self.config = SimpleNamespace(max_new_tokens=64)
        self.counters = SimpleNamespace(target_passes=0, tokens=0)
        self.left_ns, self.before_pass = [], lambda: None

    def open(self, window_id, window_end_ns, prompt):
        super().open(window_id, window_end_ns, prompt)
        return Saying(self, window_id)


class Bench:
    """A qualifier over a stand-in, and a clock."""

    def __init__(self, words=None, **changes):
        config = QualifierConfig(**changes)
        look = Look(config.look(), config.grid().stride_ns, config.lead_ms, config.yield_ms)
        self.engine = Middle()
        inner = VerifyingPipeline(self.engine, look.grid, QUESTION)
        self.core, self.now_ns = QualifyingPipeline(inner, self.engine, look, words=words), 0

    def film(self, until_ms: int, begin_ms: int = 10125) -> None:
        """A frame each 125 ms, the first slot's end being 10.125 s; the clock is at the newest."""
        for stamp in range(begin_ms, until_ms + 1, 125):
            self.now_ns = stamp * MS
            frame = Frame(self.now_ns, np.zeros((2, 2, 3), np.uint8))
            self.core.prepare(frame)
            self.core.add_frame(frame, self.now_ns)
            self.core.advance(self.now_ns)
            while self.core.feed():
                pass

    def qualify(self, stop=lambda: False):
        window_id = self.core.ready()
        return None if window_id is None else self.core.qualify(window_id, lambda: self.now_ns, stop)

    def verdict(self, window: int, at_ms: int, final: bool = True) -> None:
        self.core.hear(Verdict(window, window * S, SAID, 0, 1, final), at_ms * MS)


def drafted(window: int, tokens, **changes) -> Draft:
    return replace(Draft(window, window * S, 0, prompt_key(QUESTION), 'middle', 'a red', tuple(tokens)), **changes)


def test_it_speaks_before_the_window_ends_of_the_frames_that_are_there():
    bench = Bench()
    bench.film(10750, begin_ms=10000)
    assert bench.qualify() is None                              # the last of its frames is still to come
    bench.film(10875, begin_ms=10875)
    draft = bench.qualify()
    assert (draft.window_id, draft.window_end_ns, draft.token_ids) == (11, 11 * S, (*SAID, EOS))
    assert (draft.source, draft.tokenizer_key, draft.prompt_key) == ('qualifier', 'middle', prompt_key(QUESTION))
    assert (draft.events_used, draft.compute_ms, draft.trained_for) == (0, 4.0, '')
    assert bench.engine.slots[11][-1] == 11000                  # in its own time, which is ahead
    assert bench.core.statistics()['drafts'] == 1 and bench.core.statistics()['frames_used'] == 8


def test_fewer_frames_are_the_newest_of_longer_slots():
    bench = Bench(every=4)
    bench.film(10875)
    assert bench.qualify().window_id == 11 and bench.engine.slots[11] == [10500, 11000]


@pytest.mark.parametrize('now_ms, final', [pytest.param(11000, None, id='window over'),
                                           pytest.param(10900, 11, id='verifier done')])
def test_what_comes_too_late_is_counted_and_costs_no_pass(now_ms, final):
    bench = Bench()
    bench.film(10875)
    bench.now_ns = now_ms * MS
    if final:
        bench.verdict(final, now_ms)
    assert bench.qualify() is None and not bench.engine.left_ns
    counts = bench.core.statistics()
    assert (counts['qualifier_late'], counts['frames_window_cut']) == (1, 7) and bench.core.ready() is None


def test_the_answer_ends_with_the_window_and_what_was_said_by_then_is_late():
    bench = Bench()
    bench.film(10875)
    times = iter((10900 * MS, 11000 * MS))

    def pass_time() -> None:
        bench.now_ns = next(times)
    bench.engine.before_pass = pass_time
    assert bench.qualify() is None and len(bench.engine.left_ns) == 1
    assert bench.core.statistics()['qualifier_late'] == 1


def test_it_rests_from_a_window_end_until_the_verifier_has_answered():
    core = Bench(yield_ms=400.0).core
    assert [core.resting(ms * MS) for ms in (10990, 11000, 11399, 11400)] == [False, True, True, False]
    core.hear(Verdict(11, 11 * S, (), 0, 1, False), 11050 * MS)
    assert core.resting(11060 * MS)
    core.hear(Verdict(11, 11 * S, SAID, 0, 2, True), 11070 * MS)
    assert not core.resting(11080 * MS) and core.resting(12000 * MS)
    assert not Bench(yield_ms=0.0).core.resting(11000 * MS)


def test_where_it_never_rests_a_draft_may_come_until_the_verifier_usually_answers():
    bench = Bench(yield_ms=0.0, lead_ms=0.0)
    for window, age_ms in ((8, 290), (9, 300), (10, 900)):
        bench.verdict(window, 1000 * window + age_ms)
    bench.film(11000)
    bench.now_ns = 11200 * MS
    assert bench.qualify().window_id == 11
    bench.film(12000, begin_ms=11125)
    bench.now_ns = 12300 * MS
    assert bench.qualify() is None and bench.core.statistics()['qualifier_late'] == 1


@pytest.mark.parametrize('tokens, key, text, revision', [
    pytest.param((*SAID, EOS), 'middle', '', None, id='the same'),
    pytest.param((*SAID, EOS, 9), 'middle', '', None, id='more'),
    pytest.param((9,), 'other', 'a red car', None, id='the same in other tokens'),
    pytest.param(SAID, 'middle', '', 5, id='without its end'),
    pytest.param((5, 9), 'middle', '', 5, id='other words'),
    pytest.param((9,), 'other', 'a dog', 5, id='other words in other tokens')])
def test_only_what_no_drafter_has_said_is_published(tokens, key, text, revision):
    bench = Bench()
    assert bench.core.offer(drafted(11, tokens, revision=4, tokenizer_key=key, text=text)) is None
    bench.film(10875)
    draft = bench.qualify()
    assert (draft and draft.revision) == revision
    counts = bench.core.statistics()
    assert (counts['qualifier_same'], counts['drafts'], counts['drafts_heard']) == (not draft, bool(draft), 1)


def test_its_own_drafts_are_no_news_to_it():
    bench = Bench()
    assert bench.core.offer(drafted(11, SAID, source='qualifier')) is None
    assert not bench.engine.drafts


def test_windows_of_the_beat_are_numbered_as_on_topics_where_the_scene_opens_others():
    bench = Bench(when='both')
    assert bench.core.offer(drafted(88, SAID, window_end_ns=11 * S)) is None
    assert bench.core.offer(drafted(89, SAID, window_end_ns=89 * 125 * MS)) == 'other_window'
    assert bench.engine.drafts == [(11, False)]
    bench.film(10875)
    draft = bench.qualify()
    assert (draft.window_id, draft.window_end_ns) == (88, 11 * S)
    bench.core.hear(Verdict(88, 11 * S, SAID, 0, 1, True), 11010 * MS)
    assert not bench.core.resting(11020 * MS) and bench.core.resting(12020 * MS)


class Letters:
    """The vocabulary of a verifier of letters."""

    key, eos_id = 'letters', 0

    def encode(self, text):
        return tuple(map(ord, text))

    def decode(self, token_ids):
        return ''.join(map(chr, token_ids))


def test_a_model_of_another_vocabulary_speaks_in_the_tokens_of_the_verifier():
    bench = Bench(words=Letters())
    bench.film(10875)
    draft = bench.qualify()
    assert draft.tokenizer_key == 'letters' and draft.token_ids == (*map(ord, draft.text), 0)


def test_a_reset_forgets_windows_drafts_and_what_the_verifier_has_done():
    bench = Bench()
    bench.core.offer(drafted(11, (*SAID, EOS)))
    bench.film(10750)
    bench.verdict(11, 10800)
    bench.core.request_reset()
    bench.film(10875)
    assert bench.engine.resets == 1 and bench.qualify().revision == 0


@pytest.mark.parametrize('values, rule', [
    pytest.param({'window.when': 'change'}, 'window.when must be grid or both', id='by change'),
    pytest.param({'draft.lead_ms': 0.0}, 'draft.lead_ms must be > 0 where', id='no lead'),
    pytest.param({'frames.every': 3}, r'frames.every must divide window.frames \(8\)', id='not a part')])
def test_what_does_not_go_together_is_refused(values, rule):
    with pytest.raises(CrossSpecError, match=rule):
        make(QualifierConfig, values).look()
