"""When the messages of a bag are due and what their stamps mean, decided from all of them before the first is played.

No single time decides anything: zero stamps and stamps far off are dropped, clocks that differ are brought together,
gaps in which nothing was recorded are shortened. What was done is told, a line each.
"""
from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossspec_ros.recordings.bag import BagReader
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from crossspec_ros.timing.stamps import OFF, STEP_NS, Clock, StampJudgement, apart_limit_ns, judge, told_apart

_NS = 1_000_000_000
_WRITTEN_AGAIN_NS = 60 * _NS        # stamps and recording times this far apart: written again, or another clock
_GAP_NS = 10 * _NS                  # nothing for longer is not waited for
_GAP_STEPS = 20                     # ... nor for that many times what is usual, of slow cameras
_PACE_LOST = 0.05                   # offsets that spread over this part of the recording say nothing of its pace
_TOLD = 5                           # numbers of messages that a line names
_STAMPED = (*EVENT_TYPES, *IMAGE_TYPES)


@dataclass(frozen=True)
class TopicTimes:
    """Recording times and stamps of a topic's messages, int64 (N,), ns; ``stamp_ns`` None where none are judged."""

    log_ns: np.ndarray
    stamp_ns: np.ndarray | None = None


@dataclass(frozen=True)
class Gap:
    """From ``end_ns`` on, in time as recorded, everything is ``cut_ns`` earlier, all gaps before it included."""

    end_ns: int
    cut_ns: int


def read_times(reader: BagReader, topics: Sequence[str]) -> dict[str, TopicTimes]:
    """The times of all messages of these topics; nothing of them is decoded but the stamp."""
    logs: dict[str, list[int]] = {topic: [] for topic in topics}
    stamps: dict[str, list[int]] = {topic: [] for topic in topics}
    for message in reader.messages(list(topics), decode=False):
        if message.type not in _STAMPED:
            logs[message.topic].append(message.log_ns)
        elif (stamp_ns := header_stamp_ns(message.cdr)) is not None:
            logs[message.topic].append(message.log_ns)
            stamps[message.topic].append(stamp_ns)
    kinds = {topic: reader.topics[topic].type for topic in topics}
    return {topic: TopicTimes(np.array(logs[topic], np.int64),
                              np.array(stamps[topic], np.int64) if kinds[topic] in _STAMPED else None)
            for topic in topics}


def header_stamp_ns(cdr: bytes | memoryview) -> int | None:
    """Stamp of a serialised message that begins with a std_msgs/Header, ns; None of one that is too short."""
    if len(cdr) < 12:
        return None
    sec, nanosec = struct.unpack_from('<iI' if cdr[1] & 1 else '>iI', cdr, 4)
    return sec * _NS + nanosec


def with_stamp(cdr: bytes | memoryview, stamp_ns: int) -> bytes:
    """The same serialised message with another stamp in its header."""
    sec, nanosec = divmod(stamp_ns, _NS)
    return bytes(cdr[:4]) + struct.pack('<iI' if cdr[1] & 1 else '>iI', sec, nanosec) + bytes(cdr[12:])


class Timeline:
    """Places messages in one time: that of the recording, or of its stamps where the bag was written again later.

    ``start_ns`` and ``end_ns`` are those of the first and the last message that is used; ``notes`` say what had to be
    done, a line each; ``judged`` holds what the stamps of each topic are worth.
    """

    def __init__(self, times: Mapping[str, TopicTimes]) -> None:
        self.notes: list[str] = []
        self.judged: dict[str, StampJudgement] = {}
        self._shifts: dict[str, dict[Clock, int]] = {}
        self._gaps: list[Gap] = []
        self._offset_ns = 0                                     # recording time minus time here
        for topic, each in times.items():
            if each.stamp_ns is not None and len(each.log_ns):
                self.judged[topic] = judge(each.log_ns, each.stamp_ns)
        self._tell_dropped()
        self.by_stamps = self._written_again(times)
        if self.by_stamps:
            self._join_by_stamps(times)
        else:
            self._join_by_log(times)
        due_ns = self._due_ns(times)
        self._shorten(due_ns)
        self.start_ns = int(due_ns[0]) if len(due_ns) else 0
        self.end_ns = int(due_ns[-1]) - (self._gaps[-1].cut_ns if self._gaps else 0) if len(due_ns) else 0

    # ---- what is played

    def place(self, topic: str, log_ns: int, stamp_ns: int, newest_ns: int) -> tuple[int, int] | str:
        """(due, stamp), ns, of a message, or the cause for which it is not used.

        ``newest_ns`` is when the message before it was due: none is due earlier.
        """
        judgement = self.judged.get(topic)
        if judgement is None:
            raw_ns = self._uncut(newest_ns) if self.by_stamps else log_ns - self._offset_ns
            due_ns = max(newest_ns, self._cut(raw_ns))
            return due_ns, due_ns if stamp_ns == log_ns else stamp_ns
        if judgement.arrival_stands_in:
            raw_ns = self._uncut(newest_ns) if self.by_stamps else log_ns - self._offset_ns
            stamp_ns = raw_ns
        else:
            clock = judgement.clock_of(log_ns, stamp_ns)
            if clock is None:
                return judgement.cause(log_ns, stamp_ns) or OFF
            stamp_ns += self._shifts.get(topic, {}).get(clock, 0)
            raw_ns = max(stamp_ns, self._uncut(newest_ns)) if self.by_stamps else log_ns - self._offset_ns
        due_ns = max(newest_ns, self._cut(raw_ns))
        return due_ns, stamp_ns - (raw_ns - self._cut(raw_ns))

    def placed(self, topic: str, times: TopicTimes) -> list[tuple[int, int]]:
        """(due, stamp), ns, of the messages of a topic that are used, by the times of all of them."""
        found, newest_ns = [], self.start_ns
        stamps = times.log_ns if times.stamp_ns is None else times.stamp_ns
        for log_ns, stamp_ns in zip(times.log_ns.tolist(), stamps.tolist(), strict=True):
            placed = self.place(topic, log_ns, stamp_ns, newest_ns)
            if not isinstance(placed, str):
                newest_ns = placed[0]
                found.append(placed)
        return found

    def first_log_ns(self, start_ns: int) -> int | None:
        """Recording time from which on messages are due at ``start_ns`` or later; None: from the first on."""
        return None if self.by_stamps or start_ns <= self.start_ns else self._uncut(start_ns) + self._offset_ns

    def _cut(self, raw_ns: int) -> int:
        at = bisect_right(self._gaps, raw_ns, key=lambda gap: gap.end_ns)
        return raw_ns - (self._gaps[at - 1].cut_ns if at else 0)

    def _uncut(self, due_ns: int) -> int:
        at = bisect_right(self._gaps, due_ns, key=lambda gap: gap.end_ns - gap.cut_ns)
        return due_ns + (self._gaps[at - 1].cut_ns if at else 0)

    # ---- how it was decided

    def _tell_dropped(self) -> None:
        for topic, judgement in self.judged.items():
            count, empty = judgement.messages, len(judgement.unstamped)
            if judgement.arrival_stands_in:
                why = ('a zero stamp' if empty == count else 'stamps that stand still' if judgement.frozen else
                       'stamps that follow no clock')
                self.notes.append(f'all {count} messages on {topic} have {why}: their recording times stand in')
                continue
            if empty:
                self.notes.append(f'{empty} of {count} messages on {topic} dropped for a zero stamp: '
                                  f'{_numbers(judgement.unstamped)}')
            if judgement.off:
                self.notes.append(f'{len(judgement.off)} of {count} messages on {topic} dropped for a stamp far from '
                                  f'all others: {_numbers(judgement.off)}')

    def _written_again(self, times: Mapping[str, TopicTimes]) -> bool:
        """Whether stamps are the only times that are still the sensors'."""
        with_clock = {topic: judgement.clocks[0] for topic, judgement in self.judged.items() if judgement.clocks}
        if not with_clock or any(abs(clock.offset_ns) <= _WRITTEN_AGAIN_NS for clock in with_clock.values()):
            return False
        return all(self._lost_pace(times[topic], clock) for topic, clock in with_clock.items())

    @staticmethod
    def _lost_pace(times: TopicTimes, clock: Clock) -> bool:
        mine = _of_clock(times, clock)
        log, stamp = times.log_ns[mine], times.stamp_ns[mine]
        if len(log) < 2:
            return True
        moved, span = (float(np.subtract(*np.percentile(each - each[0], (95, 5)))) for each in (log - stamp, stamp))
        return moved > _PACE_LOST * span

    def _join_by_log(self, times: Mapping[str, TopicTimes]) -> None:
        """Bring the clocks of all topics together by their offsets to the recording time."""
        clocks = {topic: judgement.clocks for topic, judgement in self.judged.items() if judgement.clocks}
        if not clocks:
            return
        reference, base = min(((topic, found[0]) for topic, found in clocks.items()),
                              key=lambda item: abs(item[1].offset_ns))
        if abs(base.offset_ns) > _WRITTEN_AGAIN_NS:
            mine = _of_clock(times[reference], base)
            offsets = times[reference].log_ns[mine] - times[reference].stamp_ns[mine]
            self._offset_ns = int(np.sort(offsets)[len(offsets) // 100])    # messages come after their stamps
        logs = np.concatenate([times[topic].log_ns for topic in clocks])
        limit_ns = apart_limit_ns(int(np.subtract(*np.percentile(logs - logs[0], (95, 5)))))
        for topic, found in clocks.items():
            own = min(found, key=lambda clock: abs(clock.offset_ns - base.offset_ns))
            apart_ns = own.offset_ns - base.offset_ns
            apart_ns = apart_ns if abs(apart_ns) > limit_ns else 0
            if apart_ns:
                self._shift(topic, own, apart_ns, reference)
            for clock in found:
                set_by_ns = clock.offset_ns - own.offset_ns
                if abs(set_by_ns) > STEP_NS and clock.high_ns - clock.low_ns < STEP_NS:     # no stall of the recorder
                    self._shift(topic, clock, set_by_ns + apart_ns, topic)

    def _shift(self, topic: str, clock: Clock, apart_ns: int, reference: str) -> None:
        self._shifts.setdefault(topic, {})[clock] = apart_ns
        size, side = told_apart(apart_ns / 1e9), 'behind' if apart_ns > 0 else 'ahead of'
        other = 'its others' if topic == reference else f'those on {reference}'
        what = 'the' if clock.messages == self.judged[topic].messages else clock.messages
        self.notes.append(f'{what} stamps on {topic} are {size} {side} {other}: moved by {apart_ns / 1e9:+.3f} s, as '
                          'the recording times tell')

    def _join_by_stamps(self, times: Mapping[str, TopicTimes]) -> None:
        """Without recording times to go by, topics whose stamps never meet are made to begin together."""
        spans = {topic: np.sort(times[topic].stamp_ns[_of_clock(times[topic], judgement.clocks[0])])[[0, -1]]
                 for topic, judgement in self.judged.items() if judgement.clocks}
        reference = max(spans, key=lambda topic: self.judged[topic].messages)
        low_ns, high_ns = spans[reference]
        slack_ns = max(_GAP_NS, int(high_ns - low_ns))
        for topic, (first_ns, last_ns) in spans.items():
            if first_ns > high_ns + slack_ns or last_ns < low_ns - slack_ns:
                apart_ns = int(low_ns - first_ns)
                self._shifts[topic] = {clock: apart_ns for clock in self.judged[topic].clocks}
                size, side = told_apart(apart_ns / 1e9), 'behind' if apart_ns > 0 else 'ahead of'
                self.notes.append(f'the stamps on {topic} are {size} {side} those on {reference}: moved '
                                  f'by {apart_ns / 1e9:+.3f} s, so that both begin together')

    def _due_ns(self, times: Mapping[str, TopicTimes]) -> np.ndarray:
        """When the messages that are used are due, in order, with all gaps; int64 (M,)."""
        parts: list[tuple[np.ndarray, np.ndarray]] = []         # log, due
        for topic, each in times.items():
            judgement = self.judged.get(topic)
            if judgement is None or judgement.arrival_stands_in:
                if not self.by_stamps:
                    parts.append((each.log_ns, each.log_ns - self._offset_ns))
                continue
            for clock in judgement.clocks:
                mine = _of_clock(each, clock)
                stamp = each.stamp_ns[mine] + self._shifts.get(topic, {}).get(clock, 0)
                parts.append((each.log_ns[mine], stamp if self.by_stamps else each.log_ns[mine] - self._offset_ns))
        if not parts:
            return np.zeros(0, np.int64)
        log, due = (np.concatenate(each) for each in zip(*parts, strict=True))
        return np.maximum.accumulate(due[np.argsort(log, kind='stable')])

    def _shorten(self, due_ns: np.ndarray) -> None:
        """Take what is too long out of gaps in which nothing happens, whole seconds: windows lie as before."""
        steps = np.diff(due_ns)
        if not len(steps):
            return
        longest_ns = max(_GAP_NS, _GAP_STEPS * int(np.median(steps)))
        total_ns = 0
        for at in np.flatnonzero(steps > longest_ns).tolist():
            cut_ns = int(steps[at]) // _NS * _NS
            after_s = (int(due_ns[at]) - int(due_ns[0]) - total_ns) / 1e9
            total_ns += cut_ns
            self._gaps.append(Gap(int(due_ns[at + 1]), total_ns))
            self.notes.append(f'nothing was recorded for {told_apart(int(steps[at]) / 1e9)}, {after_s:.3f} s after the '
                              f'start: shortened to {(int(steps[at]) - cut_ns) / 1e9:.3f} s, later times are moved')


def _of_clock(times: TopicTimes, clock: Clock) -> np.ndarray:
    """Which messages, bool (N,), were stamped by a clock."""
    assert times.stamp_ns is not None
    offsets = times.log_ns - times.stamp_ns
    stamped = (times.stamp_ns != 0) | (np.abs(times.log_ns) <= _WRITTEN_AGAIN_NS)
    return stamped & (offsets >= clock.low_ns) & (offsets <= clock.high_ns)


def _numbers(found: Sequence[int]) -> str:
    """Which messages of a topic, counted from 0."""
    more = f' and {len(found) - _TOLD} more' if len(found) > _TOLD else ''
    return f'number {", ".join(map(str, found[:_TOLD]))}{more}, counted from 0'
