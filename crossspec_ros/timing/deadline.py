"""Deadlines of messages kept by a clock of our own, where publishers offer none."""
from __future__ import annotations

from collections import deque
from statistics import median

_LEARNT, _KEPT = 16, 64


class DeadlineKeeper:
    """Counts as DDS does: one miss for each whole ``deadline`` that passes without a message.

    ``deadline_ns`` 0: three times the interval at which messages were lately sent, known after some. Times are ns of a
    clock that never jumps. Counting begins with the first message after `rest`.
    """

    def __init__(self, deadline_ns: int = 0) -> None:
        self._given_ns = deadline_ns
        self._intervals: deque[int] = deque(maxlen=_KEPT)
        self._sent_ns: int | None = None
        self.missed = 0
        self.rest()

    def rest(self) -> None:
        """Nothing is expected until the next message comes."""
        self._last_ns: int | None = None
        self._sent_ns = None
        self._counted = 0                                       # misses since the newest message

    @property
    def deadline_ns(self) -> int:
        """The largest gap that is no miss; 0 while it is not known."""
        if self._given_ns or len(self._intervals) < _LEARNT:
            return self._given_ns
        return 3 * round(median(self._intervals))

    def seen(self, now_ns: int, sent_ns: int | None = None) -> None:
        """A message came. ``sent_ns``: when it was sent, by any clock: messages that waited come in a burst."""
        self.check(now_ns)
        sent_ns = sent_ns or now_ns
        if self._sent_ns is not None:
            self._intervals.append(max(1, sent_ns - self._sent_ns))
        self._sent_ns = sent_ns
        self._last_ns, self._counted = now_ns, 0

    def check(self, now_ns: int) -> int:
        """Count what was missed by now; returns how many since the last look."""
        deadline_ns = self.deadline_ns
        if self._last_ns is None or not deadline_ns:
            return 0
        new = max(0, (now_ns - self._last_ns) // deadline_ns - self._counted)
        self._counted += new
        self.missed += new
        return new
