"""Images as cameras send them, made into RGB.

Takes the fields of sensor_msgs/Image and sensor_msgs/CompressedImage and needs neither ROS nor cv_bridge. Shape
letters: H rows, W columns. The encodings are those of sensor_msgs/image_encodings.hpp.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from crossspec_ros.errors import CrossSpecError

# A compressed image tells its size in its first bytes: refuse a bomb before memory is given to it.
MAX_PIXELS = 64_000_000
_MAX_SIDE = 32_767


@dataclass(frozen=True)
class _Layout:
    """How the pixels of an encoding lie in a row, and the call that makes RGB of them, keeping the depth."""

    channels: int
    itemsize: int
    to_rgb: Callable[[np.ndarray], np.ndarray]
    even_width: bool = False
    even_height: bool = False


def _convert(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)


def _layouts() -> dict[str, _Layout]:
    colour = {'rgb': (3, lambda pixels: pixels), 'bgr': (3, _convert(cv2.COLOR_BGR2RGB)),
              'rgba': (4, _convert(cv2.COLOR_RGBA2RGB)), 'bgra': (4, _convert(cv2.COLOR_BGRA2RGB)),
              'mono': (1, _grey)}
    table = {f'{name}{8 * size}': _Layout(channels, size, call)
             for name, (channels, call) in colour.items() for size in (1, 2)}
    # OpenCV's own images: no colour order in the name; its order is BGR.
    for name, like in (('C1', 'mono'), ('C3', 'bgr'), ('C4', 'bgra')):
        for size in (1, 2):
            table[f'{8 * size}U{name}'] = table[f'{like}{8 * size}']
    # The pattern in the name is the first two rows: R G over G B is rggb.
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
        call = _convert(getattr(cv2, f'COLOR_Bayer{pattern.upper()}2RGB'))
        for size in (1, 2):
            table[f'bayer_{pattern}{8 * size}'] = _Layout(1, size, call, even_width=True, even_height=True)
    uyvy = _Layout(2, 1, _convert(cv2.COLOR_YUV2RGB_UYVY), even_width=True)
    yuyv = _Layout(2, 1, _convert(cv2.COLOR_YUV2RGB_YUYV), even_width=True)
    table.update({'uyvy': uyvy, 'yuv422': uyvy, 'yuyv': yuyv, 'yuv422_yuy2': yuyv})
    return table


_LAYOUTS = _layouts()
ENCODINGS = tuple(sorted(_LAYOUTS))


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


def decode_image(encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: object) -> np.ndarray:
    """RGB picture of a raw image, uint8 (H, W, 3), in memory of its own.

    ``step`` is the length of a row in bytes, padding included. 16-bit encodings keep their 8 high bits. YUV is
    BT.601, limited range, as OpenCV has it. Raises CrossSpecError on an unknown encoding, a size of zero or above
    32767, a step shorter than a row, odd sizes where the format needs even ones, and data shorter than its rows.
    """
    layout = _LAYOUTS.get(encoding.strip().lower()) or _LAYOUTS.get(encoding.strip())
    if layout is None:
        raise CrossSpecError(f'image encoding must be one of {", ".join(ENCODINGS)}, got {encoding!r}')
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise CrossSpecError(f'image size must be 1x1 to {_MAX_SIDE}x{_MAX_SIDE}, got {width}x{height}')
    if (layout.even_width and width % 2) or (layout.even_height and height % 2):
        raise CrossSpecError(f'image size must be even for {encoding}, got {width}x{height}')
    row_bytes = width * layout.channels * layout.itemsize
    if step < row_bytes:
        raise CrossSpecError(f'image step must be >= {row_bytes} for {width} pixels of {encoding}, got {step}')
    raw = as_bytes(data)
    if len(raw) < step * height:
        raise CrossSpecError(f'image data must hold step*height = {step * height} bytes, got {len(raw)}')
    return _to_rgb(layout, raw[:step * height].reshape(height, step)[:, :row_bytes], width, bool(is_bigendian))


def _to_rgb(layout: _Layout, rows: np.ndarray, width: int, is_bigendian: bool) -> np.ndarray:
    """Rows of bytes (H, row_bytes) to uint8 (H, W, 3)."""
    if layout.itemsize == 2:
        pixels = np.ascontiguousarray(rows).view('>u2' if is_bigendian else '<u2').astype(np.uint16)
    else:
        pixels = np.ascontiguousarray(rows)
    if layout.channels > 1:
        pixels = pixels.reshape(len(rows), width, layout.channels)
    rgb = layout.to_rgb(pixels)
    if layout.itemsize == 2:
        rgb = (rgb >> 8).astype(np.uint8)
    return rgb.copy() if np.shares_memory(rgb, rows) else rgb


def decode_compressed(format: str, data: object) -> np.ndarray:
    """RGB picture of a JPEG or PNG, uint8 (H, W, 3).

    ``format`` is the field of sensor_msgs/CompressedImage; it is only asked whether the payload is a picture at all:
    which kind of picture and its colour order are read from the bytes. Raises CrossSpecError on depth images, on
    anything but JPEG and PNG, on pictures above ``MAX_PIXELS`` and on damaged ones.
    """
    if 'compresseddepth' in format.lower().replace(' ', ''):
        raise CrossSpecError(f'compressed image format must be a colour or grey picture, got {format!r}')
    raw = as_bytes(data)
    width, height = picture_size(raw)
    if not 0 < width * height <= MAX_PIXELS:
        raise CrossSpecError(f'compressed image must have 1 to {MAX_PIXELS} pixels, got {width}x{height}')
    try:
        bgr = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise CrossSpecError(f'compressed image ({format!r}, {len(raw)} bytes) is damaged: {error.err}') from error
    if bgr is None:
        raise CrossSpecError(f'compressed image ({format!r}, {len(raw)} bytes) is damaged or cut')
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def picture_size(data: object) -> tuple[int, int]:
    """(width, height) in the header of a PNG or JPEG; CrossSpecError where there is none."""
    raw = bytes(as_bytes(data)[:2 ** 18])
    if raw[:8] == b'\x89PNG\r\n\x1a\n' and raw[12:16] == b'IHDR' and len(raw) >= 24:
        return int.from_bytes(raw[16:20], 'big'), int.from_bytes(raw[20:24], 'big')
    if raw[:2] == b'\xff\xd8':
        return _jpeg_size(raw)
    raise CrossSpecError(f'compressed image must begin like a JPEG or a PNG, got {raw[:8].hex() or "nothing"}')


def _jpeg_size(raw: bytes) -> tuple[int, int]:
    """Walk the marker segments to the frame header (ITU T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD7 or marker == 0x01:      # fill bytes and markers with no length
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):     # SOF; not DHT, JPG, DAC
            return int.from_bytes(raw[at + 7:at + 9], 'big'), int.from_bytes(raw[at + 5:at + 7], 'big')
        at += 2 + int.from_bytes(raw[at + 2:at + 4], 'big')
    raise CrossSpecError(f'compressed image is a JPEG without a frame header in its first {len(raw)} bytes')
