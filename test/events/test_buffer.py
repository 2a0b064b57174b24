"""The ring of newest events: cuts by definition, bounds, views that stay as they are, two threads."""
import threading

import numpy as np
import pytest
from event_streams import assert_same_events, random_events
from hypothesis import given, settings
from hypothesis import strategies as st

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.buffer import BYTES_PER_EVENT, EventBuffer
from crossspec_ros.events.types import Events

SECOND_NS = 1_000_000_000


def at_times(*times_ms: float) -> Events:
    """One event at each time; x is the number of the event."""
    t_ns = (np.array(times_ms) * 1e6).astype(np.int64)
    return Events(
        t_ns,
        np.arange(len(t_ns), dtype=np.uint16),
        np.zeros(len(t_ns), np.uint16),
        np.ones(len(t_ns), np.uint8),
        64,
        48,
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2 ** 32), st.lists(st.integers(0, 400), max_size=6), st.integers(0, 1000), st.integers(0, 1000))
def test_buffer_cuts_by_definition(seed, sizes, start_ms, end_ms):
    events = random_events(seed, sum(sizes))
    buffer = EventBuffer(1 << 20, SECOND_NS)
    begin = 0
    for size in sizes:
        buffer.append(events.part(begin, begin + size))
        begin += size
    keep = (events.t_ns > start_ms * 1_000_000) & (events.t_ns <= end_ms * 1_000_000)
    wanted = Events(events.t_ns[keep], events.x[keep], events.y[keep], events.p[keep], 64, 48)
    assert_same_events(buffer.cut(start_ms * 1_000_000, end_ms * 1_000_000), wanted)
    assert len(buffer) == len(events) and not any(buffer.dropped.values())


def test_buffer_keeps_to_its_bytes_and_forgets_the_oldest():
    events = random_events(1, 50_000)
    buffer = EventBuffer(100_000, 10 * SECOND_NS)
    for begin in range(0, 50_000, 700):
        buffer.append(events.part(begin, begin + 700))
        assert buffer.nbytes <= 100_000
    count = len(buffer)
    assert 100_000 // BYTES_PER_EVENT - 2 * 256 < count <= 100_000 // BYTES_PER_EVENT
    assert buffer.dropped['bytes'] == 50_000 - count
    assert_same_events(buffer.cut(-1, SECOND_NS), events.part(50_000 - count, 50_000))


def test_buffer_takes_one_piece_larger_than_itself():
    events = random_events(1, 50_000)
    buffer = EventBuffer(100_000, 10 * SECOND_NS)
    buffer.append(events)
    assert_same_events(buffer.cut(-1, SECOND_NS), events.part(50_000 - len(buffer), 50_000))


def test_buffer_forgets_what_is_older_than_its_span():
    buffer = EventBuffer(1 << 20, 50_000_000)
    events = random_events(2, 40_000)
    buffer.append(events)
    assert buffer.dropped['expired'] > 0 and buffer.dropped['bytes'] == 0
    newest = int(events.t_ns[-1])
    assert buffer.oldest_ns <= newest - 50_000_000 + 80_000_000
    keep = events.t_ns > newest - 50_000_000
    assert len(buffer.cut(newest - 50_000_000, newest)) == np.count_nonzero(keep)


def test_buffer_gives_views_that_stay_as_they_are():
    buffer = EventBuffer(100_000, 10 * SECOND_NS)
    events = random_events(3, 30_000)
    buffer.append(events.part(0, 200))
    held = buffer.cut(-1, SECOND_NS)
    assert held.t_ns.base is not None
    copy = Events(held.t_ns.copy(), held.x.copy(), held.y.copy(), held.p.copy(), 64, 48)
    buffer.append(events.part(200, 30_000))
    buffer.clear()
    buffer.append(events.part(0, 30_000))
    assert_same_events(held, copy)


def test_buffer_never_keeps_the_arrays_it_is_given():
    buffer = EventBuffer(1 << 20, SECOND_NS)
    events = at_times(1, 2, 3)
    buffer.append(events)
    events.x[:] = 9
    assert buffer.cut(0, SECOND_NS).x.tolist() == [0, 1, 2]


@pytest.mark.parametrize('times_ms, kept, causes', [
    pytest.param((1, 5, 4, 6), (1, 5, 6), {'late': 1}, id='late inside'),
    pytest.param((500, 1, 2), (1, 2), {'time_back': 1}, id='jump inside'),
    pytest.param((500, 1, 700, 3, 2, 4), (3, 4), {'time_back': 3, 'late': 1}, id='two jumps'),
])
def test_buffer_sorts_out_one_piece(times_ms, kept, causes):
    buffer = EventBuffer(1 << 20, SECOND_NS)
    buffer.append(at_times(*times_ms))
    assert buffer.cut(-1, SECOND_NS).t_ns.tolist() == [each * 1_000_000 for each in kept]
    assert {key: value for key, value in buffer.dropped.items() if value} == causes


def test_buffer_starts_over_when_time_jumps_back():
    buffer = EventBuffer(1 << 20, 10 * SECOND_NS)
    buffer.append(at_times(1000, 1001))
    buffer.append(at_times(950, 1002))
    assert buffer.cut(0, 2 * SECOND_NS).t_ns.tolist() == [1_000_000_000, 1_001_000_000, 1_002_000_000]
    buffer.append(at_times(7))
    assert buffer.cut(0, 2 * SECOND_NS).t_ns.tolist() == [7_000_000]
    assert buffer.dropped == {'bytes': 0, 'late': 1, 'time_back': 3, 'size_change': 0, 'expired': 0}
    assert (buffer.oldest_ns, buffer.newest_ns) == (7_000_000, 7_000_000)


def test_buffer_starts_over_when_the_sensor_changes():
    buffer = EventBuffer(1 << 20, SECOND_NS)
    buffer.append(at_times(1, 2))
    buffer.append(random_events(1, 5, width=32, height=24))
    assert buffer.cut(-1, SECOND_NS).width == 32
    assert buffer.dropped['size_change'] == 2


def test_buffer_of_nothing():
    buffer = EventBuffer(1 << 20, SECOND_NS)
    assert (len(buffer), len(buffer.cut(0, SECOND_NS)), buffer.newest_ns, buffer.oldest_ns) == (0, 0, None, None)
    buffer.append(Events.empty(64, 48))
    assert buffer.cut_parts(0, SECOND_NS) == ()


def test_buffer_is_read_while_it_is_written():
    events = random_events(4, 200_000, span_us=2_000_000)
    buffer = EventBuffer(400_000, 10 * SECOND_NS)
    wrong, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            newest = buffer.newest_ns
            part = buffer.cut((newest or 0) - 30_000_000, newest or 0)
            begin = np.searchsorted(events.t_ns, part.t_ns[0]) if len(part) else 0
            # All of a cut comes from one stretch of the stream, whatever is appended meanwhile.
            if len(part) and (np.any(np.diff(part.t_ns) < 0) or part.t_ns[-1] > events.t_ns[-1]
                              or not np.isin(part.x[0], events.x[begin:begin + 64])):
                wrong.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    for begin in range(0, 200_000, 500):
        buffer.append(events.part(begin, begin + 500))
    done.set()
    reader.join()
    assert not wrong


@pytest.mark.parametrize('arguments, word', [
    pytest.param((100, 1), 'max_bytes', id='bytes'), pytest.param((1 << 20, 0), 'max_span_ns', id='span')])
def test_buffer_refuses_bounds(arguments, word):
    with pytest.raises(CrossSpecError, match=word):
        EventBuffer(*arguments)
