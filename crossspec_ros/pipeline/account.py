"""The account of an input: what became of every message that was sent to it.

``sent = received + lost`` and ``received = used + waiting + dropped by cause``, at any moment.
"""
from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

FORGOTTEN = 'forgotten'
"""Cause of what a reset, a jump of time or a change of state made pointless."""

UNCHANGED = 'unchanged'
"""Cause of what is in no window since the scene had not changed (`window.when`)."""

FRAMES, PACKETS = 'frames', 'packets'
"""Kinds of messages, and what the names of their counts begin with."""

_NAMES = {
    FRAMES: {'refused': 'image_refused', 'lost': 'image_lost'},
    PACKETS: {'refused': 'packet_refused', 'lost': 'events_lost'},
}


@dataclass(frozen=True)
class Balance:
    """An account at one moment; numbers of messages since the start."""

    received: int = 0
    lost: int = 0
    used: int = 0
    waiting: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def sent(self) -> int:
        """Messages that were sent, as far as the middleware numbers them."""
        return self.received + self.lost

    def entries(self, kind: str) -> dict[str, int]:
        """The balance by the names that diagnostics have; ``kind`` is FRAMES or PACKETS."""
        values = {'received': self.received, 'used': self.used, 'waiting': self.waiting} | dict(self.dropped)
        if self.lost:
            values['lost'] = self.lost
        return {_NAMES[kind].get(cause, f'{kind}_{cause}'): count for cause, count in values.items()}


@dataclass
class _Held:
    """Messages that windows hold together: how many, in how many open windows, and whether one has used them."""

    messages: int
    windows: int
    used: bool = False


class Account:
    """Each message is received once, and then used or dropped once; until then it waits. Any thread may call.

    A message that is in several windows is used by the first that is answered, and dropped when the last is given up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = self._lost = self._used = 0
        self._dropped: Counter[str] = Counter()
        self._held: dict[Hashable, _Held] = {}

    def receive(self, count: int = 1) -> None:
        """Messages came."""
        with self._lock:
            self._received += count

    def lose(self, count: int) -> None:
        """Messages were sent that never came."""
        with self._lock:
            self._lost += count

    def use(self, count: int = 1) -> None:
        """Messages that wait were seen by a window."""
        with self._lock:
            self._used += count

    def drop(self, cause: str, count: int = 1) -> None:
        """Messages that wait will be in no window."""
        if count:
            with self._lock:
                self._dropped[cause] += count

    # ---- messages in windows that are still open

    def hold(self, key: Hashable, windows: int = 1, messages: int = 1) -> None:
        """Messages are in so many open windows; more may be held by a key that is known."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                self._held[key] = _Held(messages, windows)
            else:
                held.messages += messages
                if held.used:
                    self._used += messages

    def join(self, key: Hashable) -> None:
        """One more window holds these."""
        with self._lock:
            if key in self._held:
                self._held[key].windows += 1

    def answer(self, key: Hashable) -> None:
        """A window that holds these was answered."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return
            if not held.used:
                held.used = True
                self._used += held.messages
            self._let_go(key, held, '')

    def give_up(self, key: Hashable, cause: str) -> None:
        """A window that holds these will not be answered."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._let_go(key, held, cause)

    def _let_go(self, key: Hashable, held: _Held, cause: str) -> None:
        held.windows -= 1
        if held.windows <= 0:
            del self._held[key]
            if not held.used:
                self._dropped[cause] += held.messages

    def held(self) -> list[Hashable]:
        """Keys of what windows hold."""
        with self._lock:
            return list(self._held)

    def forget_held(self, cause: str = FORGOTTEN) -> None:
        """All windows are gone."""
        with self._lock:
            lost = sum(held.messages for held in self._held.values() if not held.used)
            self._held.clear()
            if lost:
                self._dropped[cause] += lost

    def balance(self) -> Balance:
        """The account now."""
        with self._lock:
            waiting = self._received - self._used - self._dropped.total()
            return Balance(self._received, self._lost, self._used, waiting, dict(self._dropped))


class Sequences:
    """Numbers that a middleware gives to messages, by publisher: what is missing between those that come."""

    def __init__(self, most: int = 64) -> None:
        self._newest: dict[Hashable, int] = {}
        self._most = most

    def note(self, publisher: Hashable, number: int | None) -> int | None:
        """A message came: how many before it are missing; None where it came already, or is older than one that did.

        A number of 0 or None says nothing: not every middleware numbers messages.
        """
        if not number:
            return 0
        newest = self._newest.pop(publisher, None)
        if newest is not None and number <= newest:
            self._newest[publisher] = newest
            return None
        self._newest[publisher] = number                        # the newest at the end
        if len(self._newest) > self._most:
            del self._newest[next(iter(self._newest))]
        return 0 if newest is None else number - newest - 1


class Lasting:
    """Which causes have gone on for ``after_s``, with no pause above ``pause_s``. Times are seconds of any clock."""

    def __init__(self, after_s: float = 5.0, pause_s: float = 2.5) -> None:
        self._after_s, self._pause_s = after_s, pause_s
        self._counts: dict[str, int] = {}
        self._since: dict[str, tuple[float, float, int]] = {}   # first and newest growth, and the count before them

    def look(self, counts: Mapping[str, int], now_s: float) -> dict[str, tuple[int, float]]:
        """What lasts, by cause: how many in how many seconds. Look often: a growth counts when it is seen."""
        for cause, count in counts.items():
            before = self._counts.get(cause, 0)
            self._counts[cause] = count
            if count > before:
                first, newest, base = self._since.get(cause, (now_s, now_s, before))
                if now_s - newest > self._pause_s:
                    first, base = now_s, before
                self._since[cause] = first, now_s, base
        self._since = {cause: kept for cause, kept in self._since.items() if now_s - kept[1] <= self._pause_s}
        return {cause: (self._counts[cause] - base, newest - first)
                for cause, (first, newest, base) in self._since.items() if newest - first >= self._after_s}
