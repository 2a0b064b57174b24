"""From an RGB frame to the pixels a vision tower eats, as the checkpoint's own video processor would do it.

transformers' video processors need torchvision; the steps they take are few and all in torch: resize (bicubic or
bilinear, antialiased, on uint8), centre crop, rescale and normalise in one. They are done here frame by frame with the
same operations in the same order, so the pixels are the same bit for bit (checked in the tests where torchvision is
installed).
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.check import check_frame
from crossspec_ros.models.processor_fields import processor_fields

_RESAMPLE = {2: 'bilinear', 3: 'bicubic'}
_NEEDS = {'do_resize': ('size', 'resample'), 'do_center_crop': ('crop_size',), 'do_rescale': ('rescale_factor',),
          'do_normalize': ('image_mean', 'image_std')}


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
    """The frame preprocessing that a checkpoint folder asks for, what its file leaves out taken from its class.

    Raises `CrossSpecError` when no processor file is there, or it asks for something that is not supported.
    """
    fields = processor_fields(folder)
    for switch, needed in _NEEDS.items():
        absent = [field for field in needed if fields[field] is None]
        if fields[switch] and absent:
            raise CrossSpecError(f'{absent[0]} must be given where {switch} is true, got null in the processor of '
                                 f'{folder}')
    resample = _RESAMPLE.get(fields['resample']) if fields['do_resize'] else 'bilinear'
    if resample is None:
        raise CrossSpecError(f'resample must be one of {sorted(_RESAMPLE)} (bilinear, bicubic), '
                             f'got {fields["resample"]} in the processor of {folder}')
    size = _sides(fields['size'], fields['default_to_square'] is not False) if fields['do_resize'] else {}
    crop = _sides(fields['crop_size'], True) if fields['do_center_crop'] else {}
    if fields['do_resize'] and set(size) not in ({'shortest_edge'}, {'height', 'width'}):
        raise CrossSpecError(f'size must hold shortest_edge, or height and width, got {fields["size"]} in {folder}')
    if fields['do_center_crop'] and set(crop) != {'height', 'width'}:
        raise CrossSpecError(f'crop_size must hold height and width, got {fields["crop_size"]} in {folder}')
    mean, std = (_colour(fields[name]) for name in ('image_mean', 'image_std'))
    return FramePreprocessor(
        shortest_edge=size.get('shortest_edge'), size=(size['height'], size['width']) if 'height' in size else None,
        crop=(crop['height'], crop['width']) if crop else None, resample=resample,
        scale=float(fields['rescale_factor']) if fields['do_rescale'] else 1.0,
        mean=mean if fields['do_normalize'] else None, std=std if fields['do_normalize'] else None)


def _sides(value: Any, square: bool) -> dict[str, int]:
    """A size by the names of its sides, px; one number is both sides or, where not ``square``, the shorter."""
    if isinstance(value, int):
        return {'height': value, 'width': value} if square else {'shortest_edge': value}
    if isinstance(value, (list, tuple)):
        return dict(zip(('height', 'width'), value))
    return {name: side for name, side in (value or {}).items() if side is not None}


def _colour(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    return (float(value),) * 3 if isinstance(value, (int, float)) else tuple(value)


def _centre_crop(frame: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The middle (height, width) of (1, 3, H, W); a smaller picture is padded with black first."""
    pad_y, pad_x = max(height - frame.shape[-2], 0), max(width - frame.shape[-1], 0)
    if pad_y or pad_x:
        frame = F.pad(frame, (pad_x // 2, (pad_x + 1) // 2, pad_y // 2, (pad_y + 1) // 2))
    top, left = (frame.shape[-2] - height) // 2, (frame.shape[-1] - width) // 2
    return frame[..., top:top + height, left:left + width]
