"""The bounded queue of packets."""
import numpy as np

from crossspec_ros.events.types import Packet
from crossspec_ros.pipeline.packet_queue import PacketQueue


def packet(seq: int, size: int = 10) -> Packet:
    return Packet('evt3', 4, 4, seq, 0, 0, np.zeros(size, np.uint8))


def test_packet_queue_is_first_in_first_out():
    queue = PacketQueue(100)
    assert queue.push(packet(1)) == 0 and queue.push(packet(2)) == 0
    assert [queue.pop().seq, queue.pop().seq, queue.pop()] == [1, 2, None]


def test_packet_queue_full_drops_the_oldest():
    queue = PacketQueue(25)
    assert [queue.push(packet(seq)) for seq in range(4)] == [0, 0, 1, 1]
    assert queue.pop().seq == 2


def test_packet_queue_keeps_a_packet_larger_than_itself():
    queue = PacketQueue(5)
    assert queue.push(packet(1, size=50)) == 0
    assert queue.push(packet(2, size=50)) == 1
    assert queue.pop().seq == 2


def test_packet_queue_clear_frees_its_bytes():
    queue = PacketQueue(25)
    queue.push(packet(1, size=20))
    queue.clear()
    assert queue.push(packet(2, size=20)) == 0 and len(queue) == 1


def test_packet_queue_what_comes_meanwhile_waits_for_the_next_time():
    queue = PacketQueue(1000)
    queue.push(packet(0))
    queue.push(packet(1))
    taken = []
    for each in queue.waiting():
        taken.append(each.seq)
        queue.push(packet(each.seq + 10))                       # a stream faster than its decoder
        assert len(taken) < 10
    assert taken == [0, 1] and len(queue) == 2


def test_packet_queue_overflow_while_its_packets_are_taken():
    queue = PacketQueue(25)
    queue.push(packet(0))
    queue.push(packet(1))
    waiting = queue.waiting()
    assert next(waiting).seq == 0
    queue.push(packet(2, size=25))
    assert [each.seq for each in waiting] == [2]
    queue.push(packet(3))
    waiting = queue.waiting()
    queue.clear()
    assert list(waiting) == []
