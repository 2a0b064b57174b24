"""An event sensor looking at the world.

The standard model (Rebecq et al., ESIM, CoRL 2018; Hu et al., v2e, CVPRW 2021): a pixel remembers the log intensity of
its last event and fires when the light has moved from it by its threshold. Between two samples of the light the time of
crossing is interpolated linearly. Thresholds differ from pixel to pixel, a pixel is blind for its refractory period,
leak makes it fire ON slowly, and shot noise fires at random.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events


@dataclass(frozen=True)
class DvsConfig:
    """``threshold`` in log intensity with a spread ``mismatch`` (one sigma) over pixels; rates in Hz per pixel.

    ``dark_level`` is added to the intensity (0 to 255) before the logarithm, as a photoreceptor's dark current is.
    """

    threshold: float = 0.22
    mismatch: float = 0.03
    refractory_us: float = 500.0
    leak_hz: float = 0.08
    shot_hz: float = 0.25
    dark_level: float = 12.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.threshold <= 5.0:
            raise CrossSpecError(f'threshold must be 0.01 to 5 (log intensity), got {self.threshold}')
        for name in ('mismatch', 'refractory_us', 'leak_hz', 'shot_hz'):
            if getattr(self, name) < 0:
                raise CrossSpecError(f'{name} must be >= 0, got {getattr(self, name)}')


@njit(cache=True, nogil=True)
def log_light(ids: np.ndarray, table: np.ndarray, sky: np.ndarray, dark: float, out: np.ndarray) -> None:
    """Log intensity (H, W) in the sensor's band from the painter's numbers."""
    logs = np.empty(table.shape[0], np.float32)
    for k in range(table.shape[0]):
        logs[k] = np.log(table[k, 3] + dark)
    for y in range(ids.shape[0]):
        above = np.float32(np.log(sky[y, 3] + dark))
        for x in range(ids.shape[1]):
            k = ids[y, x]
            out[y, x] = logs[k] if k else above


@njit(cache=True, nogil=True)
def _random(state: np.ndarray) -> float:
    """xorshift64*: a number in [0, 1)."""
    s = state[0]
    s ^= s >> np.uint64(12)
    s ^= s << np.uint64(25)
    s ^= s >> np.uint64(27)
    state[0] = s
    return float((s * np.uint64(2685821657736338717)) >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True, nogil=True)
def _crossings(before: np.ndarray, after: np.ndarray, reference: np.ndarray, on: np.ndarray, off: np.ndarray,
               blind_until: np.ndarray, t0_us: int, t1_us: int, refractory_us: int, leak: float,
               out_t: np.ndarray, out_xy: np.ndarray, out_p: np.ndarray) -> int:
    """Events of one interval (t0, t1], unsorted in time; stops when the output is full. Returns how many."""
    height, width = before.shape
    span, n, room = float(t1_us - t0_us), 0, len(out_t)
    for y in range(height):
        for x in range(width):
            new = after[y, x]
            ref = reference[y, x] - leak * on[y, x]
            change = new - ref
            if -off[y, x] < change < on[y, x]:
                reference[y, x] = ref
                continue
            old = before[y, x]
            up = change > 0
            step = on[y, x] if up else -off[y, x]
            while (new - ref >= step if up else new - ref <= step) and n < room:
                ref += step
                moved = new - old
                part = 1.0 if moved == 0.0 else min(max((ref - old) / moved, 0.0), 1.0)
                t = t0_us + max(1, int(np.ceil(part * span)))
                if t >= blind_until[y, x]:
                    out_t[n], out_xy[n], out_p[n] = t, y * width + x, 1 if up else 0
                    blind_until[y, x] = t + refractory_us
                    n += 1
            reference[y, x] = ref
    return n


@njit(cache=True, nogil=True)
def _shot(rate: float, on: np.ndarray, t0_us: int, t1_us: int, state: np.ndarray, n: int, out_t: np.ndarray,
          out_xy: np.ndarray, out_p: np.ndarray) -> int:
    """Adds noise events: ``rate`` Hz per pixel, either polarity."""
    height, width = on.shape
    expected = rate * height * width * (t1_us - t0_us) * 1e-6
    count = int(expected) + (1 if _random(state) < expected - int(expected) else 0)
    for _ in range(count):
        if n >= len(out_t):
            break
        out_t[n] = t0_us + 1 + int(_random(state) * (t1_us - t0_us))
        out_xy[n] = int(_random(state) * height * width)
        out_p[n] = 1 if _random(state) < 0.5 else 0
        n += 1
    return n


@njit(cache=True, nogil=True)
def _in_order(n: int, t0_us: int, t1_us: int, t: np.ndarray, xy: np.ndarray, p: np.ndarray, width: int,
              out_t: np.ndarray, out_x: np.ndarray, out_y: np.ndarray, out_p: np.ndarray) -> None:
    """Counting sort by microsecond: a pixel's events stay in order."""
    slots = np.zeros(t1_us - t0_us + 2, np.int32)
    for i in range(n):
        slots[t[i] - t0_us + 1] += 1
    for i in range(1, len(slots)):
        slots[i] += slots[i - 1]
    for i in range(n):
        k = slots[t[i] - t0_us]
        slots[t[i] - t0_us] += 1
        out_t[k], out_p[k] = t[i] * 1000, p[i]
        out_x[k], out_y[k] = xy[i] % width, xy[i] // width


class EventSensor:
    """Turns samples of log intensity into events; keeps every pixel's state between calls."""

    def __init__(self, width: int, height: int, seed: int, config: DvsConfig | None = None) -> None:
        self.width, self.height = width, height
        self.config = config or DvsConfig()
        rng = np.random.default_rng([seed, 77])
        spread = rng.standard_normal((2, height, width)).astype(np.float32) * self.config.mismatch
        self._on, self._off = np.maximum(self.config.threshold + spread, 0.25 * self.config.threshold)
        self._room = 3 * width * height + 1024
        self._raw = (np.empty(self._room, np.int64), np.empty(self._room, np.int64), np.empty(self._room, np.uint8))
        self.reset(0)

    def reset(self, noise_seed: int) -> None:
        """Forget the light seen so far; the next ``sample`` sets the reference and gives no events."""
        self._before: np.ndarray | None = None
        self._t_us = 0
        self._blind = np.full((self.height, self.width), -1, np.int64)
        self._noise = np.array([(noise_seed * 2654435761 + 88172645463325252) % 2 ** 63 | 1], np.uint64)
        for _ in range(4):
            _random(self._noise)

    def look(self, light: np.ndarray, t_us: int) -> None:
        """Take ``light`` (H, W) float32 log intensity as what has been seen up to ``t_us``: no events."""
        self._before, self._reference, self._t_us = light.copy(), light.copy(), t_us

    def sample(self, light: np.ndarray, t_us: int) -> Events:
        """Events in (previous time, ``t_us``] as the light went to ``light`` (H, W) float32, in order of time."""
        if self._before is None:
            self.look(light, t_us)
            return Events.empty(self.width, self.height)
        if t_us <= self._t_us:
            raise CrossSpecError(f't_us must be after the previous sample ({self._t_us}), got {t_us}')
        config, t0 = self.config, self._t_us
        leak = config.leak_hz * (t_us - t0) * 1e-6
        n = _crossings(self._before, light, self._reference, self._on, self._off, self._blind, t0, t_us,
                       int(config.refractory_us), leak, *self._raw)
        n = _shot(config.shot_hz, self._on, t0, t_us, self._noise, n, *self._raw)
        events = Events(np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint16), np.empty(n, np.uint8),
                        self.width, self.height)
        _in_order(n, t0, t_us, *self._raw, self.width, events.t_ns, events.x, events.y, events.p)
        np.copyto(self._before, light)
        self._t_us = t_us
        return events
