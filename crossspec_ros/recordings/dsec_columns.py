"""What the columns of an events.h5 mean, found from what they hold: polarity, unit of time, sensor.

The layout is copied by many who record with other cameras, and its columns then hold other things than DSEC's. Each
function returns what it found and a line for the user, '' where all is as in DSEC; it raises ValueError with a clause
where that cannot be known.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNITS_US = {'us': 1.0, 'ns': 1e-3, 'ms': 1e3, 's': 1e6}
DSEC_SENSOR = (640, 480)
_LARGER = ((1280, 720), (1280, 800), (1920, 1080), (2048, 2048))
_SMALLER = ((128, 128), (240, 180), (304, 240), (320, 240), (320, 320), (346, 260), (480, 320), (480, 360))
# Of the lengths of events and pictures: these far apart they are not in the same unit.
_FAR = 300.0
_SLACK_US = 1_000_000


@dataclass(frozen=True)
class Polarity:
    """Which number is ON and which is OFF; others are neither."""

    on: int
    off: int

    def read(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """(polarity uint8 (N,), which are valid bool (N,) or None where all are)."""
        on = values == self.on
        valid = on | (values == self.off)
        return on.astype(np.uint8), None if valid.all() else valid


def polarity_of(values: Sequence[float], dtype: np.dtype) -> tuple[Polarity, str]:
    """Meaning of the distinct numbers of events/p."""
    seen = {int(value) for value in values}
    shown = ' and '.join(str(value) for value in sorted(seen)[:4]) + (' ...' if len(seen) > 4 else '')
    if any(float(value) != int(value) for value in values):
        raise ValueError('events/p holds fractions; it must hold two numbers, one of OFF and one of ON')
    if seen <= {0, 1}:
        return Polarity(1, 0), ''
    minus_one = -1
    if dtype.kind == 'u' and -1 not in seen:
        minus_one = int(np.iinfo(dtype).max)                    # -1 written into a type that has none
    if seen <= {1, minus_one} and (1 in seen or dtype.itemsize > 1 or dtype.kind == 'i'):
        return Polarity(1, minus_one), f'events/p holds {shown}: {minus_one} is taken as OFF'
    if len(seen) == 2 and min(seen) == 0:
        return Polarity(max(seen), 0), f'events/p holds {shown}: {max(seen)} is taken as ON'
    raise ValueError(f'events/p holds {shown}, of which it cannot be known what is ON; write 0 and 1')


@dataclass(frozen=True)
class Clock:
    """``time_us = value * UNITS_US[unit] + offset_us`` in the pictures' clock."""

    unit: str
    offset_us: int

    def read(self, values: np.ndarray) -> np.ndarray:
        """int64 us of event times, without the offset (whole us: what is finer is cut)."""
        if self.unit == 'us' and values.dtype.kind != 'f':
            return values.astype(np.int64)
        if self.unit == 'ns' and values.dtype.kind != 'f':
            return values.astype(np.int64) // 1000
        return np.floor(values.astype(np.float64) * UNITS_US[self.unit] + 1e-3).astype(np.int64)


def clock_of(first: float, last: float, offset: float | None, pictures_us: tuple[int, int] | None,
             index_ms: int | None) -> tuple[Clock, str]:
    """Unit and offset of event times ``first`` to ``last``, beside the first and last times of the pictures.

    ``index_ms`` is the length of ms_to_idx, None without one.
    """
    unit = _unit_of(last - first, pictures_us, index_ms)
    lines = [] if unit == 'us' else [f'events/t is in {unit}, not us: its {last - first:g} are the '
                                     f'{(last - first) * UNITS_US[unit] / 1e6:.3f} s of the recording']
    scale = UNITS_US[unit]
    begin, end = first * scale, last * scale
    offsets = [] if offset is None else [round(offset), round(offset * scale)]
    if pictures_us is None:
        return Clock(unit, offsets[0] if offsets else 0), '; '.join(lines)
    for number, offset_us in enumerate([*offsets, 0]):
        if begin + offset_us <= pictures_us[1] + _SLACK_US and end + offset_us >= pictures_us[0] - _SLACK_US:
            if offset is None:
                lines.append('t_offset is absent; times of events are those of the pictures without it')
            elif number:
                lines.append(f't_offset is in {unit}' if number == 1 else
                             't_offset is not added: times of events are those of the pictures without it')
            return Clock(unit, offset_us), '; '.join(lines)
    if offset is None:
        raise ValueError(f't_offset is absent, and times of events ({begin / 1e6:.3f} to {end / 1e6:.3f} s) are not '
                         f'those of the pictures ({pictures_us[0] / 1e6:.3f} to {pictures_us[1] / 1e6:.3f} s); '
                         'write t_offset, us')
    lines.append(f'events ({(begin + offsets[0]) / 1e6:.3f} to {(end + offsets[0]) / 1e6:.3f} s) and pictures '
                 f'({pictures_us[0] / 1e6:.3f} to {pictures_us[1] / 1e6:.3f} s) do not meet in time')
    return Clock(unit, offsets[0]), '; '.join(lines)


def _unit_of(length: float, pictures_us: tuple[int, int] | None, index_ms: int | None) -> str:
    if length <= 0 or (index_ms is not None and index_ms > 10 and 0.8 < length / 1000 / index_ms < 1.25):
        return 'us'                                             # ms_to_idx has one entry a ms
    pictures = pictures_us[1] - pictures_us[0] if pictures_us is not None else 0
    if pictures <= 0:
        return 'us'
    for unit, scale in UNITS_US.items():
        # Where parts of a recording are left out, the lengths differ, but not as units do.
        if 1 / _FAR < length * scale / pictures < (_FAR if unit == 'us' else 30):
            return unit
    return 'us'


def sensor_of(largest_x: int, largest_y: int, given: tuple[int, int] | None, giver: str) -> tuple[tuple[int, int], str]:
    """(width, height) of the sensor, from the largest pixels of a sample and from what ``giver`` says."""
    needed = (largest_x + 1, largest_y + 1)

    def holds(size: tuple[int, int]) -> bool:
        return needed[0] <= size[0] and needed[1] <= size[1]
    if given is not None and holds(given):
        same = given == DSEC_SENSOR
        return given, '' if same else f'the sensor has {given[0]}x{given[1]} pixels ({giver}), not 640x480'
    if given is None and needed in _SMALLER:
        return needed, f'the sensor has {needed[0]}x{needed[1]} pixels (from the events), not 640x480'
    if given is None and holds(DSEC_SENSOR):
        return DSEC_SENSOR, ''
    size = next((size for size in (DSEC_SENSOR, *_LARGER) if holds(size)), needed)
    if max(size) > 32_767:
        raise ValueError(f'events/x and y go up to {largest_x} and {largest_y}, which no sensor has')
    against = f'; {giver} says {given[0]}x{given[1]}' if given is not None else ''
    return size, (f'the sensor has {size[0]}x{size[1]} pixels (events go up to x {largest_x}, y {largest_y}), not '
                  f'640x480{against}')
