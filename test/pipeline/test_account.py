"""What became of every message: the account itself, and that the pipelines leave nothing out of it."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_drafting import packet
from test_drafting import pipeline as drafting
from test_verifying import MS
from test_verifying import pipeline as verifying

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.slots import Frame
from crossspec_ros.pipeline import advice
from crossspec_ros.pipeline.account import FRAMES, PACKETS, Account, Balance, Lasting, Sequences
from crossspec_ros.pipeline.advice import Facts
from crossspec_ros.pipeline.frame_latency import AgeBook
from crossspec_ros.timing.window import WindowGrid


def test_account_message_of_two_windows_is_used_once():
    account = Account()
    account.receive(3)
    for slot, windows in ((1, 2), (2, 2), (3, 1)):
        account.hold(slot, windows)
    account.answer(1)
    account.answer(1)
    account.give_up(2, 'few')
    account.answer(2)
    account.give_up(3, 'few')
    assert account.balance() == Balance(3, 0, 2, 0, {'few': 1})


def test_account_more_messages_of_a_slot_share_its_fate():
    account = Account()
    account.receive(4)
    account.hold(1, 2)
    account.hold(1, 2)
    account.answer(1)
    account.hold(1, 2)
    assert account.balance().used == 3 and account.balance().waiting == 1
    account.forget_held()
    account.drop('late')
    assert account.balance() == Balance(4, 0, 3, 0, {'late': 1})


def test_balance_names_its_counts_as_diagnostics_do():
    balance = Balance(9, 2, 5, 1, {'refused': 2, 'late': 1})
    assert balance.sent == 11
    assert balance.entries(FRAMES) == {'frames_received': 9, 'frames_used': 5, 'frames_waiting': 1, 'image_refused': 2,
                                       'frames_late': 1, 'image_lost': 2}
    assert balance.entries(PACKETS)['packet_refused'] == 2 and balance.entries(PACKETS)['events_lost'] == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200))
def test_sequences_tell_what_is_missing_of_each_publisher(sent):
    """Publishers number by themselves; of what one sends between its first and last message that came, all is told."""
    sequences, numbers, came = Sequences(), {}, {}
    missing = 0
    for publisher, arrives in sent:
        numbers[publisher] = numbers.get(publisher, 0) + 1
        if arrives:
            missing += sequences.note(publisher, numbers[publisher])
            assert sequences.note(publisher, numbers[publisher]) is None        # the same again
            came.setdefault(publisher, []).append(numbers[publisher])
    assert missing == sum(1 + each[-1] - each[0] - len(each) for each in came.values())


def test_sequences_of_a_middleware_that_numbers_nothing_miss_nothing():
    sequences = Sequences()
    assert [sequences.note('a', number) for number in (None, 0, None)] == [0, 0, 0]


def test_sequences_remember_the_newest_publishers():
    sequences = Sequences(most=2)
    for publisher in 'abc':
        sequences.note(publisher, 10)
    assert sequences.note('a', 20) == 0 and sequences.note('c', 20) == 9


@pytest.mark.parametrize('grown_at, lasts', [
    pytest.param(range(0, 5), {}, id='four seconds'),
    pytest.param(range(0, 7), {'late': (7, 6.0)}, id='six seconds'),
    pytest.param([0, 2, 4, 6], {'late': (4, 6.0)}, id='every other second'),
    pytest.param([0, 1, 2, 5, 6, 7], {}, id='with a pause')])
def test_lasting_tells_what_goes_on(grown_at, lasts):
    lasting, count, told = Lasting(), 0, {}
    for second in range(max(grown_at) + 1):
        count += second in grown_at
        told = lasting.look({'late': count, 'still': 0}, float(second))
    assert told == lasts


def test_lasting_ends_with_its_cause():
    lasting = Lasting()
    for second in range(8):
        told = lasting.look({'late': second + 1}, float(second))
    assert told and not lasting.look({'late': 8}, 11.0)


def test_advice_has_the_numbers_and_what_to_do():
    facts = Facts(FRAMES, latency_ms=204.4, grace_max_ms=60.0, interval_ms=125.0)
    assert advice.of_drops('late', 40, 6.0, facts) == (
        'images come 204 ms after their stamps; frames.grace_max_ms is 60: 40 images in 6 s came when their slots were '
        'settled; raise it, or shorten the way from the camera')
    assert advice.of_stamps('behind', 10800 * 10**9, True, facts).startswith(
        'image stamps are 3.0 h behind the ROS clock; the time of arrival stands for them')
    assert 'messages are dropped' in advice.of_stamps('zero', None, False, Facts(PACKETS))
    assert 'events.stamps: arrival' in advice.of_stamps('zero', None, False, Facts(PACKETS))
    assert advice.of_drops('unused', 400, 6.0, facts) is None
    assert 'draft.grace_max_ms is 500' in advice.of_drops('late', 4, 6.0, Facts(PACKETS, grace_max_ms=500.0))


def test_ages_by_stage_in_their_order():
    ages = AgeBook(keep=4)
    ages.note('encoded', [40.0])
    ages.note('received', [1000.0, 1.0, 2.0, 3.0, 4.0])
    first, second = ages.summary()
    assert (first.stage, first.count, first.p50_ms) == ('received', 4, 2.5) and second.stage == 'encoded'
    ages.reset()
    assert ages.summary() == []


# ---- the pipelines

STEPS = st.lists(st.tuples(
    st.sampled_from(['frame'] * 8 + ['damaged', 'gap', 'back', 'reset', 'answer', 'answer', 'cut', 'refused']),
    st.integers(0, 200)), min_size=5, max_size=120)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([8, 4, 3]), st.integers(1, 8))
def test_verifying_accounts_for_every_frame(steps, stride, queue):
    core = verifying(grid=WindowGrid(stride_frames=stride), queue=queue)
    stamp, sent = 1_000_000, 0

    def damaged():
        raise CrossSpecError('cut off')

    for what, number in steps:
        if what in ('frame', 'damaged', 'refused'):
            stamp += number
            sent += 1
            core.account.receive()
            rgb = np.zeros((1 if what == 'refused' else 2, 2, 3), np.uint8)
            frame = Frame(stamp * MS, damaged if what == 'damaged' else rgb)
            core.add_frame(frame, (stamp + 10) * MS)
        elif what == 'gap':
            stamp += 100 * number
        elif what == 'back':
            stamp -= 20 * number
        elif what == 'reset':
            core.request_reset()
        if number % 3:
            core.advance((stamp + number) * MS)
        if what in ('answer', 'cut'):
            _work(core, cut=what == 'cut')
    core.advance((stamp + 300) * MS)
    _work(core)
    balance = core.account.balance()
    held = core.account._held
    # What waits stands in a slot that is not settled, or in a window that is still open; nothing else does.
    assert set(held) == {slot for window in core._windows.values() for slot in window.own}
    assert balance.received == sent
    assert balance.waiting == len(core._slots._candidates) + sum(not each.used for each in held.values())
    core.reset()
    balance = core.account.balance()
    assert balance.waiting == 0 and balance.received == balance.used + sum(balance.dropped.values())


def _work(core, cut: bool = False) -> None:
    for _ in range(1000):
        try:
            if not core.feed():
                break
        except CrossSpecError:
            continue
    while (window := core.ready()) is not None:
        answer = core.answer(window)
        next(answer)
        if not cut:
            list(answer)
        answer.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(['packet'] * 6 + ['empty', 'wrong', 'gap', 'back', 'reset', 'due', 'due']),
                          st.integers(1, 60)), min_size=5, max_size=80))
def test_drafting_accounts_for_every_packet(steps):
    core, at, sent = drafting(), 0, 0
    for seq, (what, number) in enumerate(steps):
        if what in ('packet', 'empty', 'wrong'):
            at += number
            sent += 1
            core.account.receive()
            try:
                core.add_packet(packet(at, **({'encoding': 'none'} if what == 'wrong' else {})))
            except CrossSpecError:
                pass
        elif what == 'gap':
            at += 100 * number
        elif what == 'back':
            at = max(0, at - 50 * number)
        elif what == 'reset':
            core.reset()
        elif what == 'due':
            for job in core.due(_now(core, at)):
                core.draft(job)
    balance = core.account.balance()
    assert balance.received == sent and balance.waiting >= 0
    core.reset()
    balance = core.account.balance()
    assert balance.waiting == 0 and sent == balance.used + sum(balance.dropped.values())


def _now(core, at_ms: int) -> int:
    return (core._last_packet_ns or 0) + at_ms % 3000 * MS
