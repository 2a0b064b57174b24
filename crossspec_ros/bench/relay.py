"""A link between two network interfaces of the kernel (TUN), in user space: delay, loss and cuts at will.

A process of its own: ``python -m crossspec_ros.bench.relay FD FD``, the two of TUN devices. It reads conditions, a JSON
object a line, from its input, and answers each with the packets that went through since the last one.
"""
from __future__ import annotations

import heapq
import json
import os
import random
import select
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

_MOST_WAITING = 20_000                                          # packets on the way, as a long cable holds
_PACKET = 65536
_IDLE_S = 0.5


@dataclass(frozen=True)
class Conditions:
    """What a link does to packets: one-way ``delay_ms``, share lost by chance in each direction, or nothing passes."""

    delay_ms: float = 0.0
    loss: float = 0.0
    cut: bool = False

    def line(self) -> str:
        """As the relay reads it."""
        return json.dumps(asdict(self))


class Relay:
    """Packets from each end to the other; ``seed`` decides which are lost."""

    def __init__(self, ends: tuple[int, int], seed: int = 0) -> None:
        self.conditions = Conditions()
        self.counts: Counter[str] = Counter()
        self._other = {ends[0]: ends[1], ends[1]: ends[0]}
        self._chance = random.Random(seed)
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._number = 0

    def take(self, end: int, packet: bytes, now_s: float) -> None:
        """A packet has come out of an end."""
        self.counts['packets'] += 1
        self.counts['bytes'] += len(packet)
        if self.conditions.cut:
            self.counts['cut'] += 1
        elif self._chance.random() < self.conditions.loss:
            self.counts['lost'] += 1
        elif len(self._waiting) >= _MOST_WAITING:
            self.counts['overflow'] += 1
        else:
            self._number += 1
            heapq.heappush(self._waiting, (now_s + self.conditions.delay_ms / 1000, self._number, self._other[end],
                                           packet))

    def due(self, now_s: float) -> list[tuple[int, bytes]]:
        """What goes into which end by now, in order."""
        passed = []
        while self._waiting and self._waiting[0][0] <= now_s:
            _, _, end, packet = heapq.heappop(self._waiting)
            passed.append((end, packet))
        return passed

    def wait_s(self, now_s: float) -> float:
        """How long nothing is due."""
        return max(0.0, self._waiting[0][0] - now_s) if self._waiting else _IDLE_S

    def run(self, orders: int) -> None:
        """Until the input with the orders ends."""
        ears = [*self._other, orders]
        while True:
            for end, packet in self.due(time.monotonic()):
                os.write(end, packet)
            for ear in select.select(ears, [], [], self.wait_s(time.monotonic()))[0]:
                if ear != orders:
                    self.take(ear, os.read(ear, _PACKET), time.monotonic())
                elif not self._obey(os.read(orders, _PACKET)):
                    return

    def _obey(self, said: bytes) -> bool:
        for line in said.splitlines():
            self.conditions = Conditions(**json.loads(line))
            print(json.dumps(self.counts), flush=True)
            self.counts.clear()
        return bool(said)


def main() -> int:
    """Run between the two ends that the command line names."""
    first, second = (int(word) for word in sys.argv[1:3])
    Relay((first, second)).run(sys.stdin.fileno())
    return 0


if __name__ == '__main__':
    sys.exit(main())
