"""How much one time's events differ from another's, from coarse maps of how much moved where.

A map has the absolute values of a voxel grid of two time bins, summed over coarse cells: early and late apart, so that
an edge that passes a cell, ON and then OFF, does not cancel out. Two maps are compared as roots: the root of a count
has the same noise whatever the count, and a place where little moves weighs as much as it should.
"""
from __future__ import annotations

import numpy as np

MAP_SHAPE = (6, 8)
"""Rows and columns of a map, at most: as coarse as a road user a few metres away."""

_NOISE = 1.0                # of the difference of two roots of counts, about one and a half standard deviations


def activity_map(halves: np.ndarray) -> np.ndarray:
    """Map, float64 (R, C), of a voxel grid of two time bins, float (2, H, W)."""
    fine = np.abs(halves, dtype=np.float64).sum(axis=0)
    for axis, most in enumerate(MAP_SHAPE):
        side = fine.shape[axis]
        cells = min(most, side)
        fine = np.add.reduceat(fine, np.arange(cells) * side // cells, axis=axis)
    return fine


def difference(now: np.ndarray, before: np.ndarray) -> float:
    """From 0, the same up to noise, towards 1, nothing in common; maps (R, C) of the same time each."""
    roots, others = np.sqrt(now), np.sqrt(before)
    apart = np.maximum(np.abs(roots - others) - _NOISE, 0.0).sum()
    return float(apart / (roots.sum() + others.sum() + roots.size))
