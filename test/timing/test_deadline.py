"""Deadlines that a node keeps by itself."""
import pytest

from crossspec_ros.timing.deadline import DeadlineKeeper

MS = 1_000_000


def kept(deadline_ms: int, times_ms) -> DeadlineKeeper:
    keeper = DeadlineKeeper(deadline_ms * MS)
    for time_ms in times_ms:
        keeper.seen(time_ms * MS)
    return keeper


@pytest.mark.parametrize('times_ms, missed', [
    pytest.param([0, 100, 200], 0, id='none'),
    pytest.param([0, 100, 450], 3, id='each whole deadline without a message'),
    pytest.param([1000], 0, id='counting begins with the first message')])
def test_deadline_counts_as_dds_does(times_ms, missed):
    assert kept(101, times_ms).missed == missed


def test_deadline_is_counted_while_nothing_comes_and_not_twice():
    keeper = kept(100, [0])
    assert [keeper.check(at * MS) for at in (50, 250, 260, 300)] == [0, 2, 0, 1]
    keeper.seen(399 * MS)
    assert keeper.missed == 3


def test_deadline_is_not_expected_after_a_rest():
    keeper = kept(100, [0])
    keeper.rest()
    assert keeper.check(10_000 * MS) == 0 and keeper.missed == 0


def test_deadline_is_learnt_from_when_messages_were_sent():
    keeper = DeadlineKeeper()
    assert keeper.deadline_ns == 0 and keeper.check(10**12) == 0
    for number in range(40):                                    # all come at once, as after a stall
        keeper.seen(5_000 * MS + number, number * 20 * MS + 1)
    assert keeper.deadline_ns == 60 * MS
