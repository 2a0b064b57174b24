"""Events of a window to what models eat: 2-channel histogram, voxel grid, exponential time surface.

Every function takes ``Events`` or a sequence of them (parts of one stream in order, such as ``EventBuffer.cut_parts``
gives), and the window (``start_ns``, ``end_ns``]; without one, all events count. Sensor pixels go to cells by
whole-number binning: ``cell_x = x * W // width``. Shape letters: H, W cells of the result; B time bins.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numba import types as nbt

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.jit import kernel, read_only, writable
from crossspec_ros.events.types import Events

MAX_CELLS = 1 << 26
"""Largest result that is built, cells."""

FIRST_NS = -(1 << 63)
LAST_NS = (1 << 63) - 1
EVENTGPT_CHUNKS = 5

_EVENT_ARRAYS = (read_only(nbt.int64), read_only(nbt.uint16), read_only(nbt.uint16), read_only(nbt.uint8),
                 nbt.int64, nbt.int64, read_only(nbt.int32), read_only(nbt.int32))


def shape_of(name: str, *, shape: tuple[int, int], bins: int = 5) -> tuple[int, ...]:
    """Shape of a representation before it is built: ``histogram``, ``voxel_grid``, ``time_surface`` or
    ``eventgpt_frames`` on the whole sensor. Raises ``CrossSpecError`` on an unknown name or an impossible size.
    """
    height, width = check_shape(shape, bins)
    shapes = {'histogram': (2, height, width), 'voxel_grid': (bins, height, width), 'time_surface': (2, height, width),
              'eventgpt_frames': (EVENTGPT_CHUNKS, height, width, 3)}
    if name not in shapes:
        raise CrossSpecError(f'representation must be one of {", ".join(shapes)}, got {name!r}')
    return shapes[name]


def voxel_grid(events: Events | Sequence[Events], start_ns: int, end_ns: int, *, bins: int = 5,
               shape: tuple[int, int]) -> np.ndarray:
    """Voxel grid, float32 (B, H, W): each event adds +1 (ON) or -1 (OFF), shared by the two time bins next to it.

    Bin ``b`` sits at ``start + b * (end - start) / (B - 1)``, so that the window's bounds, not its first and last
    event, set the scale. Source: Zhu et al., Unsupervised Event-based Learning of Optical Flow, Depth and Egomotion,
    CVPR 2019, equations 1 to 3. Raises ``CrossSpecError`` where ``end_ns`` is not after ``start_ns``, ``bins`` or
    ``shape`` are impossible.
    """
    height, width = check_shape(shape, bins)
    check_span(start_ns, end_ns)
    grid = np.zeros(bins * height * width, np.float32)
    scale = time_scale(start_ns, end_ns, bins)
    for part in as_parts(events):
        _add_voxels.compiled(*_arguments(part, shape, start_ns, end_ns), scale, bins, height * width, grid)
    return grid.reshape(bins, height, width)


def histogram(events: Events | Sequence[Events], start_ns: int | None = None, end_ns: int | None = None, *,
              shape: tuple[int, int]) -> np.ndarray:
    """Number of events a cell, float32 (2, H, W): channel 0 OFF, 1 ON."""
    height, width = check_shape(shape)
    counts = np.zeros(2 * height * width, np.float32)
    for part in as_parts(events):
        _add_histogram.compiled(*_arguments(part, shape, start_ns, end_ns), height * width, counts)
    return counts.reshape(2, height, width)


def time_surface(events: Events | Sequence[Events], end_ns: int, *, tau_ms: float = 50.0, start_ns: int | None = None,
                 shape: tuple[int, int]) -> np.ndarray:
    """Exponential time surface at ``end_ns``, float32 (2, H, W): exp(-(end - newest event) / tau), 0 where there was
    none.

    Source: Lagorce et al., HOTS, TPAMI 2017, equation 3. Raises ``CrossSpecError`` where ``tau_ms`` is not > 0.
    """
    height, width = check_shape(shape)
    if not tau_ms > 0.0:
        raise CrossSpecError(f'tau_ms must be > 0, got {tau_ms}')
    newest = np.full(2 * height * width, FIRST_NS, np.int64)
    for part in as_parts(events):
        _keep_newest.compiled(*_arguments(part, shape, start_ns, end_ns), height * width, newest)
    seen = newest != FIRST_NS
    surface = np.zeros(len(newest), np.float32)
    surface[seen] = np.exp((newest[seen] - end_ns) / (tau_ms * 1e6))
    return surface.reshape(2, height, width)


def as_parts(events: Events | Sequence[Events]) -> Sequence[Events]:
    """One ``Events`` or several, as several."""
    return (events,) if isinstance(events, Events) else events


def check_shape(shape: tuple[int, int], bins: int = 1) -> tuple[int, int]:
    """(H, W) after a look at them; raises ``CrossSpecError``."""
    height, width = int(shape[0]), int(shape[1])
    if bins < 1 or height < 1 or width < 1 or bins * height * width > MAX_CELLS:
        raise CrossSpecError(
            f'bins and shape must be >= 1 and give at most {MAX_CELLS} cells, got bins {bins}, shape {tuple(shape)}'
        )
    return height, width


def check_span(start_ns: int, end_ns: int) -> None:
    """Raise ``CrossSpecError`` where a window does not end after it starts."""
    if not start_ns < end_ns:
        raise CrossSpecError(f'end_ns must be > start_ns, got {start_ns} to {end_ns}')


def time_scale(start_ns: int, end_ns: int, bins: int) -> float:
    """Time bins a ns."""
    return (bins - 1) / (end_ns - start_ns)


@lru_cache(maxsize=64)
def cell_table(side: int, cells: int, stride: int) -> np.ndarray:
    """int32 (side,): ``stride * cell`` for each pixel of a side; read-only."""
    table = (np.arange(side, dtype=np.int64) * cells // side * stride).astype(np.int32)
    table.flags.writeable = False
    return table


def _arguments(events: Events, shape: tuple[int, int], start_ns: int | None, end_ns: int | None) -> tuple:
    height, width = int(shape[0]), int(shape[1])
    arrays = (np.ascontiguousarray(array) for array in (events.t_ns, events.x, events.y, events.p))
    return (*arrays, FIRST_NS if start_ns is None else start_ns, LAST_NS if end_ns is None else end_ns,
            cell_table(events.width, width, 1), cell_table(events.height, height, width))


@kernel(nbt.void(*_EVENT_ARRAYS, nbt.float64, nbt.int64, nbt.int64, writable(nbt.float32)))
def _add_voxels(t_ns, x, y, p, start_ns, end_ns, columns, rows, scale, bins, plane, grid):
    for i in range(len(t_ns)):
        t = t_ns[i]
        if t <= start_ns or t > end_ns or x[i] >= len(columns) or y[i] >= len(rows):
            continue
        position = (t - start_ns) * scale
        lower = min(np.int64(position), bins - 1)
        share = np.float32(position - lower)
        sign = np.float32(1.0) if p[i] else np.float32(-1.0)
        cell = lower * plane + rows[y[i]] + columns[x[i]]
        grid[cell] += sign * (np.float32(1.0) - share)
        if lower + 1 < bins:
            grid[cell + plane] += sign * share


@kernel(nbt.void(*_EVENT_ARRAYS, nbt.int64, writable(nbt.float32)))
def _add_histogram(t_ns, x, y, p, start_ns, end_ns, columns, rows, plane, counts):
    for i in range(len(t_ns)):
        t = t_ns[i]
        if t <= start_ns or t > end_ns or x[i] >= len(columns) or y[i] >= len(rows):
            continue
        counts[(plane if p[i] else 0) + rows[y[i]] + columns[x[i]]] += np.float32(1.0)


@kernel(nbt.void(*_EVENT_ARRAYS, nbt.int64, writable(nbt.int64)))
def _keep_newest(t_ns, x, y, p, start_ns, end_ns, columns, rows, plane, newest):
    for i in range(len(t_ns)):
        t = t_ns[i]
        if t <= start_ns or t > end_ns or x[i] >= len(columns) or y[i] >= len(rows):
            continue
        cell = (plane if p[i] else 0) + rows[y[i]] + columns[x[i]]
        newest[cell] = max(newest[cell], t)


REPRESENTATIONS: dict[str, Callable[..., np.ndarray]] = {
    'histogram': histogram, 'voxel_grid': voxel_grid, 'time_surface': time_surface}
"""Representations by name."""
