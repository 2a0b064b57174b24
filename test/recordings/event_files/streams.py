"""Streams to write in every format, and what came back of them."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from crossspec_ros.events.types import Events
from crossspec_ros.recordings.event_files.opening import make_writer
from crossspec_ros.recordings.event_files.piece import NONE, EventFile, Piece

SUFFIXES = {'evt3': '.raw', 'evt2': '.raw', 'evt21': '.raw', 'dat': '.dat', 'aedat4': '.aedat4', 'prophesee': '.hdf5',
            'dsec': '.h5', 'm3ed': '.h5', 'mvsec': '.h5'}
TRIGGERS = np.array([[1_200_000, 1, 0], [1_300_000_000, 0, 0], [1_700_123_000, 1, 0]], np.int64)
MONITORS = np.array([[1_300_000_000, 0x014, 12345], [1_300_000_000, 0x016, 0xABCDEF], [1_500_000_000, 0x0AB, -1]],
                    np.int64)


def stream(count: int = 20_000, start_us: int = 1000, length_us: int = 2_000_000, width: int = 346,
           height: int = 260) -> Events:
    """Events in the order of time, with runs of neighbours that vector words take."""
    rng = np.random.default_rng(7)
    t = np.sort(rng.integers(start_us, start_us + length_us, count // 2)).repeat(2)[:count]
    x, y = rng.integers(0, width - 1, count // 2).repeat(2), rng.integers(0, height, count // 2).repeat(2)
    x = x + np.arange(len(x)) % 2
    p = rng.integers(0, 2, count // 2).repeat(2)
    return Events(t * 1000, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), width, height)


def write(path: Path, name: str, events: Events, triggers: np.ndarray = NONE, monitors: np.ndarray = NONE) -> Path:
    """A file of a format, written in pieces that end anywhere."""
    writer = make_writer(path, name, events.width, events.height, triggers=path.with_name(path.stem + '_trigger.dat'))
    edges = [*range(0, len(events), 3001), len(events)]
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        low = events.t_ns[start] if start else -1
        high = events.t_ns[stop] if stop < len(events) else 1 << 62
        parts = [rows[(rows[:, 0] >= low) & (rows[:, 0] < high)] for rows in (triggers, monitors)]
        writer.write(Piece(events.part(start, stop), *parts))
    writer.close()
    return path


def everything(file: EventFile) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    """(t, x, y, p columns, triggers, monitors) of a file, which is closed."""
    pieces = list(file.pieces())
    file.close()
    names = ('t_ns', 'x', 'y', 'p')
    columns = [np.concatenate([getattr(piece.events, name) for piece in pieces]).tolist() for name in names]
    return (columns, np.concatenate([piece.triggers for piece in pieces]),
            np.concatenate([piece.monitors for piece in pieces]))


def columns_of(events: Events) -> list[list[int]]:
    """t, x, y, p."""
    return [events.t_ns.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()]
