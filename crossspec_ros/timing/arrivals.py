"""What arrival tells about stamps: a camera's latency, stamps of another clock, and single ones that cannot be.

All times are ns. ``stamp`` is a message's header stamp, ``now`` the ROS clock when it arrived (0: there is no clock
yet), ``steady`` a clock that never jumps. Nothing here reads a clock.
"""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from crossspec_ros.errors import CrossSpecError

MODES = ('auto', 'header', 'arrival')
"""What stands for a message's time: its stamp, its arrival, or the stamp unless that is of another clock."""

UNSTAMPED, OFF = 'unstamped', 'stamp_off'
"""Causes by which a message is dropped: its stamp is zero, or far from those around it."""

_S = 1_000_000_000
_FOREIGN_NS = 2 * _S            # no camera takes longer from the exposure to here
_AHEAD_NS = _S // 2             # and no stamp is so far ahead where clocks are one
_NEAR_ZERO_NS = 60 * _S         # a clock that began at zero may well say zero
_BACK_NS = _S                   # messages that overtake one another do not do so by more
_SURE_MESSAGES, _SURE_NS = 8, _S    # so many, over so long: what was seen of a stream holds
_DRIFT = 0.25                   # of another clock's offset, a second a second; a backlog that is read shrinks faster
_AGREE = 3                      # odd stamps in a row that fit one another are the stream's new time
_BLOCK_NS = 5 * _S
_KEPT = 64


@dataclass(frozen=True)
class Judged:
    """What to do with a message: take it with ``stamp_ns``, or drop it by ``cause``.

    ``jumped``: the stream goes on in another time. ``switched``: from here on arrival stands for the stamp.
    """

    stamp_ns: int | None
    cause: str | None = None
    jumped: bool = False
    switched: bool = False


@dataclass
class _Stretch:
    """An unbroken run of messages that have something in common."""

    since_ns: int
    offset_ns: int
    count: int = 0

    def sure(self, steady_ns: int) -> bool:
        return self.count >= _SURE_MESSAGES and steady_ns - self.since_ns >= _SURE_NS


class StampJudge:
    """Judges the stamps of one publisher's messages as they arrive. For one thread.

    A stamp of zero says nothing: dropped. One that lies a second before the stamp before it, or seconds after what the
    stream's own latency allows, is odd: dropped, until three in a row fit one another, which is a jump of the stream.
    A backlog that is read at once has old stamps, and is neither. Where every stamp is zero or seconds away from the
    clock, for a second at least, ``auto`` lets arrival stand for it from then on, until `reset`.
    """

    def __init__(self, mode: str = 'auto') -> None:
        if mode not in MODES:
            raise CrossSpecError(f'mode must be one of {", ".join(MODES)}, got {mode!r}')
        self._mode = mode
        self.reset()

    def reset(self) -> None:
        """Time jumped, or the stream begins again."""
        self.by_arrival = self._mode == 'arrival'
        self._zeros = 0                                         # of the newest, how many in a row
        self._offsets: deque[int] = deque(maxlen=_KEPT)         # arrival minus stamp
        self._foreign: _Stretch | None = None
        self._faulty = False                                    # and that for long
        self._stream: _Stretch | None = None
        self._last_ns: int | None = None                        # the newest stamp that was good
        self._suspects: list[int] = []                          # offsets of the newest odd ones, which fit one another
        self._floors: list[int] = []                            # smallest offset, this block's last
        self._block_end_ns = 0

    @property
    def offset_ns(self) -> int | None:
        """Median of arrival minus stamp of the newest messages; None where there was no stamp to measure."""
        return round(median(self._offsets)) if self._offsets else None

    @property
    def fault(self) -> str | None:
        """What is wrong with all stamps lately: zero, behind or ahead; None: nothing."""
        if not self._faulty:
            return None
        if self._zeros:
            return 'zero'
        return 'behind' if self._offsets[-1] > 0 else 'ahead'

    def judge(self, stamp_ns: int, now_ns: int, steady_ns: int) -> Judged:
        """Take the stamp of a message that arrives now."""
        if now_ns <= 0:                                         # nothing to measure by
            return Judged(stamp_ns)
        if stamp_ns == 0 and now_ns < _NEAR_ZERO_NS:
            return Judged(stamp_ns)
        self._look(stamp_ns, now_ns, steady_ns)
        if self.by_arrival:
            return Judged(now_ns)
        if self._mode == 'auto' and self._faulty:
            self.by_arrival = True
            return Judged(now_ns, switched=True)
        if stamp_ns == 0:
            return Judged(None, UNSTAMPED)
        offset_ns = now_ns - stamp_ns
        jumped = False
        if self._odd(stamp_ns, offset_ns, steady_ns):
            if self._suspects and abs(offset_ns - self._suspects[-1]) > _BACK_NS:
                self._suspects.clear()
            self._suspects.append(offset_ns)
            if len(self._suspects) < _AGREE:
                return Judged(None, OFF)
            jumped, self._stream, self._last_ns = True, None, None
            self._floors.clear()
        self._suspects.clear()
        self._take(stamp_ns, offset_ns, steady_ns)
        return Judged(stamp_ns, jumped=jumped)

    def _look(self, stamp_ns: int, now_ns: int, steady_ns: int) -> None:
        """Measure a stamp, and how long stamps have been zero or of another clock."""
        self._zeros = self._zeros + 1 if stamp_ns == 0 else 0
        offset_ns = now_ns - stamp_ns
        if stamp_ns:
            self._offsets.append(offset_ns)
        if stamp_ns and -_AHEAD_NS <= offset_ns <= _FOREIGN_NS:
            self._foreign, self._faulty = None, False
            return
        stretch = self._foreign
        if stretch is None or (stamp_ns and abs(offset_ns - stretch.offset_ns)
                               > _AHEAD_NS + _DRIFT * (steady_ns - stretch.since_ns)):
            stretch = self._foreign = _Stretch(steady_ns, offset_ns)
        stretch.count += 1
        self._faulty = stretch.sure(steady_ns)

    def _odd(self, stamp_ns: int, offset_ns: int, steady_ns: int) -> bool:
        if self._last_ns is None:
            return False
        if stamp_ns < self._last_ns - _BACK_NS:
            return True
        # How far a stamp may be ahead is known once the stream's smallest offset is: a backlog has larger ones.
        known = self._stream is not None and self._stream.sure(steady_ns)
        floor_ns = min(self._floors) if known else min(0, *self._floors)
        return offset_ns < floor_ns - _FOREIGN_NS

    def _take(self, stamp_ns: int, offset_ns: int, steady_ns: int) -> None:
        self._last_ns = max(stamp_ns, self._last_ns or 0)
        if self._stream is None:
            self._stream = _Stretch(steady_ns, offset_ns)
        self._stream.count += 1
        if not self._floors or steady_ns >= self._block_end_ns:
            self._floors = [*self._floors[-1:], offset_ns]
            self._block_end_ns = steady_ns + _BLOCK_NS
        else:
            self._floors[-1] = min(self._floors[-1], offset_ns)


class Latency:
    """How long a camera's messages take from stamp to arrival, over the newest ones."""

    _LEARNT = 8                     # arrivals that must be known before they count
    _KEPT = 32
    _SPARE = 2                      # the longest of these are not waited for: a node that stood still had them
    _JITTER_NS = 20_000_000         # arrivals vary by more than the longest of the last few tells
    _MARGIN, _MARGIN_NS = 0.5, 40_000_000

    def __init__(self) -> None:
        self._delays: deque[int] = deque(maxlen=self._KEPT)

    def add(self, delay_ns: int) -> None:
        """A message arrived so long after its stamp."""
        self._delays.append(delay_ns)

    @property
    def median_ns(self) -> int | None:
        """Median; None while there is none."""
        return round(median(self._delays)) if self._delays else None

    def wait_ns(self) -> int | None:
        """How long to wait for a message, so that all but the slowest few arrive in time; None: not known yet."""
        if len(self._delays) < self._LEARNT:
            return None
        slow_ns = max(0, sorted(self._delays)[-1 - self._SPARE])
        return slow_ns + min(round(self._MARGIN * slow_ns), self._MARGIN_NS) + self._JITTER_NS


class Pace:
    """How soon after a camera's newest frame the next may come, by the stamps of those before it."""

    _LEARNT = 8                     # intervals that must be known before they count
    _KEPT = 32
    _SHARE = 0.9                    # of the shortest of them: stamps jitter

    def __init__(self) -> None:
        self._intervals: deque[int] = deque(maxlen=self._KEPT)
        self._newest_ns: int | None = None

    def add(self, stamp_ns: int) -> None:
        """A frame came. One that is not after those before it says that nothing is known of the order here."""
        if self._newest_ns is not None:
            if stamp_ns <= self._newest_ns:
                self._intervals.clear()
            else:
                self._intervals.append(stamp_ns - self._newest_ns)
        self._newest_ns = max(stamp_ns, self._newest_ns or 0)

    @property
    def next_ns(self) -> int | None:
        """The earliest stamp that the next frame is likely to have; None: not known yet."""
        if len(self._intervals) < self._LEARNT:
            return None
        return self._newest_ns + int(self._SHARE * min(self._intervals))


def offset_in_words(offset_ns: int) -> str:
    """An offset (arrival minus stamp) for people, e.g. ``3.0 h behind`` or ``204 ms behind``."""
    size = abs(offset_ns) / _S
    for unit, seconds in (('d', 86400.0), ('h', 3600.0), ('min', 60.0), ('s', 1.0)):
        if size >= (seconds if unit != 'min' else 120.0):
            value = f'{size / seconds:.1f} {unit}'
            break
    else:
        value = f'{1000 * size:.0f} ms'
    return f'{value} {"behind" if offset_ns >= 0 else "ahead of"}'
