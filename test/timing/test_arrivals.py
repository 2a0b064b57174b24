"""Stamps judged by arrival, and how long a camera takes."""
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.timing.arrivals import OFF, UNSTAMPED, Latency, StampJudge, offset_in_words

S, MS = 1_000_000_000, 1_000_000
BEGIN = 1_700_000_000 * S
HOUR = 3600 * S


def stream(judge: StampJudge, offsets_ns, begin: int = 0, period: int = 40 * MS):
    """Judge a message each 40 ms whose stamps are so much behind its arrival; a callable is given the arrival."""
    judged = []
    for number, offset in enumerate(offsets_ns, begin):
        now = BEGIN + number * period
        stamp = offset(now) if callable(offset) else now - offset
        judged.append((judge.judge(stamp, now, number * period), stamp, now))
    return judged


def test_judge_takes_stamps_of_the_clock():
    judged = stream(StampJudge(), [30 * MS, 204 * MS, 300 * MS, 10 * MS] * 20)
    assert all(each.stamp_ns == stamp and not each.jumped for each, stamp, _ in judged)


@pytest.mark.parametrize('offset, fault', [
    pytest.param(lambda now: 0, 'zero', id='zero'), pytest.param(5 * S, 'behind', id='five seconds behind'),
    pytest.param(-5 * S, 'ahead', id='ahead'), pytest.param(BEGIN - HOUR, 'behind', id='uptime')])
@pytest.mark.parametrize('mode', ['auto', 'header'])
def test_judge_tells_another_clock_and_lets_arrival_stand_for_it(offset, fault, mode):
    judge = StampJudge(mode)
    judged = stream(judge, [offset] * 60)
    switches = [place for place, (each, _, _) in enumerate(judged) if each.switched]
    assert judge.fault == fault
    if mode == 'header':
        assert not switches and not judge.by_arrival
        return
    assert len(switches) == 1 and 24 <= switches[0] <= 28       # once, after a second
    assert all(each.stamp_ns == now for each, _, now in judged[switches[0]:])


@pytest.mark.parametrize('odd', [pytest.param(HOUR, id='behind'), pytest.param(-HOUR, id='ahead'),
                                 pytest.param(lambda now: 0, id='zero'),
                                 pytest.param(-3 * S, id='three seconds ahead')])
def test_judge_drops_one_odd_message_and_goes_on(odd):
    judged = stream(StampJudge(), [30 * MS] * 50 + [odd] + [30 * MS] * 50)
    assert [place for place, (each, _, _) in enumerate(judged) if each.stamp_ns is None] == [50]
    assert judged[50][0].cause == (UNSTAMPED if callable(odd) else OFF)
    assert not any(each.jumped or each.switched for each, _, _ in judged)


@pytest.mark.parametrize('by', [pytest.param(10 * S, id='back'), pytest.param(-1500 * MS, id='not back, and soon')])
def test_judge_follows_a_stream_that_jumps(by):
    judged = stream(StampJudge('header'), [30 * MS] * 50 + [30 * MS + by] * 50)
    dropped = [place for place, (each, _, _) in enumerate(judged) if each.stamp_ns is None]
    jumps = [place for place, (each, _, _) in enumerate(judged) if each.jumped]
    assert (dropped, jumps) == (([50, 51], [52]) if by > 0 else ([], []))


def test_judge_takes_a_backlog_for_what_it_is():
    judge = StampJudge()
    stream(judge, [30 * MS] * 100)
    now = BEGIN + 14 * S                                        # stood still for ten seconds
    late = [BEGIN + 4 * S + k * 40 * MS for k in range(100)] + [now - 20 * MS]      # and of six nothing is left
    judged = [judge.judge(stamp, now + k * MS, 14 * S + k * MS) for k, stamp in enumerate(late)]
    assert [each.stamp_ns for each in judged] == late and judge.fault is None


def test_judge_backlog_at_the_start_is_no_other_clock():
    judge = StampJudge()
    for k in range(400):                                        # eight seconds, read within two
        assert not judge.judge(BEGIN + k * 20 * MS, BEGIN + 8 * S + k * 5 * MS, k * 5 * MS).switched
    assert not judge.by_arrival and judge.fault is None


def test_judge_clock_that_begins_at_zero_may_say_zero():
    judge = StampJudge()
    assert judge.judge(0, 0, 0).stamp_ns == 0                   # no clock yet
    assert judge.judge(0, 5 * MS, MS).stamp_ns == 0


def test_judge_forgets_at_a_reset():
    judge = StampJudge()
    stream(judge, [lambda now: 0] * 60)
    assert judge.by_arrival
    judge.reset()
    assert not judge.by_arrival and judge.judge(5, 10**15, 0).stamp_ns == 5


def test_judge_of_arrival_looks_at_no_stamp():
    judged = stream(StampJudge('arrival'), [HOUR, lambda now: 0, -HOUR])
    assert all(each.stamp_ns == now for each, _, now in judged)


def test_judge_refuses_a_mode_that_does_not_exist():
    with pytest.raises(CrossSpecError, match='auto, header, arrival'):
        StampJudge('clock')


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=30, max_size=120), st.sets(st.integers(10, 29), max_size=4),
       st.integers(2_600, 10**9))
def test_judge_drops_odd_ones_only(delays_ms, odd, off_ms):
    """Whatever the latency does, only stamps far off are dropped, as long as no three of them come in a row."""
    odd = {place for place in odd if not {place - 1, place - 2} & odd}
    offsets = [off_ms * MS if place in odd else delay * MS for place, delay in enumerate(delays_ms)]
    judged = stream(StampJudge('header'), offsets)
    assert {place for place, (each, _, _) in enumerate(judged) if each.stamp_ns is None} == odd


@pytest.mark.parametrize('offset, words', [
    pytest.param(3 * HOUR, '3.0 h behind'), pytest.param(204 * MS, '204 ms behind'),
    pytest.param(-5 * S, '5.0 s ahead of'), pytest.param(86_400 * S * 2, '2.0 d behind'),
    pytest.param(90 * S, '90.0 s behind'), pytest.param(300 * S, '5.0 min behind')])
def test_offset_in_words(offset, words):
    assert offset_in_words(offset) == words


def test_latency_is_the_median_and_waits_for_all_but_the_slowest():
    latency = Latency()
    assert latency.median_ns is None and latency.wait_ns() is None
    for delay in [200, 210, 190, 200, 205, 900, 900, 200, 200, 200]:
        latency.add(delay * MS)
    assert latency.median_ns == 200 * MS and latency.wait_ns() == (210 + 40 + 20) * MS
