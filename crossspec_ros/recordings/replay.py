"""Playing a recording by its stamps: the part of the player that needs no ROS.

``due_ns`` is when a message is to be handed on, in the recording's own time; a ``Pacer`` maps it to the monotonic
clock. What is played, and in which order, depends on the recording alone.
"""
from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from crossspec_ros.errors import CrossSpecError

logger = logging.getLogger(__name__)

ROLES = ('events', 'image', 'compressed', 'other')
"""What a message is for the graph: events, raw images, compressed images, or nothing that it needs."""


@dataclass(frozen=True)
class ReplayMessage:
    """One message to be played.

    ``data`` is a Packet or an ImageFrame for the roles events, image and compressed; ``cdr`` are the recorded bytes,
    or None where the source makes its messages as it goes. ``due_ns`` is when it was there (recorded, or the sensor
    had it whole), ``stamp_ns`` its header's stamp.
    """

    topic: str
    type: str
    role: str
    due_ns: int
    stamp_ns: int
    data: Any
    cdr: bytes | None = None


class Source(Protocol):
    """A recording, or something that acts like one."""

    name: str
    topics: dict[str, str]          # topic -> message type
    start_ns: int
    end_ns: int | None              # None: without end

    def messages(self, start_ns: int) -> Iterator[ReplayMessage]:
        """Messages due at or after ``start_ns``, in order of ``due_ns``; may be asked for again, from the start."""

    def close(self) -> None:
        """Give the files back."""


@dataclass
class Pacing:
    """How well a replay kept its time. Lateness is in real ms, after a message's due time."""

    messages: int = 0
    late: int = 0
    worst_ms: float = 0.0
    total_ms: float = 0.0
    behind_ms: float = 0.0

    @property
    def mean_ms(self) -> float | None:
        return self.total_ms / self.messages if self.messages else None

    def as_dict(self) -> dict[str, float | int | None]:
        """For reports: counts, and lateness in ms."""
        return {'messages': self.messages, 'late': self.late, 'mean_late_ms': self.mean_ms,
                'worst_late_ms': self.worst_ms}


class Pacer:
    """Maps recorded time to the monotonic clock and waits.

    ``rate`` is recorded seconds a second; ``math.inf`` does not wait. A message handed on more than ``tolerance_ms``
    after its time counts as late; after one second of being late without a break a warning says that the rate cannot
    be kept, once until it is kept again. Nothing is skipped. Raises CrossSpecError when ``rate`` is not above 0.
    """

    def __init__(self, rate: float = 1.0, *, tolerance_ms: float = 20.0,
                 clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        if not rate > 0:
            raise CrossSpecError(f'rate must be > 0 recorded seconds a second, got {rate}')
        self.rate = rate
        self.pacing = Pacing()
        self._tolerance_ms = tolerance_ms
        self._clock_ns = clock_ns
        self._anchor: tuple[int, int] | None = None         # recorded ns, monotonic ns
        self._late_since_ns: int | None = None
        self._told = False

    def restart(self, recorded_ns: int) -> None:
        """From here on ``recorded_ns`` is now."""
        self._anchor = (recorded_ns, self._clock_ns())
        self._late_since_ns = None

    def now_ns(self) -> int:
        """Recorded time at this moment; CrossSpecError before ``restart``."""
        if self._anchor is None:
            raise CrossSpecError('the pacer must be restarted with the first stamp before it is asked for the time')
        if math.isinf(self.rate):
            return self._anchor[0]
        return self._anchor[0] + round((self._clock_ns() - self._anchor[1]) * self.rate)

    def remaining_s(self, due_ns: int) -> float:
        """Real seconds until a recorded time; below 0 when it has passed."""
        if math.isinf(self.rate):
            return 0.0
        return (due_ns - self.now_ns()) / self.rate / 1e9

    def handed_on(self, due_ns: int) -> None:
        """Note that a message has been handed on now."""
        if math.isinf(self.rate):
            self.pacing.messages += 1
            self._anchor = (due_ns, self._clock_ns())
            return
        late_ms = max(0.0, -1e3 * self.remaining_s(due_ns))
        pacing = self.pacing
        pacing.messages += 1
        pacing.total_ms += late_ms
        pacing.behind_ms = late_ms
        pacing.worst_ms = max(pacing.worst_ms, late_ms)
        if late_ms <= self._tolerance_ms:
            self._late_since_ns, self._told = None, False
            return
        pacing.late += 1
        now = self._clock_ns()
        if self._late_since_ns is None:
            self._late_since_ns = now
        if now - self._late_since_ns > 1_000_000_000 and not self._told:
            self._told = True
            logger.warning('the rate %g cannot be kept: %.0f ms behind; play slower (--rate), or with fewer topics',
                           self.rate, late_ms)


class _End:
    """Ends a prefetch queue, with what went wrong, if anything did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Prefetch:
    """Reads ahead in a thread of its own: at most ``max_messages`` messages and about ``max_bytes`` of them.

    An iterator; errors of the source come out of it. ``close`` ends the thread.
    """

    def __init__(self, source: Iterator[ReplayMessage], max_messages: int = 256, max_bytes: int = 64 << 20) -> None:
        self._queue: queue.Queue[ReplayMessage | _End] = queue.Queue(max_messages)
        self._room = threading.Condition()
        self._bytes = 0
        self._max_bytes = max_bytes
        self._closed = False
        self._thread = threading.Thread(target=self._read, args=(source,), name='prefetch', daemon=True)
        self._thread.start()

    def _read(self, source: Iterator[ReplayMessage]) -> None:
        error: BaseException | None = None
        try:
            for message in source:
                with self._room:
                    self._room.wait_for(lambda: self._closed or self._bytes < self._max_bytes)
                    self._bytes += _size(message)
                if not self._put(message):
                    return
        except BaseException as caught:                 # whatever it is, it belongs to the one who reads
            error = caught
        self._put(_End(error))

    def _put(self, item: ReplayMessage | _End) -> bool:
        while not self._closed:
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Prefetch:
        return self

    def __next__(self) -> ReplayMessage:
        if self._closed:
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, _End):
            self._closed = True
            if item.error is not None:
                raise item.error
            raise StopIteration
        with self._room:
            self._bytes -= _size(item)
            self._room.notify()
        return item

    def close(self) -> None:
        """Stop reading ahead; closing twice is fine."""
        with self._room:
            self._closed = True
            self._room.notify()
        self._thread.join(timeout=5)


def _size(message: ReplayMessage) -> int:
    if message.cdr is not None:
        return len(message.cdr)
    payload = getattr(message.data, 'payload', None)
    return len(payload if payload is not None else getattr(message.data, 'data', b''))


@dataclass
class Hooks:
    """What ``play`` calls, all from the thread that calls ``play``.

    ``message`` gets each message at its time, ``clock`` the recorded time before each message and ``clock_hz`` times
    a real second between them, ``looped`` the number of the pass that begins, before time jumps back.
    """

    message: Callable[[ReplayMessage], None]
    clock: Callable[[int], None] = lambda now_ns: None
    looped: Callable[[int], None] = lambda number: None
    stopped: threading.Event = field(default_factory=threading.Event)


def iter_messages(source: Source, start_s: float = 0.0, seconds: float = 0.0) -> Iterator[ReplayMessage]:
    """One pass: messages from ``start_s`` into the recording, for ``seconds`` (0: to its end).

    Raises CrossSpecError when ``start_s`` is below 0 or after the end.
    """
    if start_s < 0 or seconds < 0:
        raise CrossSpecError(f'start and length must be >= 0 s, got {start_s} and {seconds}')
    start_ns = source.start_ns + round(start_s * 1e9)
    if source.end_ns is not None and start_ns > source.end_ns:
        raise CrossSpecError(f'start must be within the recording {source.name} of '
                             f'{(source.end_ns - source.start_ns) / 1e9:.3f} s, got {start_s} s')
    stop_ns = start_ns + round(seconds * 1e9) if seconds else None
    for message in source.messages(start_ns):
        if stop_ns is not None and message.due_ns >= stop_ns:
            return
        yield message


def play(source: Source, pacer: Pacer, hooks: Hooks, *, start_s: float = 0.0, seconds: float = 0.0,
         loop: bool = False, clock_hz: float = 200.0) -> int:
    """Play a source until its end, or until ``hooks.stopped`` is set when it loops. Returns the number of passes.

    Recorded time jumps back at the start of each further pass. Raises CrossSpecError when the recording cannot be
    read, and when a pass holds no message at all.
    """
    passes = 0
    while not hooks.stopped.is_set():
        if passes:
            hooks.looped(passes)
        ahead = Prefetch(iter_messages(source, start_s, seconds))
        try:
            played = _play_once(ahead, pacer, hooks, source.start_ns + round(start_s * 1e9), clock_hz)
        finally:
            ahead.close()
        passes += 1
        if not played and not hooks.stopped.is_set():
            raise CrossSpecError(f'recording {source.name} has no message from {start_s} s on')
        if not loop:
            break
    return passes


def _play_once(messages: Iterator[ReplayMessage], pacer: Pacer, hooks: Hooks, start_ns: int, clock_hz: float) -> int:
    tick_s = 1.0 / clock_hz
    played = 0
    for message in messages:
        if not played:
            pacer.restart(max(start_ns, message.due_ns))
        while (left_s := pacer.remaining_s(message.due_ns)) > 0:
            if left_s > tick_s:
                hooks.clock(pacer.now_ns())
            if hooks.stopped.wait(min(left_s, tick_s)):
                return played
        if hooks.stopped.is_set():
            return played
        hooks.clock(message.due_ns if math.isinf(pacer.rate) else max(message.due_ns, pacer.now_ns()))
        pacer.handed_on(message.due_ns)
        hooks.message(message)
        played += 1
    return played
