"""Counter-based random numbers: a function of (key, counter), with no state that drafts could disturb.

Philox4x32-10 (Salmon et al., SC'11), vectorised over the counters in numpy.
"""
from __future__ import annotations

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF_WORD = np.uint64(32)


def philox4x32(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds of Philox.

    counters: uint32 (..., 4); key: two words of 32 bits. Returns uint32 (..., 4), independent uniform words.
    """
    words = counters.astype(np.uint64)
    x0, x1, x2, x3 = (words[..., place] for place in range(4))
    k0, k1 = key[0] & 0xFFFFFFFF, key[1] & 0xFFFFFFFF
    for _ in range(10):
        product0, product1 = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2  # < 2^64: no overflow
        x0, x1, x2, x3 = (
            (product1 >> _HALF_WORD) ^ x1 ^ np.uint64(k0), product1 & _LOW,
            (product0 >> _HALF_WORD) ^ x3 ^ np.uint64(k1), product0 & _LOW)
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=-1).astype(np.uint32)


def uniforms(count: int, seed: int, window_id: int, position: int) -> np.ndarray:
    """float64 (count,) in (0, 1), fixed by (seed, window_id, position) alone.

    The seed is the key; window, position and block number are the counter, so neighbours share no numbers. Seed and
    window are taken modulo 2^64 and 2^32, as is the position.
    """
    blocks = (count + 3) // 4
    counters = np.empty((blocks, 4), np.uint32)
    counters[:, 0] = np.arange(blocks, dtype=np.uint32)
    counters[:, 1] = position & 0xFFFFFFFF
    counters[:, 2] = window_id & 0xFFFFFFFF
    counters[:, 3] = window_id >> 32 & 0xFFFFFFFF
    words = philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)).reshape(-1)[:count]
    return (words.astype(np.float64) + 0.5) / 2.0 ** 32  # the half keeps it off 0 and 1


def gumbels(count: int, seed: int, window_id: int, position: int) -> np.ndarray:
    """float64 (count,): standard Gumbel noise, -log(-log(u))."""
    return -np.log(-np.log(uniforms(count, seed, window_id, position)))
