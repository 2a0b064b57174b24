"""Numbers in a few words."""
from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Median and largest; None where there is none."""
    return {'p50': round(median(values), 2) if values else None, 'max': round(max(values), 2) if values else None}
