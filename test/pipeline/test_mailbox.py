"""What one thread leaves for another: newest or joined, never lost, never twice."""
import sys
import threading
from collections import Counter

import pytest

from crossspec_ros.pipeline.mailbox import Mailbox


@pytest.fixture(autouse=True)
def busy_switching():
    """Threads change places as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def hammer(box: Mailbox, values_of, threads: int = 4) -> list:
    """Put ``values_of(thread)`` from each thread while this one takes; everything taken, in order."""
    putters = [threading.Thread(target=lambda k=k: [box.put(value) for value in values_of(k)]) for k in range(threads)]
    for putter in putters:
        putter.start()
    taken = []
    while any(putter.is_alive() for putter in putters) or box.peek() is not None:
        value = box.take()
        taken += [] if value is None else [value]
    for putter in putters:
        putter.join()
    return taken


def test_mailbox_is_empty_after_a_take():
    box = Mailbox()
    box.put('a')
    assert (box.peek(), box.take(), box.take(), box.peek()) == ('a', 'a', None, None)


def test_mailbox_keeps_the_newest():
    box = Mailbox()
    box.put(1)
    box.put(2)
    assert box.take() == 2


def test_mailbox_joins_what_waits():
    box = Mailbox(join=lambda waiting, new: waiting + new)
    for value in ('a', 'b', 'c'):
        box.put(value)
    assert box.take() == 'abc'


def test_mailbox_counts_of_many_threads_are_all_there():
    box = Mailbox(join=lambda waiting, new: waiting + new)
    taken = hammer(box, lambda k: [Counter({f'cause {k}': 1, 'any': 1})] * 2000)
    assert sum(taken, Counter()) == Counter({'any': 8000, **{f'cause {k}': 2000 for k in range(4)}})


def test_mailbox_values_come_in_order_and_once_and_the_last_one_comes():
    taken = hammer(Mailbox(), lambda k: [(k, i) for i in range(1, 3000)], threads=2)
    assert len(set(taken)) == len(taken)
    for k in range(2):
        own = [i for thread, i in taken if thread == k]
        assert own == sorted(own)
    assert any(i == 2999 for _, i in taken)
