"""Pictures of events: EventGPT's coloured frames for the model, and one for people."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events
from crossspec_ros.events.representations import EVENTGPT_CHUNKS, histogram
from crossspec_ros.events.types import Events

_WHITE = 255
_BLUE = (0, 0, 255)
_RED = (255, 0, 0)

# For people: dark ground, warm where it grew brighter, cold where it grew darker, white where both happened.
_GROUND = np.array((14, 16, 22), np.float32)
_ON = np.array((255, 176, 64), np.float32)
_OFF = np.array((64, 148, 255), np.float32)


def eventgpt_frames(
    events: Events | Sequence[Events], *, chunks: int = EVENTGPT_CHUNKS, canvas: str = 'sensor'
) -> list[np.ndarray]:
    """EventGPT's input: ``chunks`` pieces of equal count (the last takes what is over), each drawn on a white uint8
    RGB (H, W, 3) canvas, OFF blue, ON red, the last event of a pixel on top.

    ``canvas`` is ``sensor`` (all frames of the sensor's size) or ``events`` (H, W = largest y and x of the chunk + 1,
    as the original does; a chunk without events is drawn on the sensor's). Raises ``CrossSpecError`` on another
    canvas or ``chunks`` < 1. Source: Liu et al., EventGPT: Event Stream Understanding with Multimodal Large Language
    Models, CVPR 2025.
    """
    if canvas not in ('sensor', 'events'):
        raise CrossSpecError(f'canvas must be sensor or events, got {canvas!r}')
    if chunks < 1:
        raise CrossSpecError(f'chunks must be >= 1, got {chunks}')
    whole = events if isinstance(events, Events) else join_events(events)
    size = len(whole) // chunks
    stops = [*(size * (k + 1) for k in range(chunks - 1)), len(whole)]
    return [_draw(whole.part(size * k, stops[k]), canvas) for k in range(chunks)]


def _draw(events: Events, canvas: str) -> np.ndarray:
    height, width = events.height, events.width
    if canvas == 'events' and len(events):
        height, width = int(events.y.max()) + 1, int(events.x.max()) + 1
    frame = np.full((height * width, 3), _WHITE, np.uint8)
    inside = (events.x < width) & (events.y < height)
    pixels = events.y[inside].astype(np.int64) * width + events.x[inside]
    # numpy does not say which of two writes to one pixel stays: keep the last event of each by hand.
    _, from_behind = np.unique(pixels[::-1], return_index=True)
    last = len(pixels) - 1 - from_behind
    frame[pixels[last]] = np.where(events.p[inside][last, None] != 0, np.uint8(_RED), np.uint8(_BLUE))
    return frame.reshape(height, width, 3)


def render_events(events: Events | Sequence[Events], shape: tuple[int, int]) -> np.ndarray:
    """A picture for people, uint8 RGB (H, W, 3): ON orange, OFF blue, brighter where more happened.

    Brightness saturates at the 99th percentile of the cells in which anything happened, so that a quiet and a busy
    window both show.
    """
    off, on = histogram(events, shape=shape)
    busy = np.maximum(off, on)
    busy = busy[busy > 0]
    full = max(float(np.percentile(busy, 99)), 1.0) if len(busy) else 1.0
    # The root lifts single events off the ground.
    warm, cold = (np.sqrt(np.minimum(counts / full, 1.0))[..., None] for counts in (on, off))
    picture = _GROUND * (1.0 - np.maximum(warm, cold)) + _ON * warm + _OFF * cold
    return np.minimum(picture, 255.0).astype(np.uint8)
