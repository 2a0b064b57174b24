"""The overlay's picture: the image, the events beside it, and the caption under both, unverified words dim."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossspec_ros.view.safe import rich_text

VERIFIED = (255, 255, 255)
UNVERIFIED = (125, 132, 145)
NOTE = (110, 170, 220)
_GROUND = (16, 18, 22)
_LINES, _MARGIN = 4, 10


class Words(NamedTuple):
    """Text in one colour."""

    text: str
    colour: tuple[int, int, int]


@functools.lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=4)
def _dark(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), _GROUND, np.uint8)


def fit(rgb: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture scaled into (height, width), proportions kept, the rest dark; uint8 (H, W, 3)."""
    scale = min(width / rgb.shape[1], height / rgb.shape[0])
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    scaled = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if size == (width, height):
        return scaled
    canvas = _dark(width, height).copy()
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top:top + size[1], left:left + size[0]] = scaled
    return canvas


def compose(pictures: Sequence[np.ndarray | None], words: Sequence[Words], note: str, width: int) -> np.ndarray:
    """Pictures side by side, each ``width`` px wide at 4:3 (None: dark), over a strip with the text; uint8 (H, W, 3).
    """
    height = width * 3 // 4
    tiles = [_dark(width, height) if rgb is None else fit(rgb, width, height) for rgb in pictures]
    return np.vstack([np.hstack(tiles), _strip(tuple(words), note, max(12, width // 32), width * len(tiles))])


# the text changes a few times a second, the picture always
@functools.lru_cache(maxsize=2)
def _strip(words: tuple[Words, ...], note: str, size: int, width: int) -> np.ndarray:
    strip = Image.new('RGB', (width, (_LINES * size * 13) // 10 + 3 * _MARGIN + size), _GROUND)
    _write(ImageDraw.Draw(strip), words, note, size, width)
    return np.asarray(strip)


def _write(draw: ImageDraw.ImageDraw, words: Sequence[Words], note: str, size: int, width: int) -> None:
    """Words wrapped into at most four lines; what does not fit ends in an ellipsis."""
    font, small = _font(size), _font(max(10, size * 3 // 4))
    draw.text((_MARGIN, _MARGIN // 2), note, font=small, fill=NOTE)
    x, y, line = _MARGIN, _MARGIN + size, 0
    space = draw.textlength(' ', font=font)
    for run in words:
        for word in run.text.split():
            length = draw.textlength(word, font=font)
            if x > _MARGIN and x + length > width - _MARGIN:
                x, y, line = _MARGIN, y + size * 13 // 10, line + 1
            if line == _LINES:
                draw.text((width - _MARGIN - size, y - size * 13 // 10), '…', font=font, fill=run.colour)
                return
            draw.text((x, y), word, font=font, fill=run.colour)
            x += length + space


def as_html(words: Sequence[Words]) -> str:
    """The text as the rich text of RViz' overlay: escaped, each colour span closed with its semicolon."""
    spans = []
    for text, (red, green, blue) in words:
        spans.append(f'<span style="color: rgb({red},{green},{blue});">{rich_text(text)}</span>')
    return ' '.join(spans)
