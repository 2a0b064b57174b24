"""What is in a file of events, with every event read."""
from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crossspec_ros.recordings.bag_info import packed
from crossspec_ros.recordings.event_files.opening import open_event_file

_ERC = {0x014: 'erc_in', 0x016: 'erc_out'}


def event_file_info(path: str | Path, size: tuple[int, int] | None = None,
                    advance: Callable[[float], None] = lambda events: None) -> dict[str, Any]:
    """Format, size, counts, first and last time, what was dropped and why, and the hash of the events (t in us) as
    ``crossspec bag info`` has it. Raises CrossSpecError like ``open_event_file``.
    """
    file = open_event_file(path, size)
    try:
        on = off = triggers = monitors = back = 0
        erc = dict.fromkeys(_ERC.values(), 0)
        first_ns = last_ns = None
        sha = hashlib.sha256()
        for piece in file.pieces():
            events = piece.events
            triggers += len(piece.triggers)
            monitors += len(piece.monitors)
            for subtype, name in _ERC.items():
                erc[name] += int(np.count_nonzero(piece.monitors[:, 1] == subtype))
            if len(events):
                ons = int(np.count_nonzero(events.p))
                on, off = on + ons, off + len(events) - ons
                first_ns = int(events.t_ns[0]) if first_ns is None else first_ns
                back += int(np.count_nonzero(np.diff(events.t_ns,
                                                     prepend=first_ns if last_ns is None else last_ns) < 0))
                last_ns = int(events.t_ns[-1])
                sha.update(packed(events, 1000))
                advance(len(events))
        pictures = sum(1 for _ in file.frames())
        return {'format': file.format, 'width': file.width, 'height': file.height, 'events': on + off, 'on': on,
                'off': off,
                'triggers': triggers, 'monitors': monitors, **erc, 'pictures': pictures, 'first_ns': first_ns,
                'last_ns': last_ns, 'offset_ns': file.offset_ns, 'times_back': back,
                'dropped': {cause: count for cause, count in sorted(file.dropped.items()) if count},
                'sha256_events': sha.hexdigest()}
    finally:
        file.close()
