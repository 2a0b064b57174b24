"""The last seconds of a graph in memory, bounded in bytes, and the moments cut out of them. Knows no ROS."""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from crossspec_ros.recordings.bag import BagWriter

_S = 1_000_000_000


@dataclass(frozen=True)
class Kept:
    """A serialised message as it came. ``log_ns``: its arrival on the ROS clock; ``cdr``: CDR with its header."""

    topic: str
    type_name: str
    log_ns: int
    cdr: bytes


class Ring:
    """The messages of the last ``seconds``, the oldest out first where they take more than ``max_bytes``."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._span_ns, self.max_bytes = round(seconds * _S), max_bytes
        self._messages: deque[Kept] = deque()
        self.size = 0                                           # bytes held
        self.pushed_out = 0                                     # left for want of room, before their time

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def span_s(self) -> float:
        """Seconds from the oldest message to the newest."""
        return (self._messages[-1].log_ns - self._messages[0].log_ns) / _S if self._messages else 0.0

    def add(self, message: Kept) -> None:
        """Take a message; messages come in the order of their arrival."""
        self._messages.append(message)
        self.size += len(message.cdr)
        while self._messages and message.log_ns - self._messages[0].log_ns > self._span_ns:
            self._remove_oldest()
        while self.size > self.max_bytes and self._messages:
            self._remove_oldest()
            self.pushed_out += 1

    def _remove_oldest(self) -> None:
        self.size -= len(self._messages.popleft().cdr)

    def messages(self) -> list[Kept]:
        """What is held, oldest first."""
        return list(self._messages)

    def clear(self) -> None:
        """Forget all, as after a jump of time."""
        self._messages.clear()
        self.size = 0


@dataclass
class Moment:
    """What was held when something happened, and what came until ``end_ns``."""

    reasons: list[str]
    at_ns: int
    end_ns: int
    max_bytes: int
    messages: list[Kept] = field(default_factory=list)
    size: int = 0
    left_out: int = 0                                           # came in time, but there was no room

    def add(self, message: Kept) -> None:
        """Take a message that came after the moment's start; one that finds no room is counted."""
        if self.size + len(message.cdr) > self.max_bytes:
            self.left_out += 1
            return
        self.messages.append(message)
        self.size += len(message.cdr)

    def extend(self, reason: str, end_ns: int) -> None:
        """Something more happened before the end: the moment goes on until ``end_ns``."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.end_ns = max(self.end_ns, end_ns)


def begin(ring: Ring, reason: str, at_ns: int, after_s: float) -> Moment:
    """A moment of all that the ring holds. What comes after may take as many bytes as the ring may."""
    messages = ring.messages()
    return Moment([reason], at_ns, at_ns + round(after_s * _S), ring.size + ring.max_bytes, messages, ring.size)


def write(moment: Moment, writer: BagWriter) -> dict[str, int]:
    """Write a moment's messages in the order of arrival, byte for byte; returns how many by topic."""
    counts: dict[str, int] = {}
    for message in moment.messages:
        writer.write_cdr(message.topic, message.type_name, message.log_ns, message.cdr)
        counts[message.topic] = counts.get(message.topic, 0) + 1
    return counts
