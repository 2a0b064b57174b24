"""How much happens, and where: what steers the length of a draft."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossspec_ros.events.representations import as_parts, check_span, histogram
from crossspec_ros.events.types import Events


@dataclass(frozen=True)
class Activity:
    """Events of a window. ``density`` is float32 (H, W): events a second and pixel of the sensor, by cell.

    ``rate_hz`` events a second; ``on_share`` the share of ON among them; ``busy_share`` the share of cells in which
    anything happened; ``spread`` is 0 where all events fall in one cell and 1 where all cells have the same (entropy
    over its maximum). The shares are 0 where there are no events.
    """

    rate_hz: float
    on_share: float
    busy_share: float
    spread: float
    density: np.ndarray


def activity(
    events: Events | Sequence[Events], start_ns: int, end_ns: int, *, shape: tuple[int, int] = (8, 8)
) -> Activity:
    """Density and rate of the events in (``start_ns``, ``end_ns``]; errors as in ``representations.histogram``."""
    check_span(start_ns, end_ns)
    by_sign = histogram(events, start_ns, end_ns, shape=shape).astype(np.float64)       # (2, H, W)
    counts = by_sign.sum(axis=0)
    total = float(counts.sum())
    seconds = (end_ns - start_ns) / 1e9
    parts = as_parts(events)
    pixels = max(parts[0].width * parts[0].height, 1) / counts.size if parts else 1.0
    shares = counts[counts > 0] / total if total else np.ones(1)
    entropy = -float((shares * np.log(shares)).sum())
    return Activity(rate_hz=total / seconds, on_share=float(by_sign[1].sum()) / total if total else 0.0,
                    busy_share=float(np.count_nonzero(counts)) / counts.size,
                    spread=entropy / float(np.log(counts.size)) if counts.size > 1 else 0.0,
                    density=(counts / seconds / pixels).astype(np.float32))
