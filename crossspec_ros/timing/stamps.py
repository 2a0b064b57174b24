"""What the stamps of a topic are worth, judged against the times at which its messages arrived. Pure functions.

A stamp says when something was seen, an arrival (or recording) time when it was there. Their difference, arrival minus
stamp, is a small delay where both come from one clock. Zero stamps, another clock, a clock that is set meanwhile and
single stamps far off all show in it, without any message being looked into.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNSTAMPED, OFF = 'unstamped', 'stamp_off'
"""Causes for which a message is not used: its stamp is zero, or far from those around it."""

STEP_NS = 2_000_000_000         # offsets of one clock lie closer from message to message
APART_NS = 5_000_000_000        # no delay is as long: two clocks that differ by more are not one
_NEAR_ZERO_NS = 60_000_000_000  # a clock that began at zero may well say zero
_SLOWEST_NS = 60_000_000_000    # from picture to picture of the slowest camera
_MIN_RUN = 3                    # messages that make a clock; fewer are off
_MIN_SHARE = 0.02
_MAX_CLOCKS = 16


def is_unstamped(stamp_ns: int, arrival_ns: int) -> bool:
    """Whether a stamp was never filled in: zero, and the clock of arrival is far from there."""
    return stamp_ns == 0 and abs(arrival_ns) > _NEAR_ZERO_NS


def apart_limit_ns(length_ns: int) -> int:
    """By how much stamps of two topics may differ in a recording of this length before they are of two clocks."""
    return min(APART_NS, max(1_000_000_000, length_ns))


@dataclass(frozen=True)
class Clock:
    """One clock that stamped messages of a topic: how many, and arrival minus stamp, ns: median, least and largest."""

    messages: int
    offset_ns: int
    low_ns: int
    high_ns: int

    def has(self, offset_ns: int) -> bool:
        """Whether a message with this offset was stamped by it."""
        return self.low_ns - STEP_NS <= offset_ns <= self.high_ns + STEP_NS


@dataclass(frozen=True)
class StampJudgement:
    """What the stamps of one topic are worth.

    ``clocks``: those that stamped it, the one of most messages first; empty where arrival times must stand in.
    ``unstamped`` and ``off``: numbers of the messages with a zero stamp, and with one far from all others.
    ``frozen``: the stamps hardly move while time goes on.
    """

    messages: int
    clocks: tuple[Clock, ...]
    unstamped: tuple[int, ...] = ()
    off: tuple[int, ...] = ()
    frozen: bool = False

    @property
    def arrival_stands_in(self) -> bool:
        """Whether no stamp says anything, so that arrival times are the only ones."""
        return bool(self.messages) and not self.clocks

    def clock_of(self, arrival_ns: int, stamp_ns: int) -> Clock | None:
        """The clock that stamped a message; None of one without a stamp, or far off."""
        if is_unstamped(stamp_ns, arrival_ns):
            return None
        return next((clock for clock in self.clocks if clock.has(arrival_ns - stamp_ns)), None)

    def cause(self, arrival_ns: int, stamp_ns: int) -> str | None:
        """Why a message is not to be used (``UNSTAMPED``, ``OFF``), None where it is; where arrival times stand in
        none is refused."""
        if self.arrival_stands_in or self.clock_of(arrival_ns, stamp_ns) is not None:
            return None
        return UNSTAMPED if is_unstamped(stamp_ns, arrival_ns) else OFF


def judge(arrival_ns: np.ndarray, stamp_ns: np.ndarray) -> StampJudgement:
    """Judge the stamps of a topic, both int64 (N,), in the order of arrival."""
    arrival_ns, stamp_ns = np.asarray(arrival_ns, np.int64), np.asarray(stamp_ns, np.int64)
    empty = (stamp_ns == 0) & (np.abs(arrival_ns) > _NEAR_ZERO_NS)
    unstamped = tuple(np.flatnonzero(empty).tolist())
    stamped = np.flatnonzero(~empty)
    if not len(stamped):
        return StampJudgement(len(stamp_ns), (), unstamped)
    if _frozen(arrival_ns[stamped], stamp_ns[stamped]):
        return StampJudgement(len(stamp_ns), (), unstamped, frozen=True)
    clocks, off = _clocks((arrival_ns - stamp_ns)[stamped], _step_ns(arrival_ns[stamped], stamp_ns[stamped]))
    return StampJudgement(len(stamp_ns), clocks, unstamped, tuple(stamped[off].tolist()))


def _frozen(arrival_ns: np.ndarray, stamp_ns: np.ndarray) -> bool:
    """Whether stamps of at least three messages move by less than a tenth of what time does."""
    if len(stamp_ns) < _MIN_RUN:
        return False
    moved = np.median(np.abs(np.diff(stamp_ns)))
    return bool(10 * moved < np.median(np.abs(np.diff(arrival_ns))) and np.ptp(stamp_ns) < np.ptp(arrival_ns) // 10)


def _step_ns(arrival_ns: np.ndarray, stamp_ns: np.ndarray) -> int:
    """How far the offset of one clock may move from message to message, ns: further where arrival times have lost
    the pace, as those of a bag that was written again have."""
    if len(stamp_ns) < _MIN_RUN:
        return STEP_NS
    step, pace = np.median(np.diff(stamp_ns)), np.median(np.abs(np.diff(arrival_ns)))
    return max(STEP_NS, int(20 * step)) if 2 * pace < step <= _SLOWEST_NS else STEP_NS


def _clocks(offsets: np.ndarray, step_ns: int) -> tuple[tuple[Clock, ...], np.ndarray]:
    """Clocks that make these offsets (N,), the largest first, and whether (N,) each message is of none of them."""
    starts = np.concatenate(([0], np.flatnonzero(np.abs(np.diff(offsets)) > step_ns) + 1, [len(offsets)]))
    groups: list[list[int]] = []                            # runs by their numbers
    lasts: list[int] = []                                   # newest offset of each group
    for run, (begin, end) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        first = int(offsets[begin])
        found = next((k for k in range(len(groups) - 1, max(-1, len(groups) - 1 - 4 * _MAX_CLOCKS), -1)
                      if abs(lasts[k] - first) <= step_ns), None)
        if found is None:
            found = len(groups)
            groups.append([])
            lasts.append(0)
        groups[found].append(run)
        lasts[found] = int(offsets[end - 1])
    members = [np.concatenate([np.arange(starts[run], starts[run + 1]) for run in group]) for group in groups]
    members.sort(key=len, reverse=True)
    least = max(_MIN_RUN, _MIN_SHARE * len(offsets)) if len(offsets) > _MIN_RUN else 1
    kept = [each for each in members if len(each) >= least][:_MAX_CLOCKS]
    off = np.ones(len(offsets), bool)
    for each in kept:
        off[each] = False
    return tuple(Clock(len(each), int(np.median(offsets[each])), int(offsets[each].min()), int(offsets[each].max()))
                 for each in kept), off


def told_apart(seconds: float) -> str:
    """A difference between clocks as a person would say it: 1.5 s, 3.00 h, 200.0 days."""
    size = abs(seconds)
    if size < 120:
        return f'{size:.1f} s'
    if size < 7200:
        return f'{size / 60:.1f} min'
    return f'{size / 3600:.2f} h' if size < 172_800 else f'{size / 86_400:.1f} days'
