"""A stream of events cut into the pieces that packets are made of, across the borders of how it was read."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from crossspec_ros.events.decode import join_events
from crossspec_ros.events.types import Events


def slice_by_time(chunks: Iterable[Events], slice_ns: int, start_ns: int) -> Iterator[tuple[int, Events]]:
    """(end in ns, events) for each slice of the grid ``start_ns + k * slice_ns`` that has events.

    ``chunks`` are consecutive parts of a stream in the order of time, of any size; a slice is handed out when an
    event at or after its end has been seen, or at the end. Slice k covers [start + k*slice, start + (k+1)*slice).
    """
    parts: list[Events] = []
    end_ns = start_ns + slice_ns
    for chunk in chunks:
        while len(chunk):
            if not parts:
                end_ns = start_ns + ((int(chunk.t_ns[0]) - start_ns) // slice_ns + 1) * slice_ns
            inside = int(np.searchsorted(chunk.t_ns, end_ns, side='left'))
            parts.append(chunk.part(0, inside))
            chunk = chunk.part(inside, len(chunk))
            if len(chunk):
                yield end_ns, join_events(parts)
                parts = []
    if parts:
        yield end_ns, join_events(parts)
