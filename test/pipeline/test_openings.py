"""Windows that are opened when they are told of: exactly the captions of the same frames, and nothing lost."""
import numpy as np
import pytest
import tiny_models
from engine_harness import FRAMES, QUESTION, clip_of, make_engine, strip
from test_verifying import Engine, answered

from crossspec_ros.frames.slots import Frame
from crossspec_ros.models.targets import load_target
from crossspec_ros.pipeline.verifying import VerifyingPipeline
from crossspec_ros.speculation.types import Opening, SceneChange, Stage
from crossspec_ros.timing.when import Speaking
from crossspec_ros.timing.window import WindowGrid

MS = 1_000_000
GRID = WindowGrid(stride_frames=1)
SLOT = 125


class LateEngine(Engine):
    """Notes what is encoded before a window has asked for it."""

    def __init__(self):
        super().__init__()
        self.ahead = []

    def encode_ahead(self, prompt, stamp_ns, rgb):
        self.ahead.append(stamp_ns // MS)
        return True


def told(slot: int, reason: Opening = Opening.NONE, reference: int = 0, **more) -> SceneChange:
    fields = dict(activity=0.0, threshold=0.16, changed=reason is Opening.CHANGE)
    return SceneChange(slot, GRID.end_ns(slot), reason=reason, reference_id=reference, **(fields | more))


def pipeline(grid_too: bool = False, max_slots: int = 40) -> VerifyingPipeline:
    return VerifyingPipeline(LateEngine(), GRID, 'What is happening?',
                             speaking=Speaking(8, 2, max_slots, 0.16, grid_too))


def drive(core: VerifyingPipeline, slots, changes=()) -> list[int]:
    """A frame at the end of each slot, with what is told of it; the windows answered."""
    heard, found = {each.window_id: each for each in changes}, []
    for slot in slots:
        core.account.receive()
        core.add_frame(Frame(slot * SLOT * MS, np.zeros((2, 2, 3), np.uint8)))
        if slot in heard:
            assert core.hear(heard[slot]) is None
        core.advance()
        while core.feed():
            pass
        found += answered(core)
    return found


def test_window_is_opened_where_it_is_told_and_holds_the_newest_frames():
    core = pipeline()
    changes = [told(slot) for slot in range(101, 121)]
    changes[11] = told(112, Opening.CHANGE, 112)
    changes = [each for each in changes if each.window_id != 104 and each.window_id != 120]
    assert drive(core, range(101, 121), changes) == [112]
    assert core._engine.slots[112] == [slot * SLOT for slot in range(105, 113)]
    assert core._engine.ahead == [slot * SLOT for slot in range(101, 121)]     # each once, when it came


def test_window_of_a_change_shows_the_new_scene_alone():
    core = pipeline()
    drive(core, range(101, 113), [told(101), told(112, Opening.CHANGE, 112, scene_id=111)])
    assert core._engine.slots[112] == [111 * SLOT] * 7 + [112 * SLOT]
    assert core.counts['frames_repeated'] == 6


def test_unchanged_window_confirms_the_last_words_with_their_age():
    core = pipeline()
    changes = [told(101), told(110, Opening.CHANGE, 110), told(112, reference=110), told(120, reference=110)]
    assert drive(core, range(101, 123), changes) == [110]
    first, second = core.take_confirmed()
    assert (first.stage, first.window_id, first.text) == (Stage.STILL_VALID, 112, 'text')
    assert (second.window_id, second.window_end_ns) == (120, GRID.end_ns(120))
    assert (core.counts['windows_unchanged'], core.take_confirmed()) == (2, [])


@pytest.mark.parametrize('spoil', [
    pytest.param(lambda core: core.set_prompt('What is ahead?'), id='another question'),
    pytest.param(lambda core: core.reset(), id='reset')])
def test_words_that_do_not_answer_are_not_confirmed(spoil):
    core = pipeline()
    core._engine.check_prompt = lambda prompt: None
    drive(core, range(101, 115), [told(101), told(110, Opening.CHANGE, 110)])
    spoil(core)
    drive(core, range(115, 119), [told(115, reference=110)])
    assert drive(core, range(119, 124), [told(120, reference=110)]) == [120]
    assert core.take_confirmed() == []


def test_words_of_a_window_before_the_reference_are_not_confirmed():
    core = pipeline()
    changes = [told(101), told(108, Opening.FIRST, 108), told(120, reference=115)]      # 115 was never told of
    assert drive(core, range(101, 123), changes) == [108, 120]
    assert core.take_confirmed() == [] and core.counts['windows_unconfirmed'] == 1


def test_without_a_word_of_the_drafter_the_grid_is_captioned():
    assert drive(pipeline(), range(101, 131)) == [104, 112, 120, 128]


def test_drafter_that_falls_silent_leaves_the_ceiling_and_then_the_grid():
    changes = [told(101), told(108, Opening.FIRST, 108)]
    assert drive(pipeline(max_slots=14), range(101, 140), changes) == [108, 122, 128, 136]


def test_both_answers_the_grid_and_what_is_told():
    assert drive(pipeline(grid_too=True), range(101, 125), [told(109, Opening.CHANGE, 109)]) == [104, 109, 112, 120]


def test_every_frame_is_used_or_unchanged():
    core = pipeline()
    drive(core, range(101, 161), [told(slot, *((Opening.CHANGE, slot) if slot == 130 else ())) for slot in
                                  range(101, 161) if slot % 8])
    balance = core.account.balance()
    assert balance.used == 8 and balance.received == 60
    assert balance.dropped == {'unchanged': 60 - 8 - balance.waiting} and balance.waiting <= 16


def test_foreign_window_is_refused():
    core = pipeline()
    wrong = SceneChange(7, 1, 0.0, 0.16, False, Opening.NONE, 0)
    assert core.hear(wrong) == 'foreign_window' and core.counts['change_foreign_window'] == 1
    assert VerifyingPipeline(Engine(), WindowGrid(), 'What?').hear(told(8)) == 'foreign_window'


@pytest.mark.parametrize('kind', ['video_llava', 'llava_onevision'])
def test_window_opened_late_says_what_generate_says_of_its_frames(kind, tmp_path):
    target = load_target(tiny_models.write_checkpoint(tmp_path, kind))
    engine, grid = make_engine(target), WindowGrid(FRAMES, 100.0, 1)
    core = VerifyingPipeline(engine, grid, QUESTION, speaking=Speaking(FRAMES, 1, 40, 0.16))
    pictures, captions = clip_of(np.random.default_rng(3), 9), {}
    for slot, picture in enumerate(pictures, start=31):
        core.add_frame(Frame(slot * 100 * MS, picture))
        scene_id = slot if slot == 37 else 0
        reason = Opening.CHANGE if slot in (34, 35, 37) else Opening.NONE
        core.hear(SceneChange(slot, grid.end_ns(slot), 0.5, 0.16, True, reason, slot, scene_id))
        core.advance()
        while core.feed():
            pass
        while (window := core.ready()) is not None:
            *_, captions[window] = (each for each in core.answer(window) if hasattr(each, 'stage'))
    assert set(captions) == {34, 35, 37}
    for window, caption in captions.items():
        clip = pictures[window - 31 - FRAMES + 1:window - 31 + 1] if window != 37 else [pictures[6]] * FRAMES
        assert caption.stage is Stage.FINAL and caption.lossless
        assert caption.token_ids == tuple(strip(target, target.generate(clip, QUESTION, engine.config.max_new_tokens)))
    assert engine.counters.frames_encoded <= len(pictures)      # each at most once, whichever windows it is in
