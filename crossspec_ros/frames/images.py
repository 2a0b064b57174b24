"""Images as cameras send them, made into RGB of 8 bits.

Takes the fields of sensor_msgs/Image and sensor_msgs/CompressedImage and needs neither ROS nor cv_bridge. Shape
letters: H rows, W columns.
"""
from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from crossspec_ros.frames.compressed import FORMATS, MAX_PIXELS, picture_size, unpack_compressed
from crossspec_ros.frames.depth import full_scale, to_8_bits, top_of
from crossspec_ros.frames.encodings import ENCODINGS, as_bytes, promised_bits, unpack

__all__ = ['ENCODINGS', 'FORMATS', 'MAX_PIXELS', 'PictureReader', 'as_bytes', 'decode_compressed', 'decode_image',
           'picture_size']

_FIRST_PICTURES = 8
_SLIVER = 0.1


def decode_image(encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: object) -> np.ndarray:
    """RGB picture of a raw image by itself, uint8 (H, W, 3), in memory of its own.

    16-bit encodings keep their 8 high bits; see ``PictureReader`` for a topic of pictures, which learns how many bits
    there are. Raises CrossSpecError like ``encodings.unpack``.
    """
    return _alone(unpack(encoding, height, width, step, is_bigendian, data), promised_bits(encoding))


def decode_compressed(format: str, data: object) -> np.ndarray:
    """RGB picture of a JPEG, PNG, TIFF, WebP or BMP by itself, uint8 (H, W, 3).

    Raises CrossSpecError like ``compressed.unpack_compressed``.
    """
    return _alone(unpack_compressed(format, data), None)


def _alone(pixels: np.ndarray, bits: int | None) -> np.ndarray:
    top = 2.0 ** bits - 1 if bits else full_scale(pixels.dtype) if pixels.dtype.itemsize <= 2 else None
    return to_8_bits(pixels, top_of(pixels) if top is None else top)


class PictureReader:
    """Pictures of one topic: deep ones become 8 bits by the range that the topic has used so far.

    A camera of 12 bits sends them right-aligned in 16: by the range of the type its pictures would be black. The range
    only grows, so that a picture is never brighter for what came before it. ``note`` gets one line when a range is
    found that is not the type's, and when the first pictures use less than a tenth of theirs. Safe from any thread.
    """

    def __init__(self, name: str = 'image', note: Callable[[str], None] = lambda line: None) -> None:
        self.name = name
        self._note = note
        self._lock = threading.Lock()
        self._top = 0.0
        self._seen = 0
        self._low, self._high = np.inf, -np.inf

    def image(self, encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: object) -> np.ndarray:
        """RGB picture of a raw image, uint8 (H, W, 3); raises CrossSpecError like ``decode_image``."""
        pixels = unpack(encoding, height, width, step, is_bigendian, data)
        return self._to_8_bits(pixels, encoding, promised_bits(encoding))

    def compressed(self, format: str, data: object) -> np.ndarray:
        """RGB picture of a compressed image, uint8 (H, W, 3); raises CrossSpecError like ``decode_compressed``."""
        return self._to_8_bits(unpack_compressed(format, data), format, None)

    def _to_8_bits(self, pixels: np.ndarray, encoding: str, bits: int | None) -> np.ndarray:
        if bits:
            return to_8_bits(pixels, 2.0 ** bits - 1)
        if pixels.dtype == np.uint8:
            self._look(pixels, encoding)
            return pixels
        with self._lock:
            top = top_of(pixels)
            grown = top > self._top
            self._top = top = max(top, self._top)
            if grown and (line := self._deep_line(pixels, encoding)):
                self._note(line)
        return to_8_bits(pixels, top)

    def _deep_line(self, pixels: np.ndarray, encoding: str) -> str:
        full = full_scale(pixels.dtype)
        if full is None:
            return f'{self.name}: {encoding} holds fractions: 0 to {self._top:g} is taken as black to white'
        if self._top >= full:
            return ''
        low, high = int(pixels.min()), int(pixels.max())
        return (f'{self.name}: {encoding} uses {_percent(high / full)} of its range ({low} to {high} of {full:.0f}): '
                f'taken as {round(np.log2(self._top + 1))} bits, so that it is not black')

    def _look(self, pixels: np.ndarray, encoding: str) -> None:
        """Note of 8-bit pictures that the first ones are nearly of one brightness."""
        if self._seen >= _FIRST_PICTURES:
            return
        sample = pixels[::4, ::4]
        low, high = int(sample.min()), int(sample.max())
        with self._lock:
            self._seen += 1
            self._low, self._high = min(self._low, low), max(self._high, high)
            share = (self._high - self._low) / 255
            if self._seen == _FIRST_PICTURES and share < _SLIVER:
                self._note(f'{self.name}: {encoding} uses {_percent(share)} of its range ({self._low:.0f} to '
                           f'{self._high:.0f} of 255) in its first {_FIRST_PICTURES} pictures: is the lens covered, '
                           'or the exposure wrong?')


def _percent(share: float) -> str:
    return f'{100 * share:.0f}%' if share >= 0.01 else 'less than 1%'
