"""From an RGB frame to the pixels a vision tower eats, as the checkpoint's own video processor would do it.

transformers' video processors need torchvision; the steps they take are few and all in torch: resize (bicubic or
bilinear, antialiased, on uint8), centre crop, rescale and normalise in one. They are done here frame by frame with the
same operations in the same order, so the pixels are the same bit for bit (checked in the tests where torchvision is
installed).
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.frames import check_frame

_FILES = ('processor_config.json', 'video_preprocessor_config.json', 'preprocessor_config.json')
_RESAMPLE = {2: 'bilinear', 3: 'bicubic'}
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class FramePreprocessor:
    """Resize, crop and normalise one frame. ``shortest_edge`` or ``size`` (height, width) is set, ``crop`` may be."""

    shortest_edge: int | None
    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: str
    scale: float
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def __call__(self, rgb: np.ndarray) -> torch.Tensor:
        """Pixels float32 (3, h, w) of a frame uint8 (H, W, 3) RGB. Raises `CrossSpecError` for anything else."""
        check_frame(rgb)
        frame = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]           # (1, 3, H, W)
        height, width = self._resized(frame.shape[-2], frame.shape[-1])
        if (height, width) != frame.shape[-2:]:
            frame = F.interpolate(frame, size=(height, width), mode=self.resample, antialias=True, align_corners=False)
        if self.crop:
            frame = _centre_crop(frame, *self.crop)
        pixels = frame[0].to(torch.float32)
        if self.mean is None:
            return pixels * self.scale
        mean, std = (torch.tensor(value) * (1.0 / self.scale) for value in (self.mean, self.std))   # one step for both
        return (pixels - mean[:, None, None]) / std[:, None, None]

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.size:
            return self.size
        if self.shortest_edge is None:
            return height, width
        short, long = sorted((height, width))
        stretched = int(self.shortest_edge * long / short)
        return (self.shortest_edge, stretched) if height <= width else (stretched, self.shortest_edge)


def load_preprocessor(folder: Path) -> FramePreprocessor:
    """The frame preprocessing that a checkpoint folder asks for.

    Raises `CrossSpecError` when no processor file is there, or it asks for something that is not supported.
    """
    config = _read(folder)
    resample = _RESAMPLE.get(int(config.get('resample', 3)))
    if resample is None:
        raise CrossSpecError(f'resample must be one of {sorted(_RESAMPLE)} (bilinear, bicubic), '
                             f'got {config["resample"]} in the processor of {folder}')
    size = config.get('size') if config.get('do_resize', True) else {}
    crop = config.get('crop_size') if config.get('do_center_crop') else None
    crop = {'height': crop, 'width': crop} if isinstance(crop, int) else crop
    size = {'shortest_edge': size} if isinstance(size, int) else size or {}
    if size and 'shortest_edge' not in size and not {'height', 'width'} <= size.keys():
        raise CrossSpecError(f'size must hold shortest_edge, or height and width, got {size} in {folder}')
    normalize = config.get('do_normalize', True)
    return FramePreprocessor(
        shortest_edge=size.get('shortest_edge'),
        size=(size['height'], size['width']) if 'height' in size else None,
        crop=(crop['height'], crop['width']) if crop else None, resample=resample,
        scale=float(config.get('rescale_factor', 1 / 255)) if config.get('do_rescale', True) else 1.0,
        mean=tuple(config.get('image_mean') or _CLIP_MEAN) if normalize else None,
        std=tuple(config.get('image_std') or _CLIP_STD) if normalize else None)


def _read(folder: Path) -> dict:
    for name in _FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            config = json.loads(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise CrossSpecError(f'{path} must be JSON: {error}') from error
        config = config.get('video_processor') or config
        if 'size' in config or 'image_mean' in config or 'do_resize' in config:
            return config
    raise CrossSpecError(f'no processor in {folder}: one of {", ".join(_FILES)} must say how frames are resized and '
                         'normalised; save it there with processor.save_pretrained(folder)')


def _centre_crop(frame: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The middle (height, width) of (1, 3, H, W); a smaller picture is padded with black first."""
    pad_y, pad_x = max(height - frame.shape[-2], 0), max(width - frame.shape[-1], 0)
    if pad_y or pad_x:
        frame = F.pad(frame, (pad_x // 2, (pad_x + 1) // 2, pad_y // 2, (pad_y + 1) // 2))
    top, left = (frame.shape[-2] - height) // 2, (frame.shape[-1] - width) // 2
    return frame[..., top:top + height, left:left + width]
