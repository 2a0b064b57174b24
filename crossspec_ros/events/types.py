"""What the rooms exchange about events: the packet as it comes over the wire, and decoded events.

Shape letters: N events, B payload bytes.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Packet:
    """One event_camera_msgs/EventPacket, free of ROS.

    ``stamp_ns`` is the host's time at the arrival of the packet's first part; ``time_base_ns`` is in sensor
    time and its use depends on ``encoding``. ``payload`` is uint8, (B,), still encoded.
    """

    encoding: str
    width: int
    height: int
    seq: int
    time_base_ns: int
    stamp_ns: int
    payload: np.ndarray
    is_bigendian: bool = False


@dataclass(frozen=True)
class Events:
    """Events in stream order as parallel arrays, with the sensor they came from.

    ``t_ns`` int64 (N,) sensor time in ns; ``x``, ``y`` uint16 (N,) pixels; ``p`` uint8 (N,), 1 is ON, 0 is OFF.
    The arrays may be views into a shared buffer: never write into them.
    """

    t_ns: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    width: int
    height: int

    def __init__(self, t_ns: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, width: int, height: int) -> None:
        # One is made for every packet: the __init__ that a frozen dataclass gets takes three times as long.
        fields = self.__dict__
        fields['t_ns'], fields['x'], fields['y'], fields['p'] = t_ns, x, y, p
        fields['width'], fields['height'] = width, height

    @classmethod
    def empty(cls, width: int, height: int) -> Events:
        """No events of a sensor of this size."""
        return cls(np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16),
                   np.empty(0, np.uint8), width, height)

    def __len__(self) -> int:
        return len(self.t_ns)

    def part(self, start: int, stop: int) -> Events:
        """Events ``start`` to ``stop`` (indices) as views."""
        return Events(self.t_ns[start:stop], self.x[start:stop], self.y[start:stop], self.p[start:stop],
                      self.width, self.height)
