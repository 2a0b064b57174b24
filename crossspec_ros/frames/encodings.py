"""Raw pixels of sensor_msgs/Image, whatever their order, number and depth, as RGB of the same depth.

The encodings are those of sensor_msgs/image_encodings.hpp, OpenCV's type names among them, and the other spellings that
drivers use. Shape letters: H rows, W columns.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from crossspec_ros.errors import CrossSpecError

_MAX_SIDE = 32_767


@dataclass(frozen=True)
class Layout:
    """How the pixels of an encoding lie in a row, and the call that makes RGB of them, keeping the depth.

    ``kind`` is numpy's name of a number without its byte order. ``bits`` is how many of a number's bits the name of the
    encoding promises, None where it does not say. Of planar encodings (luma rows, then ``chroma`` bytes of chroma for
    each byte of luma) the pixels come to the call as (H + H * chroma, W).
    """

    channels: int
    kind: str
    to_rgb: Callable[[np.ndarray], np.ndarray]
    even_width: bool = False
    even_height: bool = False
    bits: int | None = None
    chroma: float = 0.0

    @property
    def itemsize(self) -> int:
        return int(self.kind[1])


def _convert(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _grey(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype in (np.uint8, np.uint16, np.float32):       # 15 times faster
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)


def _reverse(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., 2::-1])


def _nv24(planes: np.ndarray) -> np.ndarray:
    """Chroma of its own for every pixel: as UYVY with each pixel twice, for which OpenCV has the same sums."""
    height, width = planes.shape[0] // 3, planes.shape[1]
    luma, chroma = planes[:height], planes[height:].reshape(height, width, 2)
    twice = np.stack([chroma[..., 0], luma, chroma[..., 1], luma], axis=-1).reshape(height, 2 * width, 2)
    return np.ascontiguousarray(cv2.cvtColor(twice, cv2.COLOR_YUV2RGB_UYVY)[:, ::2])


def _layouts() -> dict[str, Layout]:
    fast = {'rgb': lambda pixels: pixels, 'bgr': _convert(cv2.COLOR_BGR2RGB), 'rgba': _convert(cv2.COLOR_RGBA2RGB),
            'bgra': _convert(cv2.COLOR_BGRA2RGB), 'mono': _grey}
    channels = {'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4, 'mono': 1}
    table = {f'{name}{8 * size}': Layout(channels[name], f'u{size}', call)
             for name, call in fast.items() for size in (1, 2)}
    # OpenCV's own images: no colour order in the name; its order is BGR.
    for name, size in (('8u', 'u1'), ('8s', 'i1'), ('16u', 'u2'), ('16s', 'i2'), ('32s', 'i4'), ('32f', 'f4'),
                       ('64f', 'f8')):
        for count, call in ((1, _grey), (3, _reverse), (4, _reverse)):
            table[f'{name}c{count}'] = Layout(count, size, call)
    # The pattern in the name is the first two rows: R G over G B is rggb.
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
        call = _convert(getattr(cv2, f'COLOR_Bayer{pattern.upper()}2RGB'))
        for size in (1, 2):
            table[f'bayer_{pattern}{8 * size}'] = Layout(1, f'u{size}', call, even_width=True, even_height=True)
    # In two bytes each, right-aligned, as their names say.
    for name in ('mono', *(f'bayer_{pattern}' for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'))):
        for bits in (10, 12, 14):
            table[f'{name}{bits}'] = replace(table[f'{name}16'], bits=bits)
    uyvy = Layout(2, 'u1', _convert(cv2.COLOR_YUV2RGB_UYVY), even_width=True)
    yuyv = Layout(2, 'u1', _convert(cv2.COLOR_YUV2RGB_YUYV), even_width=True)
    table.update({'uyvy': uyvy, 'yuv422': uyvy, 'yuyv': yuyv, 'yuv422_yuy2': yuyv})
    for name in ('nv12', 'nv21'):
        table[name] = Layout(1, 'u1', _convert(getattr(cv2, f'COLOR_YUV2RGB_{name.upper()}')), even_width=True,
                             even_height=True, chroma=0.5)
    table['nv24'] = Layout(1, 'u1', _nv24, chroma=2.0)
    return table


_LAYOUTS = _layouts()
ENCODINGS = tuple(name.upper() if re.match(r'\d', name) else name for name in sorted(_LAYOUTS))
"""The encodings that are taken, as ROS spells them."""
_SPELLINGS = {'rgb': 'rgb8', 'bgr': 'bgr8', 'rgba': 'rgba8', 'bgra': 'bgra8', 'mono': 'mono8', 'gray': 'mono8',
              'grey': 'mono8', 'gray8': 'mono8', 'grey8': 'mono8', 'y8': 'mono8', 'y800': 'mono8', 'gray16': 'mono16',
              'grey16': 'mono16', 'y16': 'mono16', 'rgb888': 'rgb8', 'bgr888': 'bgr8', 'yuy2': 'yuyv',
              'yuv422_uyvy': 'uyvy', '8uc': '8uc1', '16uc': '16uc1', '32fc': '32fc1', '64fc': '64fc1'}


def known_encoding(encoding: str) -> str | None:
    """The table's name of an encoding as a message spells it, None of one that is not taken."""
    name = encoding.strip().strip('\0').lower()
    name = _SPELLINGS.get(name, name)
    return name if name in _LAYOUTS else None


def is_colour(encoding: str) -> bool:
    """Whether pictures of this encoding have colours (mosaics do)."""
    layout = _LAYOUTS.get(known_encoding(encoding) or '')
    return layout is not None and layout.to_rgb is not _grey


def _layout_of(encoding: str) -> Layout:
    name = known_encoding(encoding)
    if name is not None:
        return _LAYOUTS[name]
    if re.fullmatch(r'\d+[usf]c2', encoding.strip().lower()):
        raise CrossSpecError(f'image encoding {encoding!r} has two channels, which make no picture; choose another '
                             f'topic, or one of {", ".join(ENCODINGS)}')
    raise CrossSpecError(f'image encoding must be one of {", ".join(ENCODINGS)}, got {encoding!r}')


def promised_bits(encoding: str) -> int | None:
    """How many bits of a number the name of an encoding promises, None where it does not say."""
    name = known_encoding(encoding)
    return _LAYOUTS[name].bits if name is not None else None


def as_bytes(data: object) -> np.ndarray:
    """Payload of a message as uint8 (B,), read-only or not, without a copy wherever it lies in one piece.

    Whatever a distribution of ROS hands out: bytes, array.array, memoryview, ndarray, anything with Python's buffer
    protocol, DLPack or ``__array__``, and at last a plain sequence of numbers.
    """
    if not isinstance(data, np.ndarray):
        try:
            return np.frombuffer(data, np.uint8)   # type: ignore[call-overload]
        except (TypeError, ValueError, BufferError):
            # No buffer of one piece. One on another device comes to this one here; numbers are a byte each.
            data = np.from_dlpack(data) if hasattr(data, '__dlpack__') else np.asarray(data)
            data = data if data.dtype == np.uint8 else data.astype(np.uint8)
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)


def unpack(encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: object) -> np.ndarray:
    """RGB pixels of a raw image in the numbers that it came in, (H, W, 3), in memory of its own.

    ``step`` is the length of a row in bytes, padding included (0: none). YUV is BT.601, limited range, as OpenCV has
    it. Raises CrossSpecError on an unknown encoding, a size of zero or above 32767, a step shorter than a row, odd
    sizes where the format needs even ones, and data shorter than its rows.
    """
    layout = _layout_of(encoding)
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise CrossSpecError(f'image size must be 1x1 to {_MAX_SIDE}x{_MAX_SIDE}, got {width}x{height}')
    if (layout.even_width and width % 2) or (layout.even_height and height % 2):
        raise CrossSpecError(f'image size must be even for {encoding}, got {width}x{height}')
    rows = _rows(layout, encoding, height, width, step, as_bytes(data))
    pixels = np.ascontiguousarray(rows)
    if layout.itemsize > 1:
        pixels = pixels.view(f'{">" if is_bigendian else "<"}{layout.kind}').astype(layout.kind, copy=False)
    elif layout.kind != 'u1':
        pixels = pixels.view(layout.kind)
    if layout.channels > 1:
        pixels = pixels.reshape(height, width, layout.channels)
    rgb = layout.to_rgb(pixels)
    return rgb.copy() if np.may_share_memory(rgb, rows) else rgb


def _rows(layout: Layout, encoding: str, height: int, width: int, step: int, raw: np.ndarray) -> np.ndarray:
    """Bytes of the pixels without the padding of the rows, (H, row bytes), planes below each other."""
    row_bytes = width * layout.channels * layout.itemsize
    step = step or row_bytes
    if step < row_bytes:
        raise CrossSpecError(f'image step must be >= {row_bytes} for {width} pixels of {encoding}, got {step}')
    height_all = round(height * (1 + layout.chroma))
    if layout.chroma and len(raw) < step * height_all and len(raw) >= row_bytes * height_all:
        step = row_bytes                                # drivers count a row's chroma in, where the planes are tight
    # The padding after the last row is often left out.
    missing = step * height_all - len(raw)
    if missing > step - row_bytes:
        raise CrossSpecError(f'image data must hold step*height = {step * height_all} bytes, got {len(raw)}')
    if missing > 0:
        raw = np.concatenate([raw, np.zeros(missing, np.uint8)])
    if layout.chroma <= 1:
        return raw[:step * height_all].reshape(height_all, step)[:, :row_bytes]
    luma = raw[:step * height].reshape(height, step)[:, :row_bytes]
    chroma = raw[step * height:step * height_all].reshape(height, 2 * step)[:, :2 * row_bytes]
    return np.concatenate([luma, chroma.reshape(2 * height, row_bytes)])
