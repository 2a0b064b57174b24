"""The driving world: clips for training, truth for evaluation, a stream for live use.

Time of a world starts at 0 s. Everything is a function of the seed: the same seed gives the same pictures, events and
captions, wherever one starts to look.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events
from crossspec_ros.events.types import Events
from crossspec_ros.world.captions import answers, caption
from crossspec_ros.world.dvs import DvsConfig, EventSensor
from crossspec_ros.world.script import Script
from crossspec_ros.world.sensor import RgbCamera
from crossspec_ros.world.view import View

EVALUATION_SEED = 1_000_000        # seeds from here on are never trained on
_NS = 1_000_000_000


@dataclass(frozen=True)
class Box:
    """A road user or signal in the last frame: what it is and its pixels (x0, y0, x1, y1), x1 and y1 exclusive."""

    name: str
    colour: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Truth:
    """What is true of the window that ends at ``window_end_s``."""

    slots: dict[str, str]
    caption: str
    answers: dict[str, str]
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Clip:
    """A window: ``frames`` uint8 (n, H, W, 3) RGB with ``frame_stamps_ns`` int64 (n,), and the events between."""

    frames: np.ndarray
    frame_stamps_ns: np.ndarray
    events: Events
    caption: str
    slots: dict[str, str]
    answers: dict[str, str]
    window_end_s: float


class World:
    """A drive from a seed.

    ``width`` x ``height`` pixels for both sensors, RGB at ``rgb_hz``, the light sampled for the event sensor at
    ``event_hz`` (crossings between are interpolated). ``pace`` is 'brisk' or 'calm', see ``scene.Script``.
    """

    def __init__(self, seed: int, width: int = 320, height: int = 240, rgb_hz: int = 20, event_hz: int = 100,
                 pace: str = 'brisk', dvs: DvsConfig | None = None) -> None:
        if not 32 <= width <= 2048 or not 32 <= height <= 2048:
            raise CrossSpecError(f'width and height must be 32 to 2048 px, got {width} x {height}')
        if not 1 <= rgb_hz <= 200 or not 8 <= event_hz <= 2000:
            raise CrossSpecError(f'rgb_hz must be 1 to 200 and event_hz 8 to 2000, got {rgb_hz} and {event_hz}')
        self.seed, self.width, self.height = seed, width, height
        self.rgb_hz, self.event_hz = rgb_hz, event_hz
        self._script = Script(seed, pace)
        self._view = View(self._script, width, height)
        self._camera = RgbCamera(width, height, seed)
        self._sensor = EventSensor(width, height, seed, dvs)

    def slots(self, window_end_s: float) -> dict[str, str]:
        """The slots of the window that ends at ``window_end_s`` seconds; draws nothing."""
        return dict(self._script.beat(self._view.second(window_end_s)).slots)

    def truth(self, window_end_s: float) -> Truth:
        """What is true of the window that ends at ``window_end_s`` seconds."""
        slots = self.slots(window_end_s)
        boxes = tuple(Box(name, colour, box) for name, colour, box in self._view.boxes(window_end_s))
        return Truth(slots, caption(slots), answers(slots), boxes)

    def frame(self, t_s: float) -> np.ndarray:
        """The RGB picture taken at ``t_s``: uint8 (H, W, 3)."""
        return self._camera.expose(*self._view.rgb(t_s), round(t_s * _NS))

    def clip(self, window_end_s: float, frames: int = 8, interval_s: float = 0.125, before_s: float = 0.0) -> Clip:
        """The window of ``frames`` slots of ``interval_s`` that ends at ``window_end_s`` (at least one window length).

        Each frame is the newest of the RGB camera's in its slot, as a window of live frames would hold. Events begin
        ``before_s`` before the window.
        """
        start = window_end_s - frames * interval_s - before_s
        if start < -1e-9 or before_s < 0:
            raise CrossSpecError(f'before_s must be >= 0 and window_end_s >= {frames * interval_s + before_s:g} (a '
                                 f'whole window and what is before it), got {before_s} and {window_end_s}')
        pictures, stamps_ns = self.frames(window_end_s, frames, interval_s)
        slots = self.slots(window_end_s)
        return Clip(pictures, stamps_ns, self._events(start, window_end_s), caption(slots), slots, answers(slots),
                    window_end_s)

    def frames(self, window_end_s: float, frames: int = 8, interval_s: float = 0.125) -> tuple[np.ndarray, np.ndarray]:
        """The pictures of a window, uint8 (n, H, W, 3), and their stamps in ns, int64 (n,); see `clip`."""
        ends = [window_end_s - (frames - 1 - i) * interval_s for i in range(frames)]
        stamps = [np.floor(end * self.rgb_hz + 1e-6) / self.rgb_hz for end in ends]
        return np.stack([self.frame(stamp) for stamp in stamps]), np.array([round(s * _NS) for s in stamps], np.int64)

    def _events(self, start_s: float, stop_s: float) -> Events:
        """Events in (start, stop] of a sensor that begins to look at ``start_s``."""
        self._sensor.reset(self.seed + 7919 * round(stop_s * 1000))
        return join_events([Events.empty(self.width, self.height), *self._sampled(start_s, stop_s)])

    def _sampled(self, start_s: float, stop_s: float) -> Iterator[Events]:
        first, last = round(start_s * self.event_hz), round(stop_s * self.event_hz)
        for k in range(first, last + 1):
            t_us = k * 1_000_000 // self.event_hz
            if k == first:
                self._look(k)
                continue
            yield self._sample(k, t_us)

    def _sample(self, k: int, t_us: int) -> Events:
        """Take the sample at ``k / event_hz`` s; the first one of a new street is seen without the jump."""
        t_s = k / self.event_hz
        if (k - 1) % self.event_hz == 0 and self._view.cut_before(t_s):
            self._look(k - 1)
        return self._sensor.sample(self._view.log_light(t_s, self._sensor.config.dark_level), t_us)

    def _look(self, k: int) -> None:
        """Start from the light just after ``k / event_hz`` s: no events for what came before."""
        light = self._view.log_light((k + 1e-4) / self.event_hz, self._sensor.config.dark_level)
        self._sensor.look(light, k * 1_000_000 // self.event_hz)

    def stream(self, start_s: float = 0.0, stop_s: float = float('inf')
               ) -> Iterator[tuple[int, str, np.ndarray | Events]]:
        """What the two sensors give, in order of time: (stamp ns, 'image', uint8 (H, W, 3)) or
        (stamp ns, 'events', Events).

        Stamps are world time; events of ``1 / event_hz`` s are stamped with the end of that time.
        """
        first = round(start_s * self.event_hz)
        self._sensor.reset(self.seed)
        self._look(first)
        k, image = first + 1, int(np.floor(start_s * self.rgb_hz + 1e-6)) + 1
        while k / self.event_hz <= stop_s + 1e-9:
            t_us = k * 1_000_000 // self.event_hz
            while image * self.event_hz < k * self.rgb_hz:
                yield round(image * _NS / self.rgb_hz), 'image', self.frame(image / self.rgb_hz)
                image += 1
            yield t_us * 1000, 'events', self._sample(k, t_us)
            if image * self.event_hz == k * self.rgb_hz:
                yield round(image * _NS / self.rgb_hz), 'image', self.frame(image / self.rgb_hz)
                image += 1
            k += 1


def iter_clips(seed: int, n: int, **world: int | str) -> Iterator[Clip]:
    """``n`` windows of one second, one after another, of a seed's drive; further arguments go to ``World``."""
    drive = World(seed, **world)
    for k in range(n):
        yield drive.clip(float(k + 1))
