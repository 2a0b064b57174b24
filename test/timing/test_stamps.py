"""Stamps judged against the times of arrival: what is dropped, what is another clock, what stands in."""
from __future__ import annotations

import numpy as np
import pytest

from crossspec_ros.timing.stamps import OFF, UNSTAMPED, apart_limit_ns, judge, told_apart

S = 1_000_000_000
START = 1_726_000_000 * S
ARRIVAL = START + np.arange(20, dtype=np.int64) * S // 5
STAMPS = ARRIVAL - S // 100


def _changed(**values):
    stamps = STAMPS.copy()
    for number, value in values.items():
        stamps[int(number[1:])] = value
    return stamps


def test_judge_good_stamps_of_one_clock():
    judgement = judge(ARRIVAL, STAMPS)
    assert [(clock.messages, clock.offset_ns) for clock in judgement.clocks] == [(20, S // 100)]
    assert (judgement.unstamped, judgement.off, judgement.arrival_stands_in) == ((), (), False)


@pytest.mark.parametrize('where', [0, 7, 19])
@pytest.mark.parametrize(('stamp_ns', 'cause'), [
    pytest.param(0, UNSTAMPED, id='zero'), pytest.param(4_000_000_000 * S, OFF, id='future'),
    pytest.param(START - 86_400 * S, OFF, id='yesterday'), pytest.param(S, OFF, id='a_second_after_1970')])
def test_judge_finds_the_one_that_is_off(where, stamp_ns, cause):
    stamps = _changed(**{f'n{where}': stamp_ns})
    judgement = judge(ARRIVAL, stamps)
    assert (judgement.unstamped, judgement.off) == (((where,), ()) if cause == UNSTAMPED else ((), (where,)))
    assert [judgement.cause(a, s) for a, s in zip(ARRIVAL.tolist(), stamps.tolist())] == [
        cause if number == where else None for number in range(20)]


def test_judge_every_second_stamp_far_off_leaves_the_others():
    stamps = STAMPS.copy()
    stamps[::2] += np.arange(10) ** 2 * 1000 * S + 3600 * S
    judgement = judge(ARRIVAL, stamps)
    assert judgement.off == tuple(range(0, 20, 2)) and judgement.clocks[0].messages == 10


def test_judge_two_clocks_in_turn_and_one_set_meanwhile():
    in_turn, meanwhile = STAMPS.copy(), STAMPS.copy()
    in_turn[1::2] -= 7200 * S
    meanwhile[12:] -= 7200 * S
    for stamps, counts in ((in_turn, [10, 10]), (meanwhile, [12, 8])):
        judgement = judge(ARRIVAL, stamps)
        assert [clock.messages for clock in judgement.clocks] == counts and not judgement.off
        assert sorted(clock.offset_ns for clock in judgement.clocks) == [S // 100, S // 100 + 7200 * S]


@pytest.mark.parametrize('stamps', [
    pytest.param(np.zeros(20, np.int64), id='all_zero'), pytest.param(np.full(20, START), id='frozen'),
    pytest.param(np.arange(20, dtype=np.int64) ** 3 * 1000 * S, id='of_no_clock')])
def test_judge_stamps_that_say_nothing_lets_arrival_stand_in(stamps):
    judgement = judge(ARRIVAL, stamps)
    assert judgement.arrival_stands_in
    assert [judgement.cause(a, s) for a, s in zip(ARRIVAL.tolist(), stamps.tolist())] == [None] * 20


def test_judge_leaves_a_clock_that_begins_at_zero_as_it_is():
    times = np.arange(20, dtype=np.int64) * S // 5
    judgement = judge(times, times)
    assert not judgement.unstamped and judgement.clocks[0].messages == 20


def test_judge_few_or_no_messages():
    assert judge(np.zeros(0, np.int64), np.zeros(0, np.int64)).messages == 0
    assert judge(ARRIVAL[:1], STAMPS[:1]).clocks[0].messages == 1
    assert judge(ARRIVAL[:3], np.array([0, *STAMPS[1:3]])).unstamped == (0,)


def test_judge_follows_a_stall_of_the_recorder():
    arrival = STAMPS.copy()
    arrival[8:14] = STAMPS[13]                                              # 1 s late, and then all at once
    judgement = judge(arrival, STAMPS)
    assert len(judgement.clocks) == 1 and not judgement.off


def test_limits_and_words():
    assert [apart_limit_ns(round(s * S)) / S for s in (0.2, 3, 600)] == [1, 3, 5]
    assert [told_apart(s) for s in (-1.5, 300, 10_800, 17_280_000)] == ['1.5 s', '5.0 min', '3.00 h', '200.0 days']
