"""`crossspec bench decode --drive N`: what the engine holds over a long drive.

Frames and drafts come from a stock of at most 100 rendered windows, drawn anew for each window of the drive, so that
the drive costs what decoding costs. Everything that grows with the number of windows still grows: each has an id,
captions, drafts and passes of its own.
"""
from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import psutil
from rich.console import Console
from rich.progress import track

from crossspec_ros.bench.decode_schemes import Speculation, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

_WARM = 10                       # windows after which buffers and caches have their size
_POINTS = 8


def drive(args: argparse.Namespace, scheme: Speculation, stock: Sequence[Window]) -> dict:
    """``args.drive`` windows in a row; by number of windows, resident memory in MB and what the engine holds.

    The rise is from the point at which the caption memory has been renewed once (or, on a short drive, from the tenth
    window) to the end.
    """
    settled = min(2 * scheme.engine.config.memory_captions, max(args.drive // 2, 1))
    points = {_WARM, settled, args.drive, *range(0, args.drive, max(args.drive // _POINTS, 1))} - {0}
    order = np.random.default_rng(args.seed).integers(len(stock), size=args.drive)
    process, rss_mb, sizes = psutil.Process(), {}, {}
    for index in track(range(args.drive), description='drive', console=Console(stderr=True), transient=True):
        scheme.run(renamed(stock[order[index]], index))
        if index + 1 in points:
            rss_mb[index + 1] = round(process.memory_info().rss / 2**20, 1)
            sizes[index + 1] = scheme.engine.sizes()
    start = settled if settled in rss_mb else args.drive
    return {'windows': args.drive, 'stock': len(stock), 'rss_mb': rss_mb, 'sizes': sizes,
            'rise_mb': {'from_window': start, 'mb': round(rss_mb[args.drive] - rss_mb[start], 1)},
            'statistics': scheme.engine.statistics()}


def renamed(window: Window, window_id: int) -> Window:
    """The same frames and drafts as another window."""
    drafts = {name: draft and replace(draft, window_id=window_id)
              for name, draft in (('early', window.early), ('late', window.late))}
    return replace(window, window_id=window_id, **drafts)
