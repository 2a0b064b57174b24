"""Intervals of measured figures: a paired bootstrap over groups, one way for benches, learning and experiments.

Windows of one drive are alike, so drives (or blocks of neighbouring windows) are drawn, not windows; rows that are
compared are drawn together, so that what a drive has in itself cancels out (Efron and Tibshirani 1993, chapters 6, 8).
Letters: G groups, R resamples.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

RESAMPLES = 2000

_Row = TypeVar('_Row')


def drawn_groups(groups: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Which groups each resample holds, int (R, G); the same for the same arguments, so rows stay paired."""
    return np.random.default_rng(seed).integers(groups, size=(resamples, groups))


def resampled(rows: Sequence[Sequence[_Row]], figures: Callable[[Sequence[_Row]], Mapping[str, float]],
              draws: np.ndarray) -> dict[str, np.ndarray]:
    """Each figure (R,) over the resamples of ``rows`` by group."""
    found = [figures([row for group in draw for row in rows[group]]) for draw in draws]
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def resampled_ratio(parts: Sequence[float], wholes: Sequence[float], draws: np.ndarray) -> np.ndarray:
    """Sum of ``parts`` over sum of ``wholes`` (each G) in each resample, (R,)."""
    return np.asarray(parts, float)[draws].sum(1) / np.asarray(wholes, float)[draws].sum(1)


def interval_95(values: np.ndarray) -> tuple[float, float]:
    """The middle 95% of resampled values."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
