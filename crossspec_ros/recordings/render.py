"""A film of a bag: its events beside its images."""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import Decoder, join_events, make_decoder
from crossspec_ros.events.pictures import render_events
from crossspec_ros.events.types import Events, Packet
from crossspec_ros.recordings.bag import ImageFrame
from crossspec_ros.recordings.film import Film
from crossspec_ros.recordings.replay import ReplayMessage, iter_messages
from crossspec_ros.recordings.sources import BagSource

logger = logging.getLogger(__name__)


def render(path: str | Path, out: str | Path, *, fps: float = 25.0, height: int = 480, start_s: float = 0.0,
           duration_s: float | None = None, topics: Sequence[str] = (),
           advance: Callable[[int], None] = lambda count: None, tell: Callable[[str], None] = logger.warning) -> int:
    """Write the film and return its number of pictures; ``tell`` gets what was chosen and mended, a line each.

    Each picture shows the events that came since the one before, and the newest image; a bag without one of them
    gives a film of the other. ``topics`` are those to show, found where none are given.
    Raises CrossSpecError on a broken bag, an impossible size, and an unwritable file.
    """
    if not 16 <= height <= 4320:
        raise CrossSpecError(f'height must be 16 to 4320 px, got {height}')
    if not 0 < fps <= 1000:
        raise CrossSpecError(f'fps must be above 0 and at most 1000, got {fps}')
    source = BagSource(path, topics)
    try:
        for note in source.notes:
            tell(note)
        stage = _Stage(height)
        with Film(out, fps) as film:
            for picture in _pictures(stage, source, fps, start_s, duration_s or 0.0):
                film.add(picture)
                advance(1)
    finally:
        source.close()
    if not film.pictures:
        raise CrossSpecError(f'bag {path} has nothing to show from {start_s} s on')
    return film.pictures


def _pictures(stage: _Stage, source: BagSource, fps: float, start_s: float, duration_s: float) -> Iterator[np.ndarray]:
    """Pictures at the grid of ``fps`` over the messages' recording times. Sides that come later begin black."""
    stage.expect(source)
    end_ns: int | None = None
    step_ns = round(1e9 / fps)
    for message in iter_messages(source, start_s, duration_s):
        end_ns = message.due_ns + step_ns if end_ns is None else end_ns
        while message.due_ns >= end_ns:
            yield stage.picture()
            end_ns += step_ns
        stage.take(message)
    if end_ns is not None:
        yield stage.picture()


class _Stage:
    """What is to be seen at the moment. Pictures have one size from the first to the last."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._decoder: Decoder | None = None
        self._parts: list[Events] = []
        self._rgb: np.ndarray | None = None
        self._sides: list[tuple[int, int]] = []         # (H, W) of events, then of images, as far as there are any
        self._has_events = self._has_images = False

    def expect(self, source: BagSource) -> None:
        """Look ahead for the first packet and the first good image: they give the sides their sizes."""
        event_side = image_side = None
        for message in source.messages(source.start_ns):
            if message.role == 'events' and event_side is None and self._start_decoder(message.data):
                event_side = self._fit(message.data.height, message.data.width)
            elif message.role in ('image', 'compressed') and image_side is None:
                rgb = _picture(message.data)
                image_side = self._fit(*rgb.shape[:2]) if rgb is not None else None
            if (event_side is not None) + (image_side is not None) == len(source.topics):
                break
        self._sides = [side for side in (event_side, image_side) if side is not None]
        self._has_events, self._has_images = event_side is not None, image_side is not None

    def _fit(self, height: int, width: int) -> tuple[int, int]:
        return self._height, max(2, round(width * self._height / height))

    def _start_decoder(self, packet: Packet) -> bool:
        try:
            self._decoder = make_decoder(packet.encoding, packet.width, packet.height)
        except CrossSpecError as error:
            logger.warning('a packet cannot be shown: %s', error)
        return self._decoder is not None

    def take(self, message: ReplayMessage) -> None:
        """Keep what a message brings."""
        if message.role == 'events' and self._decoder is not None:
            self._parts.append(self._decoder.decode(message.data))
        elif message.role in ('image', 'compressed'):
            rgb = _picture(message.data)
            self._rgb = self._rgb if rgb is None else rgb

    def picture(self) -> np.ndarray:
        """The picture of now, uint8 (H, W, 3); the events are used up by it."""
        sides = []
        if self._has_events:
            assert self._decoder is not None
            events = (join_events(self._parts) if self._parts else
                      Events.empty(self._decoder.width, self._decoder.height))
            self._parts = []
            sides.append(_resized(render_events(events, (self._decoder.height, self._decoder.width)), self._sides[0]))
        if self._has_images:
            size = self._sides[-1]
            sides.append(np.zeros((*size, 3), np.uint8) if self._rgb is None else _resized(self._rgb, size))
        return np.hstack(sides)


def _resized(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    smaller = size[0] < rgb.shape[0]
    return cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _picture(frame: ImageFrame) -> np.ndarray | None:
    try:
        return frame.rgb()
    except CrossSpecError as error:
        logger.warning('an image cannot be shown: %s', error)
        return None
