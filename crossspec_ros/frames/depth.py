"""Pictures of more than 8 bits a number, made into 8: by the range that is in use, not by the one that the type has."""
from __future__ import annotations

import math

import numpy as np


def top_of(pixels: np.ndarray) -> float:
    """The number that white is taken to be, from the largest one of a picture.

    Whole numbers: the largest of 8, 10, 12, 14 ... bits, as sensors have them. Fractions: 1, 255, or a power of two.
    """
    if pixels.dtype.kind == 'f':
        finite = pixels[np.isfinite(pixels)]
        largest = float(finite.max()) if finite.size else 0.0
        return 1.0 if largest <= 1.0 else 255.0 if largest <= 255.0 else 2.0 ** math.ceil(math.log2(largest))
    largest = max(0, int(pixels.max())) if pixels.size else 0
    bits = max(8, largest.bit_length() + largest.bit_length() % 2)
    return float(min(2 ** bits - 1, np.iinfo(pixels.dtype).max))


def full_scale(dtype: np.dtype) -> float | None:
    """The largest number of a type; None of fractions, which have none."""
    return None if dtype.kind == 'f' else float(np.iinfo(dtype).max)


def to_8_bits(pixels: np.ndarray, top: float) -> np.ndarray:
    """uint8 of the same shape: 0 to ``top`` become 0 to 255, what is below or above (or no number) the nearest end."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind == 'f':
        scaled = np.nan_to_num(pixels.astype(np.float32) * np.float32(255.0 / top), nan=0.0, posinf=255.0, neginf=0.0)
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    shift = round(math.log2(top + 1)) - 8
    if shift < 0:                                       # 7 bits of signed ones
        pixels, shift = pixels.astype(np.int16) << -shift, 0
    return np.clip(pixels >> shift, 0, 255).astype(np.uint8)
