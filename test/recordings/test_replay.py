"""Replay: order, pace, loops and reading ahead, with a clock of the test's own."""
from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.replay import Hooks, Pacer, Prefetch, ReplayMessage, iter_messages, play

MS = 1_000_000


def _message(due_ms: int) -> ReplayMessage:
    return ReplayMessage('t', 'x', 'other', due_ms * MS, due_ms * MS, None, b'1234')


@dataclass
class FakeSource:
    due_ms: tuple[int, ...]
    name: str = 'fake'
    topics: dict = field(default_factory=dict)
    passes: int = 0

    @property
    def start_ns(self):
        return self.due_ms[0] * MS if self.due_ms else 0

    @property
    def end_ns(self):
        return self.due_ms[-1] * MS if self.due_ms else 0

    def messages(self, start_ns):
        self.passes += 1
        return (_message(due) for due in self.due_ms if due * MS >= start_ns)

    def close(self):
        pass


class FakeTime:
    """A monotonic clock that only moves when somebody waits or works."""

    def __init__(self):
        self.now_ns = 10 ** 15

    def __call__(self):
        return self.now_ns

    def event(self):
        """An Event whose wait lets this clock run on."""
        event = threading.Event()

        def wait(timeout_s=None):
            self.now_ns += round(timeout_s * 1e9)
            return event.is_set()
        event.wait = wait
        return event


def _play(source, rate=1.0, work_ms=0, **options):
    clock = FakeTime()
    pacer = Pacer(rate, clock_ns=clock)
    start = clock.now_ns
    played, ticks, loops = [], [], []
    stopped = clock.event()

    stop_after = options.pop('stop_after', None)

    def on_message(message):
        played.append((message.due_ns // MS, (clock.now_ns - start) / MS))
        clock.now_ns += work_ms * MS
        if len(played) == stop_after:
            stopped.set()
    hooks = Hooks(on_message, clock=ticks.append, looped=loops.append, stopped=stopped)
    passes = play(source, pacer, hooks, **options)
    return played, ticks, loops, passes, pacer


@pytest.mark.parametrize(('rate', 'expected'), [pytest.param(1.0, [0, 10, 30, 35], id='as_recorded'),
                                                pytest.param(0.5, [0, 20, 60, 70], id='half'),
                                                pytest.param(4.0, [0, 2.5, 7.5, 8.75], id='four_times')])
def test_play_hands_messages_on_at_their_stamps_divided_by_the_rate(rate, expected):
    played, *_ = _play(FakeSource((100, 110, 130, 135)), rate)
    assert [due for due, _ in played] == [100, 110, 130, 135]
    assert [at for _, at in played] == pytest.approx(expected, abs=0.01)


def test_play_without_a_rate_waits_for_nothing():
    played, ticks, *_ = _play(FakeSource((100, 200, 90_000)), math.inf)
    assert [at for _, at in played] == [0, 0, 0]
    assert ticks == [100 * MS, 200 * MS, 90_000 * MS]


def test_play_clock_never_goes_back_and_is_never_behind_a_message():
    ticks = _play(FakeSource((100, 150, 151)), clock_hz=200)[1]
    assert ticks == sorted(ticks)
    assert len(ticks) >= 10
    assert ticks[-1] >= 151 * MS


def test_play_loops_from_the_start_and_tells_each_time():
    source = FakeSource((100, 110))
    played, ticks, loops, passes, _ = _play(source, loop=True, stop_after=5)
    assert [due for due, _ in played] == [100, 110, 100, 110, 100]
    assert loops == [1, 2] and passes == 3
    assert any(b < a for a, b in zip(ticks, ticks[1:]))


def test_play_tells_when_it_cannot_keep_the_rate(caplog):
    source = FakeSource(tuple(range(100, 2100, 10)))
    pacer = _play(source, work_ms=30)[-1]
    assert pacer.pacing.messages == 200
    assert pacer.pacing.late > 150 and pacer.pacing.worst_ms > 3000
    assert sum('cannot be kept' in record.message for record in caplog.records) == 1


def test_play_that_keeps_the_rate_has_no_late_message(caplog):
    pacer = _play(FakeSource(tuple(range(100, 1100, 10))), work_ms=5)[-1]
    assert pacer.pacing.as_dict() == {'messages': 100, 'late': 0, 'mean_late_ms': 0.0, 'worst_late_ms': 0.0}
    assert not caplog.records


@pytest.mark.parametrize(('start_s', 'seconds', 'expected'), [
    pytest.param(0.0, 0.0, [100, 200, 300], id='whole'), pytest.param(0.1, 0.0, [200, 300], id='from'),
    pytest.param(0.0, 0.2, [100, 200], id='for')])
def test_iter_messages_gives_the_part(start_s, seconds, expected):
    messages = iter_messages(FakeSource((100, 200, 300)), start_s, seconds)
    assert [m.due_ns // MS for m in messages] == expected


@pytest.mark.parametrize('start_s', [-1.0, 0.3])
def test_iter_messages_refuses_a_start_outside_the_recording(start_s):
    with pytest.raises(CrossSpecError, match='start'):
        list(iter_messages(FakeSource((100, 200, 300)), start_s))


@pytest.mark.parametrize('rate', [0.0, -1.0, math.nan])
def test_pacer_refuses_a_rate_that_is_none(rate):
    with pytest.raises(CrossSpecError, match='rate'):
        Pacer(rate)


def test_play_of_nothing_is_an_error_not_an_endless_loop():
    with pytest.raises(CrossSpecError, match='no message'):
        _play(FakeSource(()), loop=True)


def test_prefetch_keeps_order_and_passes_errors_on():
    def source():
        yield _message(1)
        yield _message(2)
        raise CrossSpecError('cut file')
    ahead = Prefetch(source())
    assert [next(ahead).due_ns, next(ahead).due_ns] == [MS, 2 * MS]
    with pytest.raises(CrossSpecError, match='cut file'):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


@pytest.mark.parametrize('limits', [pytest.param({'max_messages': 3}, id='messages'),
                                    pytest.param({'max_bytes': 12}, id='bytes')])
def test_prefetch_reads_no_further_than_its_bounds(limits):
    read = []
    reached = threading.Event()

    def source():
        for number in range(100):
            read.append(number)
            if number == 2:
                reached.set()
            yield _message(number)
    ahead = Prefetch(source(), **limits)
    assert reached.wait(5)
    next(ahead)
    ahead.close()
    assert len(read) <= 6


def test_play_ends_its_reading_thread_when_a_hook_raises():
    def fail(message):
        raise KeyError
    before = threading.active_count()
    with pytest.raises(KeyError):
        play(FakeSource(tuple(range(1000))), Pacer(math.inf), Hooks(fail))
    assert threading.active_count() == before
