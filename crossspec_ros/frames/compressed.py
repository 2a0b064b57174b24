"""Pictures of sensor_msgs/CompressedImage: JPEG, PNG, TIFF, WebP and BMP, by what their bytes say.

A compressed picture tells its size in its first bytes: it is read there before memory is given to it.
"""
from __future__ import annotations

import cv2
import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.encodings import as_bytes

MAX_PIXELS = 64_000_000
FORMATS = ('JPEG', 'PNG', 'TIFF', 'WebP', 'BMP')
_VIDEO = {'h264': 'h264', 'h.264': 'h264', 'avc': 'h264', 'x264': 'h264', 'h265': 'hevc', 'h.265': 'hevc',
          'hevc': 'hevc', 'x265': 'hevc', 'vp9': 'vp9', 'av1': 'av1'}
_END = np.array([0xFF, 0xD9], np.uint8)
_HEAD = 1 << 18


def video_codec(format: str) -> str | None:
    """Name of the video codec that a format or an encoding speaks of (libx264, h264_nvenc, hevc;...), or None."""
    name = format.lower().split(';')[0]
    return next((codec for word, codec in _VIDEO.items() if word in name), None)


def unpack_compressed(format: str, data: object) -> np.ndarray:
    """RGB pixels of a picture in the numbers that it came in (8 or 16 bits, fractions of TIFF), (H, W, 3).

    ``format`` is the field of the message; it is only asked whether the payload is a picture at all: which kind of
    picture and its colour order are read from the bytes. A JPEG whose end mark is missing is taken when nothing else
    is. Raises CrossSpecError on depth images, video, other kinds, pictures above ``MAX_PIXELS`` and damaged ones.
    """
    if 'compresseddepth' in format.lower().replace(' ', ''):
        raise CrossSpecError(f'compressed image format must be a colour or grey picture, got {format!r}; choose the '
                             'topic of the colour camera')
    raw = as_bytes(data)
    if (codec := video_codec(format)) is not None and not is_picture(raw):
        raise CrossSpecError(f'compressed image format must be one of {", ".join(FORMATS)}, got {codec} video in '
                             f'{format!r}; play it from a bag, where its packets are decoded in their order')
    width, height = picture_size(raw)
    if not 0 < width * height <= MAX_PIXELS:
        raise CrossSpecError(f'compressed image must have 1 to {MAX_PIXELS} pixels, got {width}x{height}')
    pixels = _decode(format, raw)
    if pixels is None and raw[0] == 0xFF:
        pixels = _decode_without_end(format, raw)
    if pixels is None:
        raise CrossSpecError(f'compressed image ({format!r}, {len(raw)} bytes) is damaged or cut')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode(format: str, raw: np.ndarray) -> np.ndarray | None:
    try:
        pixels = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise CrossSpecError(f'compressed image ({format!r}, {len(raw)} bytes) is damaged: {error.err}') from error
    if pixels is None or pixels.dtype.kind in 'uf' and pixels.dtype != np.float64:
        return pixels
    return pixels.astype(np.float32)                    # what cvtColor takes


def _decode_without_end(format: str, raw: np.ndarray) -> np.ndarray | None:
    """A JPEG that lacks nothing but its end mark; None where part of its picture is missing too.

    Where the data of the picture is whole, what follows it changes nothing.
    """
    raw = raw[:-1] if raw[-1] == 0xFF else raw                              # half of the mark
    first = _decode(format, np.concatenate([raw, _END]))
    other = _decode(format, np.concatenate([raw, np.full(256, 0x55, np.uint8), _END]))
    return first if first is not None and other is not None and np.array_equal(first, other) else None


def picture_size(data: object) -> tuple[int, int]:
    """(width, height) in the header of a picture; CrossSpecError where there is none."""
    whole = as_bytes(data)
    raw = bytes(whole[:_HEAD])
    kind = _kind(raw)
    if kind == 'PNG' and len(raw) >= 24:
        return int.from_bytes(raw[16:20], 'big'), int.from_bytes(raw[20:24], 'big')
    if kind == 'JPEG':
        return _jpeg_size(raw)
    if kind == 'TIFF':
        return _tiff_size(whole)
    if kind == 'WebP' and len(raw) >= 30:
        return _webp_size(raw)
    if kind == 'BMP' and len(raw) >= 26:
        if int.from_bytes(raw[14:18], 'little') == 12:
            return int.from_bytes(raw[18:20], 'little'), int.from_bytes(raw[20:22], 'little')
        return abs(int.from_bytes(raw[18:22], 'little', signed=True)), abs(
            int.from_bytes(raw[22:26], 'little', signed=True))
    raise CrossSpecError(f'compressed image must begin like one of {", ".join(FORMATS)}, '
                         f'got {raw[:8].hex() or "nothing"}')


def is_picture(raw: np.ndarray) -> bool:
    """Whether these bytes begin like a picture of `FORMATS`."""
    return bool(_kind(bytes(raw[:16])))


def _kind(raw: bytes) -> str:
    """Which picture these are the first bytes of, '' of none."""
    if raw[:8] == b'\x89PNG\r\n\x1a\n' and raw[12:16] == b'IHDR':
        return 'PNG'
    if raw[:2] == b'\xff\xd8':
        return 'JPEG'
    if raw[:4] in (b'II*\0', b'MM\0*'):
        return 'TIFF'
    if raw[:4] == b'RIFF' and raw[8:12] == b'WEBP':
        return 'WebP'
    return 'BMP' if raw[:2] == b'BM' else ''


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


def _tiff_size(raw: np.ndarray) -> tuple[int, int]:
    """Tags 256 and 257 of the first directory (TIFF 6.0, section 2); it may lie at the end of the file."""
    order = 'little' if raw[0] == 0x49 else 'big'

    def number(at: int, size: int) -> int:
        return int.from_bytes(bytes(raw[at:at + size]), order)
    at = number(4, 4)
    sides: dict[int, int] = {}
    for entry in range(at + 2, min(at + 2 + 12 * number(at, 2), len(raw) - 11), 12):
        if (tag := number(entry, 2)) in (256, 257):
            sides[tag] = number(entry + 8, 2 if number(entry + 2, 2) == 3 else 4)
    if len(sides) < 2:
        raise CrossSpecError(f'compressed image is a TIFF of {len(raw)} bytes without its width and height')
    return sides[256], sides[257]


def _webp_size(raw: bytes) -> tuple[int, int]:
    """Size in a WebP's first chunk (RFC 9649, 2.5 to 2.7)."""
    if raw[12:16] == b'VP8X':
        return 1 + int.from_bytes(raw[24:27], 'little'), 1 + int.from_bytes(raw[27:30], 'little')
    if raw[12:16] == b'VP8L':
        bits = int.from_bytes(raw[21:25], 'little')
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(raw[26:28], 'little') & 0x3FFF, int.from_bytes(raw[28:30], 'little') & 0x3FFF
