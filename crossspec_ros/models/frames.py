"""What a frame must be before a target looks at it."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossspec_ros.errors import CrossSpecError


def check_frame(rgb: object) -> None:
    """Raises `CrossSpecError` unless ``rgb`` is uint8 (H, W, 3), not empty, H and W from 2 to 16384."""
    if not isinstance(rgb, np.ndarray):
        raise CrossSpecError(f'rgb must be a numpy array, got {type(rgb).__name__}')
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise CrossSpecError(f'rgb must be uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}')
    if not all(2 <= side <= 16384 for side in rgb.shape[:2]):
        raise CrossSpecError(f'rgb must be 2 to 16384 pixels high and wide, got {rgb.shape[0]} x {rgb.shape[1]}')


def check_frames(frames: object, count: int | None = None) -> None:
    """Raises `CrossSpecError` unless ``frames`` is a sequence of ``count`` frames (one or more where None)."""
    if isinstance(frames, (str, bytes)) or not isinstance(frames, Sequence | np.ndarray):
        raise CrossSpecError(f'frames must be a list of frames, got {type(frames).__name__}')
    if len(frames) != count if count is not None else not len(frames):
        raise CrossSpecError(f'frames must be {count or "one or more"}, got {len(frames)}')
    for frame in frames:
        check_frame(frame)
