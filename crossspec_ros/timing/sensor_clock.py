"""From the event sensor's clock to the ROS clock."""
from __future__ import annotations

_JUMP_NS = 1_000_000_000
_BLOCK_NS = 5_000_000_000
_EVER_NS = 1 << 62


class SensorClock:
    """Maps sensor time to ROS time by what arrival stamps tell.

    A packet's stamp is the host's time when its first part arrived, a little after its first event happened. So
    ``stamp - first event's time`` is the clocks' offset plus a delay that is never negative, and the smallest one seen
    lately is the best estimate (the classical minimum filter, which also follows slow drift). ``synchronised`` says
    that both clocks are one already (PTP, or a recording converted so).
    """

    def __init__(self, synchronised: bool = False) -> None:
        self._synchronised = synchronised
        self.jumps = 0
        self.reset()

    def reset(self) -> None:
        """Forget the offset: time jumped or the stream began again."""
        self._block_end_ns: int | None = None
        self._previous: int | None = None                       # smallest offset of the block before
        self._current: int | None = 0 if self._synchronised else None

    @property
    def offset_ns(self) -> int | None:
        """ROS time minus sensor time, ns; None before the first packet with events."""
        known = [offset for offset in (self._previous, self._current) if offset is not None]
        return min(known) if known else None

    def settled(self, stamp_ns: int) -> tuple[int, int] | None:
        """First events, from the earliest to the latest, ns, that leave the offset as it is when `observe` takes them
        with this stamp; None where any may move it.
        """
        offset = self.offset_ns
        if self._synchronised:
            return -_EVER_NS, _EVER_NS
        if offset is None or self._block_end_ns is None or stamp_ns > self._block_end_ns:
            return None
        return stamp_ns - offset - _JUMP_NS, stamp_ns - offset

    def observe(self, stamp_ns: int, first_event_ns: int) -> bool:
        """Take a packet's stamp and its first event's time; True where the clocks jumped apart, and it began anew."""
        if self._synchronised:
            return False
        sample, offset = stamp_ns - first_event_ns, self.offset_ns
        jumped = offset is not None and abs(sample - offset) > _JUMP_NS
        if jumped:
            self.jumps += 1
            self.reset()
        if self._block_end_ns is None or stamp_ns > self._block_end_ns:
            self._previous, self._current = self._current, sample
            self._block_end_ns = stamp_ns + _BLOCK_NS
        else:
            self._current = min(self._current, sample)
        return jumped
