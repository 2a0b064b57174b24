"""One file of a recording, read by itself: what each kind of storage gives, and how parts are joined in time."""
from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

CDR = 'cdr'
ROS1 = 'ros1'
READABLE = (CDR, ROS1)
"""Serialisations that messages can be read from; ROS 1 bytes are made into CDR."""

NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, '')

Item = tuple[int, int, bytes]
"""(number of the channel, recording time in ns, the message's bytes)."""


@dataclass(frozen=True)
class Channel:
    """A topic as one recorder wrote it into one file; ``count`` is what the file itself counts."""

    topic: str
    type: str
    serialisation: str
    definition: MessageDefinition
    count: int


class Storage(Protocol):
    """One open file. ``trouble`` says in one sentence what of the file cannot be read, or is empty."""

    path: Path
    channels: tuple[Channel, ...]
    start_ns: int                   # of the first message; 0 without one
    end_ns: int                     # of the last message
    trouble: str

    def messages(self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None) -> Iterator[Item]:
        """Messages of the channels ``wanted`` recorded in [start_ns, stop_ns), in the order of recording."""

    def close(self) -> None:
        """Give the file back; closing twice is fine."""


def within(log_ns: int, start_ns: int | None, stop_ns: int | None) -> bool:
    """Whether a time lies in [start_ns, stop_ns), None being without an end."""
    return (start_ns is None or log_ns >= start_ns) and (stop_ns is None or log_ns < stop_ns)


def in_order(parts: Iterable[tuple[int, Callable[[], Iterator[Item]]]]) -> Iterator[Item]:
    """The items of all parts in the order of time.

    A part is (time of its first item, how to open it), its items in order; it is opened when its time has come, so
    that of parts which follow each other only one is in memory. Items of one time keep the order of the parts.
    """
    waiting = sorted(((start_ns, number, opened) for number, (start_ns, opened) in enumerate(parts)),
                     key=lambda part: part[:2], reverse=True)
    heap: list[tuple[int, int, Item, Iterator[Item]]] = []
    while heap or waiting:
        while waiting and (not heap or waiting[-1][0] <= heap[0][0]):
            _, number, opened = waiting.pop()
            items = opened()
            if (first := next(items, None)) is not None:
                heapq.heappush(heap, (first[1], number, first, items))
        if not heap:
            continue
        _, number, item, items = heap[0]
        yield item
        following = next(items, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following[1], number, following, items))
