"""How old the messages of a camera are at each stage on their way into a window."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

RECEIVED, UNPACKED, ENCODED, PREFILLED = STAGES = ('received', 'unpacked', 'encoded', 'prefilled')
QUANTILES = (50, 95, 99)


@dataclass(frozen=True)
class StageAges:
    """Ages at one stage, ms: how many messages, and percentiles over them."""

    stage: str
    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class AgeBook:
    """Ages (ms since the stamp) by stage, of the newest ``keep`` messages. Any thread may call."""

    def __init__(self, keep: int = 1000) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._ages: dict[str, deque[float]] = {}

    def note(self, stage: str, ages_ms: Iterable[float]) -> None:
        """Messages have passed a stage at these ages."""
        with self._lock:
            self._ages.setdefault(stage, deque(maxlen=self._keep)).extend(ages_ms)

    def reset(self) -> None:
        """Time jumped."""
        with self._lock:
            self._ages.clear()

    def summary(self) -> list[StageAges]:
        """What was seen, in the order of the stages."""
        with self._lock:
            ages = {stage: list(kept) for stage, kept in self._ages.items() if kept}
        return [StageAges(stage, len(ages[stage]), *map(float, np.percentile(ages[stage], QUANTILES)))
                for stage in STAGES if stage in ages]
