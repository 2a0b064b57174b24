"""What a drafter sees of a window, built while packets come: voxel grids of moments, pictures and slices of events.

All take packets in the same way (`WindowEvents`). A voxel grid needs moments of slices of time only, however many
events there are; the other two need the events themselves, which are kept in a buffer bounded in bytes.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.activity import activity_map
from crossspec_ros.events.buffer import EventBuffer
from crossspec_ros.events.decode import Decoder
from crossspec_ros.events.moments import NEVER, WindowMoments
from crossspec_ros.events.pictures import eventgpt_frames
from crossspec_ros.events.representations import cell_table, voxel_grid
from crossspec_ros.events.slices import Slicing
from crossspec_ros.events.types import Events, Packet
from crossspec_ros.speculation.drafter import EventCanvases, EventPictures, RawSlices, View, VoxelGrid
from crossspec_ros.timing.window import WindowGrid

_MS = 1_000_000
_ACTIVITY_SHAPE = (48, 64)    # cells of the halves that activity is taken of
_NO_SENSOR = Events.empty(1, 1)


class WindowEvents(Protocol):
    """The newest events of a stream, looked at by windows. For one thread."""

    @property
    def dropped(self) -> dict[str, int]:
        """Events that no window will see, by cause."""
        ...

    @property
    def triggers(self) -> int:
        """External triggers that were read here and not by the decoder."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        ...

    @property
    def newest_ns(self) -> int | None:
        """Time of the newest event, ROS time in ns; None while there is none."""
        ...

    def use(self, decoder: Decoder) -> None:
        """Take packets of this decoder's stream from now on; events of the one before are forgotten."""
        ...

    def clear(self) -> int:
        """Forget all events; returns how many."""
        ...

    def add_packet(self, packet: Packet, offset_of: Callable[[int], int], settled_ns: tuple[int, int] = NEVER) -> int:
        """Add a packet's events, as `events.moments.WindowMoments` does; returns how many."""
        ...

    def look(self, end_ns: int) -> tuple[Any, int]:
        """The window that ends at ``end_ns`` (or at a lead before a window's end), and its count of events."""
        ...

    def activity(self, start_ns: int, end_ns: int) -> np.ndarray:
        """How much moved where in (start, end], slots of the grid: `events.activity.activity_map`."""
        ...

    def nothing(self) -> Any:
        """What a window without events looks like."""
        ...


def build_view(view: View, grid: WindowGrid, *, lead_ns: int, max_bytes: int) -> WindowEvents:
    """What a drafter that eats ``view`` sees of the windows of ``grid``. Raises CrossSpecError on an unknown view."""
    keep_ns = 2 * grid.span_ns + lead_ns
    if isinstance(view, VoxelGrid):
        return Voxels(view, grid, lead_ns=lead_ns, keep_ns=keep_ns, max_bytes=max_bytes)
    if isinstance(view, EventPictures):
        return Pictures(view, grid.span_ns, keep_ns=keep_ns, max_bytes=max_bytes)
    if isinstance(view, EventCanvases):
        return Canvases(view, grid.span_ns, keep_ns=keep_ns, max_bytes=max_bytes)
    if isinstance(view, RawSlices):
        return Slices(view, grid.span_ns, keep_ns=keep_ns, max_bytes=max_bytes)
    raise CrossSpecError(f'view must be a VoxelGrid, EventPictures, EventCanvases or RawSlices, got {view!r}')


class Voxels(WindowMoments):
    """Windows as voxel grids: moments of slices, which do not grow with the rate of events."""

    def __init__(self, view: VoxelGrid, grid: WindowGrid, *, lead_ns: int, keep_ns: int, max_bytes: int) -> None:
        slicing = Slicing(grid.stride_ns, grid.span_ns, view.bins, (0, lead_ns) if lead_ns else (0,))
        super().__init__(slicing, (view.height, view.width), keep_ns=keep_ns, max_bytes=max_bytes)

    def look(self, end_ns: int) -> tuple[np.ndarray, int]:
        """Voxel grid (B, H, W) and count of events."""
        return self.voxel_grid(end_ns)

    def nothing(self) -> np.ndarray:
        """Zeros (B, H, W)."""
        return np.zeros(self.shape, np.float32)


class _Buffered:
    """Windows of events that are kept as they are, in sensor time; the offset between the clocks is the newest one."""

    triggers = 0                                                # the decoder itself counts them

    def __init__(self, span_ns: int, *, keep_ns: int, max_bytes: int) -> None:
        self._span_ns = span_ns
        self._buffer = EventBuffer(max_bytes, keep_ns)
        self._decoder: Decoder | None = None
        self._offset_ns = 0
        self._changed_size = 0

    @property
    def dropped(self) -> dict[str, int]:
        dropped = self._buffer.dropped
        return dropped | {'size_change': dropped['size_change'] + self._changed_size}

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    @property
    def newest_ns(self) -> int | None:
        newest_ns = self._buffer.newest_ns
        return None if newest_ns is None else newest_ns + self._offset_ns

    def use(self, decoder: Decoder) -> None:
        self._changed_size += self.clear()
        self._decoder = decoder

    def clear(self) -> int:
        forgotten = len(self._buffer)
        self._buffer.clear()
        return forgotten

    def add_packet(self, packet: Packet, offset_of: Callable[[int], int], settled_ns: tuple[int, int] = NEVER) -> int:
        if self._decoder is None:
            raise CrossSpecError('use(decoder) must be called before add_packet')
        events = self._decoder.decode(packet)
        if len(events):
            self._offset_ns = offset_of(int(events.t_ns[0]))
            self._buffer.append(events)
        return len(events)

    def activity(self, start_ns: int, end_ns: int) -> np.ndarray:
        return activity_map(voxel_grid(self._cut(start_ns, end_ns), start_ns, end_ns, bins=2, shape=_ACTIVITY_SHAPE))

    def _cut(self, start_ns: int, end_ns: int) -> Events:
        """Events of (start, end] with the times of the ROS clock."""
        found = self._buffer.cut(start_ns - self._offset_ns, end_ns - self._offset_ns)
        if not len(found):
            return _NO_SENSOR if self._decoder is None else Events.empty(self._decoder.width, self._decoder.height)
        return Events(found.t_ns + self._offset_ns, found.x, found.y, found.p, found.width, found.height)


class _Drawn(_Buffered, ABC):
    """Windows as pictures, drawn by `_draw` when they are asked for."""

    def look(self, end_ns: int) -> tuple[tuple[np.ndarray, ...], int]:
        """Pictures, each (H, W, 3), and count of the events that are in them."""
        events = self._cut(end_ns - self._span_ns, end_ns)
        return self._draw(events), len(events)

    def nothing(self) -> tuple[np.ndarray, ...]:
        """White pictures."""
        return self._draw(_NO_SENSOR)

    @abstractmethod
    def _draw(self, events: Events) -> tuple[np.ndarray, ...]:
        """The pictures of some events; white where there are none."""


class Pictures(_Drawn):
    """Windows as pictures of events, each of an equal number."""

    def __init__(self, view: EventPictures, span_ns: int, *, keep_ns: int, max_bytes: int) -> None:
        super().__init__(span_ns, keep_ns=keep_ns, max_bytes=max_bytes)
        self._view = view

    def _draw(self, events: Events) -> tuple[np.ndarray, ...]:
        height, width = self._view.height, self._view.width
        inside = (events.x < events.width) & (events.y < events.height)
        x = cell_table(events.width, width, 1)[events.x[inside]].astype(np.uint16)
        y = cell_table(events.height, height, 1)[events.y[inside]].astype(np.uint16)
        scaled = Events(events.t_ns[inside], x, y, events.p[inside], width, height)
        return tuple(eventgpt_frames(scaled, chunks=self._view.count))


class Canvases(_Drawn):
    """The last moments of windows as pictures of events, as large as these reach."""

    def __init__(self, view: EventCanvases, span_ns: int, *, keep_ns: int, max_bytes: int) -> None:
        super().__init__(min(span_ns, round(view.span_ms * _MS)), keep_ns=keep_ns, max_bytes=max_bytes)
        self._count = view.count

    def _draw(self, events: Events) -> tuple[np.ndarray, ...]:
        inside = (events.x < events.width) & (events.y < events.height)
        fitting = Events(events.t_ns[inside], events.x[inside], events.y[inside], events.p[inside], events.width,
                         events.height)
        return tuple(map(_two_wide, eventgpt_frames(fitting, chunks=self._count, canvas='events')))


def _two_wide(picture: np.ndarray) -> np.ndarray:
    """A picture of at least two rows and columns, white where there was none: less is no picture to a model."""
    missing = [(0, max(0, 2 - side)) for side in picture.shape[:2]]
    return np.pad(picture, (*missing, (0, 0)), constant_values=255) if any(more for _, more in missing) else picture


class Slices(_Buffered):
    """Windows as slices of their events."""

    def __init__(self, view: RawSlices, span_ns: int, *, keep_ns: int, max_bytes: int) -> None:
        super().__init__(span_ns, keep_ns=keep_ns, max_bytes=max_bytes)
        self._slice_ns, self._max_events = max(1, round(view.span_ms * _MS)), view.max_events
        self._count = -(-span_ns // self._slice_ns)

    def look(self, end_ns: int) -> tuple[tuple[Events, ...], int]:
        """Slices of events, oldest first, and count of the events that are in them."""
        start_ns, slices = end_ns - self._span_ns, []
        for back in range(self._count, 0, -1):
            first_ns = end_ns - back * self._slice_ns
            events = self._cut(max(start_ns, first_ns), first_ns + self._slice_ns)
            slices.append(events.part(max(0, len(events) - self._max_events), len(events)))
        return tuple(slices), sum(len(each) for each in slices)

    def nothing(self) -> tuple[Events, ...]:
        """Empty slices."""
        return (_NO_SENSOR,) * self._count
