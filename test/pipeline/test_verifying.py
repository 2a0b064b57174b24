"""Frames and drafts in, captions out, by windows."""
import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.slots import Frame
from crossspec_ros.pipeline.openings import retracted
from crossspec_ros.pipeline.verifying import VerifyingPipeline
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage, Verdict
from crossspec_ros.timing.window import WindowGrid

S, MS = 1_000_000_000, 1_000_000


class Window:
    """Stands where a session of the decode engine would: notes what it is given, answers with one caption."""

    def __init__(self, engine, window_id):
        self.engine, self.window_id, self.encoded_ns = engine, window_id, 0

    @property
    def reached(self):
        return len(self.engine.slots[self.window_id]), 0

    def add_frame(self, slot, stamp_ns, rgb):
        if rgb.shape[0] == 1:
            raise CrossSpecError('too small')
        slots = self.engine.slots[self.window_id]
        assert self.window_id in self.engine.open_windows and slot == len(slots)
        slots.append(stamp_ns // MS)

    def rehearse(self, should_stop):
        self.engine.rehearsed.append((self.window_id, len(self.engine.slots[self.window_id])))

    def prepare(self):
        if len(self.engine.slots[self.window_id]) < 7 or self.window_id in self.engine.prepared:
            return False
        self.engine.prepared.append(self.window_id)
        return True

    def answer(self, *, deadline_ns=None, should_stop=None):
        for stage in (Stage.PARTIAL, Stage.FINAL):
            yield Caption(self.window_id, self.window_id * S, stage, 'text', 4, (1,), Mode.CROSS_MODAL, True)

    def close(self):
        self.engine.open_windows.pop(self.window_id, None)
        self.engine.closed.append(self.window_id)


class Engine:
    """Stands where the decode engine would: notes what it is given, and opens windows."""

    def __init__(self):
        self.open_windows, self.slots, self.drafts, self.closed, self.rehearsed = {}, {}, [], [], []
        self.resets, self.prepared = 0, []

    def open(self, window_id, window_end_ns, prompt):
        self.open_windows[window_id], self.slots[window_id] = prompt, []
        return Window(self, window_id)

    def offer(self, draft):
        self.drafts.append((draft.window_id, draft.window_id in self.open_windows))

    def reset(self):
        self.resets += 1
        self.open_windows.clear()


def pipeline(**changes) -> VerifyingPipeline:
    grid = changes.pop('grid', WindowGrid())
    return VerifyingPipeline(Engine(), grid, 'What is happening?', **changes)


def send(core: VerifyingPipeline, stamps_ms, height: int = 2) -> None:
    for stamp in stamps_ms:
        core.add_frame(Frame(stamp * MS, np.zeros((height, 2, 3), np.uint8)))
        core.advance()
        while core.feed():
            pass


def draft(window: int, revision: int = 0, end_ns: int | None = None) -> Draft:
    return Draft(window, window * S if end_ns is None else end_ns, revision, '', '', '', (1,))


def answered(core: VerifyingPipeline) -> list[int]:
    found = []
    while (window := core.ready()) is not None:
        found.append(window)
        list(core.answer(window))
    return found


def test_verifying_window_is_answered_when_its_last_slot_is_settled():
    core = pipeline()
    send(core, range(10_125, 11_000, 125))
    assert core.ready() is None
    send(core, [11_000])
    assert answered(core) == [11]
    assert core._engine.slots[11] == list(range(10_125, 11_001, 125))
    assert core.statistics()['windows'] == 1 and core.last_answered.window_id == 11


def test_verifying_window_is_answered_with_its_last_frame_where_the_next_is_to_be_of_another():
    core = pipeline()
    stamps = [round(10_130 + 40 * number) for number in range(22)]            # up to 10,970; the next: 11,010
    send(core, stamps[:-1])
    assert core.ready() is None
    send(core, stamps[-1:])
    assert answered(core) == [11] and core._engine.slots[11][-1] == 10_970
    send(core, [11_010, 11_050])
    assert core.statistics()['windows'] == 1 and 'frames_late' not in core.statistics()


def test_verifying_says_the_final_caption_before_its_verdict_and_each_other_verdict_first():
    core, said = pipeline(), []
    def answer(**options):
        for passes, stage in ((11, Stage.PARTIAL), (12, Stage.FINAL)):
            yield Verdict(1, S, (5,), 0, passes, stage is Stage.FINAL)
            yield Caption(1, S, stage, 'text', 4, (5,), Mode.CROSS_MODAL, True)
            said.append('learned')
    send(core, range(125, 1126, 125))
    core._windows[1].session.answer = answer
    for output in core.answer(1):
        said.append(output.stage if isinstance(output, Caption) else output.target_passes)
    assert said == [11, Stage.PARTIAL, 'learned', Stage.FINAL, 12, 'learned'] and core.counts['windows'] == 1


def test_verifying_frames_go_into_the_engine_as_they_come():
    core = pipeline()
    send(core, [10_125, 10_250, 10_375])
    assert core._engine.slots[11] == [10_125, 10_250, 10_375]


def test_verifying_missing_frame_is_the_one_before():
    core = pipeline()
    send(core, [10_125, 10_250, 10_500, 10_625, 10_750, 10_875, 11_000])
    assert core._engine.slots[11][1:4] == [10_250, 10_250, 10_500]


def test_verifying_begin_without_frames_is_the_first_one():
    core = pipeline()
    send(core, [10_375, 10_500, 10_625, 10_750, 10_875, 11_000])
    assert core._engine.slots[11][:3] == [10_375] * 3 and answered(core) == [11]


def test_verifying_fewer_than_half_the_frames_gives_the_window_up():
    core = pipeline()
    send(core, [10_750, 10_875, 11_000])
    assert answered(core) == [] and core.statistics()['window_few_frames'] == 1
    send(core, range(11_125, 12_001, 125))
    assert answered(core) == [12]


def test_verifying_images_that_stop_end_the_window_by_the_clock():
    core = pipeline(frame_grace_ms=60)
    send(core, range(10_125, 10_876, 125))
    core.advance(11_000 * MS + 59 * MS)
    assert core.ready() is None
    core.advance(11_000 * MS + 60 * MS)
    while core.feed():
        pass
    assert answered(core) == [11]


def test_verifying_slower_than_windows_come_still_answers():
    core, found = pipeline(), []
    for slot in range(80, 240):                                 # 20 windows, and time for 3 of 4 of their frames
        core.add_frame(Frame(slot * 125 * MS, np.zeros((2, 2, 3), np.uint8)))
        core.advance()
        if slot % 4:
            core.feed()
        found += answered(core)
    assert len(found) >= 10 and found == sorted(found) and max(found) >= 28
    assert core.statistics()['window_overtaken'] > 0


def test_verifying_newest_window_wins():
    core = pipeline()
    send(core, range(10_125, 12_001, 125))
    assert answered(core) == [12]
    assert core.statistics()['window_overtaken'] == 1 and 11 in core._engine.closed


def test_verifying_recording_answers_every_window():
    core = pipeline(newest_wins=False)
    send(core, range(10_125, 12_001, 125))
    assert answered(core) == [11, 12]


def test_verifying_sliding_windows_share_frames():
    core = pipeline(grid=WindowGrid(stride_frames=4), newest_wins=False)
    send(core, range(10_125, 11_501, 125))
    assert [window for window in answered(core)][-2:] == [22, 23]
    assert core._engine.slots[23] == list(range(10_625, 11_501, 125))


def test_verifying_drafts_go_to_the_engine_whatever_is_open():
    core = pipeline()
    assert core.offer(draft(11)) is None and core._engine.drafts == [(11, False)]
    send(core, [10_125])
    core.offer(draft(11, 1))
    assert core._engine.drafts[-1] == (11, True)


def test_verifying_draft_of_another_grid_is_refused():
    core = pipeline()
    assert core.offer(draft(11, end_ns=5)) == 'foreign_window'
    assert core._engine.drafts == [] and core.statistics()['draft_foreign_window'] == 1


def test_verifying_refused_frame_gives_its_window_up_and_goes_on():
    core = pipeline()
    with pytest.raises(CrossSpecError, match='too small'):
        send(core, [10_125], height=1)
    assert core.statistics()['window_frame_refused'] == 1
    send(core, range(11_125, 12_001, 125))
    assert answered(core) == [12]


def test_verifying_rehearses_once_a_frame():
    core = pipeline()
    send(core, [10_125, 10_250])
    assert core.rehearse(lambda: False) and not core.rehearse(lambda: False)
    send(core, [10_375])
    assert core.rehearse(lambda: False)
    assert core._engine.rehearsed == [(11, 2), (11, 3)]


def test_verifying_time_that_goes_back_begins_anew():
    core = pipeline()
    send(core, range(20_125, 20_600, 125))
    send(core, range(10_125, 11_001, 125))
    assert answered(core) == [11] and core._engine.resets == 1


def test_verifying_reset_forgets_windows_and_drafts():
    core = pipeline()
    core.offer(draft(11))
    send(core, [10_125])
    core.request_reset()
    core.advance()
    assert core._engine.open_windows == {}
    send(core, range(10_125, 11_001, 125))
    assert answered(core) == [11]


def test_verifying_full_queue_keeps_the_newest():
    core = pipeline(queue=2)
    for stamp in (10_125, 10_250, 10_375):
        core.add_frame(Frame(stamp * MS, np.zeros((2, 2, 3), np.uint8)))
    core.advance()
    core.feed()
    assert core._engine.slots[11] == [10_250] and core.statistics()['frames_overflow'] == 1


def test_verifying_empty_prompt_is_refused():
    core = pipeline()
    with pytest.raises(CrossSpecError, match='prompt must not be empty'):
        core.set_prompt('  ')
    assert core.prompt == 'What is happening?'


def test_retracted_caption_has_no_text():
    caption = Caption(1, S, Stage.PARTIAL, 'text', 4, (1,), Mode.CROSS_MODAL, True)
    assert (retracted(caption).stage, retracted(caption).text) == (Stage.RETRACTED, '')


def test_verifying_last_window_waits_no_longer_than_frames_take():
    core = pipeline(frame_grace_ms=500)
    for stamp in range(50, 2000, 50):                           # 20 Hz, 8 ms on the way; nothing after 1950 ms
        core.add_frame(Frame(stamp * MS, np.zeros((2, 2, 3), np.uint8)), (stamp + 8) * MS)
        core.advance((stamp + 8) * MS)
        while core.feed():
            pass
    assert answered(core) == [1]
    core.advance(2031 * MS)
    assert core.ready() is None
    core.advance(2032 * MS)
    while core.feed():
        pass
    assert answered(core) == [2]


def test_verifying_idle_time_prepares_the_oldest_open_window():
    core = pipeline()
    send(core, range(125, 1000, 125))
    assert core.rehearse(lambda: False)
    assert core.rehearse(lambda: False) and core._engine.prepared == [1]
    assert not core.rehearse(lambda: False)


def test_verifying_unpacks_only_frames_that_stand_in_a_slot():
    core, unpacked, ahead = pipeline(), [], []
    stamps = range(10_050, 11_001, 50)                          # 20 frames a second, 8 slots
    for stamp in stamps:
        frame = Frame(stamp * MS, lambda stamp=stamp: unpacked.append(stamp) or np.zeros((2, 2, 3), np.uint8))
        core.prepare(frame)
        ahead += [stamp] * (stamp in unpacked)
        core.add_frame(frame)
        core.advance()
        while core.feed():
            pass
    assert answered(core) == [11]
    in_slots = [max(stamp for stamp in stamps if stamp <= end) for end in range(10_125, 11_001, 125)]
    assert core._engine.slots[11] == in_slots
    assert unpacked == [10_050, *in_slots]                      # the first frame's pace is not known
    assert ahead == unpacked                                    # none was left to the inference thread


def test_verifying_damaged_frame_is_counted_and_the_one_before_it_repeated():
    def damaged():
        raise CrossSpecError('cut off')

    core = pipeline()
    send(core, range(10_125, 10_501, 125))
    core.add_frame(Frame(10_625 * MS, damaged))
    send(core, range(10_750, 11_001, 125))
    assert answered(core) == [11] and core.statistics()['frames_damaged'] == 1
    assert core._engine.slots[11] == [10_125, 10_250, 10_375, 10_500, 10_500, 10_750, 10_875, 11_000]
    with pytest.raises(CrossSpecError, match='cut off'):
        core.prepare(Frame(11_125 * MS, damaged))


class _TurningPrompt(VerifyingPipeline):
    """Another thread asks another question each time this one has read it."""

    @property
    def prompt(self):
        self.turns = getattr(self, 'turns', 0) + 1
        return f'question {self.turns}'

    @prompt.setter
    def prompt(self, value):
        pass


def test_verifying_window_is_opened_with_the_question_it_is_audited_with():
    engine = Engine()
    core = _TurningPrompt(engine, WindowGrid(), '')
    send(core, range(0, 1126, 125))
    core.advance()
    assert engine.open_windows and all(
        core._windows[window_id].prompt == asked for window_id, asked in engine.open_windows.items())
