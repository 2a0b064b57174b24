"""A sheet of scenes of the driving world: picture, events and caption, chosen so that every kind of thing occurs."""
from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.pictures import render_events
from crossspec_ros.events.types import Events
from crossspec_ros.world import EVALUATION_SEED, World

_SPAN_NS = 60_000_000               # of events in a picture
_PAPER, _INK = (247, 247, 244), (32, 34, 38)
_MARGIN, _LINE = 8, 17
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


def choose_windows(count: int, first_seed: int = EVALUATION_SEED, drives: int = 60, seconds: int = 12
                   ) -> list[tuple[int, int]]:
    """``count`` windows (seed, end s), each the one that shows most slot values not yet shown often."""
    if not 1 <= count <= drives * seconds:
        raise CrossSpecError(f'scenes must be 1 to {drives * seconds}, got {count}')
    worlds = [World(first_seed + k, 64, 48) for k in range(drives)]
    slots = {(first_seed + k, end): world.slots(float(end))
             for k, world in enumerate(worlds) for end in range(1, seconds + 1)}
    shown: dict[tuple[str, str], int] = {}
    chosen: list[tuple[int, int]] = []
    for _ in range(count):
        def worth(window: tuple[int, int]) -> float:
            return sum(0.25 ** shown.get(item, 0) for item in slots[window].items())
        best = max((window for window in slots if window not in chosen), key=worth)
        chosen.append(best)
        for item in slots[best].items():
            shown[item] = shown.get(item, 0) + 1
    return chosen


def contact_sheet(count: int = 12, columns: int = 3, first_seed: int = EVALUATION_SEED, tile_px: int = 240,
                  advance: Callable[[float], None] = lambda done: None) -> np.ndarray:
    """uint8 (H, W, 3) RGB: ``count`` scenes in ``columns``, each picture ``tile_px`` wide with its events beside it."""
    if columns < 1 or not 64 <= tile_px <= 640:
        raise CrossSpecError(f'columns must be >= 1 and tile_px 64 to 640, got {columns} and {tile_px}')
    tiles = []
    for seed, end_s in choose_windows(count, first_seed):
        tiles.append(_tile(World(seed), float(end_s), tile_px))
        advance(1)
    blank = np.full_like(tiles[0], _PAPER)
    tiles += [blank] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[k:k + columns]) for k in range(0, len(tiles), columns)])


def _tile(world: World, end_s: float, width: int) -> np.ndarray:
    clip = world.clip(end_s)
    height = width * world.height // world.width
    recent = int(np.searchsorted(clip.events.t_ns, round(end_s * 1e9) - _SPAN_NS, side='right'))
    events: Events = clip.events.part(recent, len(clip.events))
    pictures = [clip.frames[-1], render_events(events, (world.height, world.width))]
    pair = np.hstack([cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures])
    lines = _wrapped(clip.caption, 2 * width)
    tile = np.full((height + 3 * _LINE + 2 * _MARGIN, 2 * width + _MARGIN, 3), _PAPER, np.uint8)
    tile[:height, :2 * width] = pair
    for k, line in enumerate(lines[:3]):
        cv2.putText(tile, line, (2, height + (k + 1) * _LINE), _FONT, _SIZE, _INK, 1, cv2.LINE_AA)
    return tile


def _wrapped(text: str, width: int) -> list[str]:
    """Lines that are at most ``width`` px."""
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.strip()
        if cv2.getTextSize(longer, _FONT, _SIZE, 1)[0][0] <= width - 4:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
