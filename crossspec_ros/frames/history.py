"""The frames of the last seconds, one a slot of the grid, for questions about a moment ago."""
from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.timing.window import WindowGrid

_S = 1_000_000_000


class Picture(Protocol):
    """What is kept: a stamp in ROS time and an RGB picture, uint8 (H, W, 3)."""

    stamp_ns: int

    def unpack(self) -> np.ndarray:
        """The picture."""
        ...


class FrameHistory:
    """Frames of settled slots, the oldest out first where they are older than ``seconds`` or take more than
    ``max_bytes``. May be asked from any thread."""

    def __init__(self, grid: WindowGrid, seconds: float, max_bytes: int) -> None:
        self._grid, self._span_ns, self._max_bytes = grid, round(seconds * _S), max_bytes
        self._held: deque[tuple[int, Picture, int]] = deque()   # slot, frame, bytes
        self._lock = threading.Lock()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, slot: int, frame: Picture) -> None:
        """Keep the frame of a settled slot; slots rise."""
        size = frame.unpack().nbytes
        with self._lock:
            self._held.append((slot, frame, size))
            self._bytes += size
            while self._held and (self._bytes > self._max_bytes
                                  or frame.stamp_ns - self._held[0][1].stamp_ns > self._span_ns):
                self._bytes -= self._held.popleft()[2]

    def clear(self) -> None:
        """Forget all: time jumped."""
        with self._lock:
            self._held.clear()
            self._bytes = 0

    def clip(self, stamp_ns: int | None = None) -> list[Picture]:
        """The frames of a window that ends with the slot of ``stamp_ns``, or with the newest; oldest first.

        A slot without a frame repeats the one before it, as in windows. Raises `CrossSpecError` where nothing is held
        of that time, or frames of less than half of the slots are.
        """
        with self._lock:
            held = {slot: frame for slot, frame, _ in self._held}
        if not held:
            raise CrossSpecError('no frame has come yet that a question could be about')
        last = max(held) if stamp_ns is None else self._grid.slot_index(stamp_ns)
        count = self._grid.window_frames
        slots = range(last - count + 1, last + 1)
        own = [slot for slot in slots if slot in held]
        if 2 * len(own) < count:
            first_ns, last_ns = held[min(held)].stamp_ns, held[max(held)].stamp_ns
            raise CrossSpecError(f'stamp must have frames in half of the {count} slots before it, it has {len(own)}; '
                                 f'frames are held from {first_ns / _S:.3f} to {last_ns / _S:.3f} s')
        clip, current = [], held[own[0]]
        for slot in slots:
            current = held.get(slot, current)
            clip.append(current)
        return clip
