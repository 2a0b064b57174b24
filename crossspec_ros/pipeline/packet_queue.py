"""Packets between the thread that receives them and the one that decodes them, bounded in bytes."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from crossspec_ros.events.types import Packet


class PacketQueue:
    """First in, first out; where ``max_bytes`` of payload are exceeded the oldest go, the newest one always stays."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._packets: deque[Packet] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._packets)

    def push(self, packet: Packet) -> int:
        """Add a packet; returns how many old ones had to go."""
        with self._lock:
            self._packets.append(packet)
            self._bytes += packet.payload.nbytes
            dropped = 0
            while self._bytes > self._max_bytes and len(self._packets) > 1:
                self._bytes -= self._packets.popleft().payload.nbytes
                dropped += 1
            return dropped

    def pop(self) -> Packet | None:
        """The oldest packet, or None."""
        with self._lock:
            if not self._packets:
                return None
            packet = self._packets.popleft()
            self._bytes -= packet.payload.nbytes
            return packet

    def waiting(self) -> Iterator[Packet]:
        """Take what waits now, oldest first; what comes meanwhile is for the next time, so that this always ends."""
        for _ in range(len(self._packets)):
            packet = self.pop()
            if packet is None:
                return
            yield packet

    def clear(self) -> int:
        """Forget all; returns how many."""
        with self._lock:
            forgotten = len(self._packets)
            self._packets.clear()
            self._bytes = 0
            return forgotten
