"""How many nodes a target pass should check: expected tokens against measured milliseconds.

Sequoia 2402.12374 (tree size from hardware), facts on c(n). ``c(n)`` is the time of a target forward over ``n`` new
tokens at the context length in use.
"""
from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossspec_ros.errors import CrossSpecError

_STEP = 2 ** 0.25
"""Ratio between neighbouring sizes at which times are kept: 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16, ..."""

_REACH = 4.0                     # bins, an octave, over which what one size has learnt falls to 1 / e for the others
_SPIKE = 2.0                     # a time so many times the expected one, or a share of it, counts as that


class CostCurve:
    """c(n), piecewise linear through measured points, kept up to date by moving averages.

    Sizes are binned on a logarithmic grid, so the curve is bounded whatever was measured. Where larger forwards were
    measured to be cheaper than smaller ones, all of these are read as their mean: the curve never falls. Beyond the
    last point it goes on with the slope from the first to the last. Where forwards are filled up to ``sizes``, rising,
    n up to the largest costs what the next size does, so that a tree grows to the size for nothing.

    What holds a machine up holds every size up, and a tree is only ever as large as the curve says that it pays: a size
    that a single slow forward had made dear would never be tried again. So a time moves the sizes near its own as well,
    one far from what was expected counts as `_SPIKE` times that, and a size met for the first time is not believed at
    once.
    """

    def __init__(self, points_ms: Mapping[int, float] | None = None, *, weight: float = 0.1,
                 sizes: Sequence[int] = ()) -> None:
        self._weight, self._sizes = weight, np.asarray(sizes, dtype=np.float64)
        self._bins: dict[int, _Bin] = {}
        self._curve: list[tuple[float, float]] | None = None
        for tokens, cost_ms in (points_ms or {}).items():
            self.measured(tokens, cost_ms)

    @property
    def known(self) -> bool:
        """Whether there are two sizes to draw a line through."""
        return len(self._bins) >= 2

    @property
    def bins(self) -> int:
        """Number of sizes that times are kept of."""
        return len(self._bins)

    def measured(self, tokens: int, cost_ms: float) -> None:
        """A forward over ``tokens`` new tokens takes ``cost_ms``, by a measurement of its own (a median): the curve
        goes through it. Raises CrossSpecError for what cannot be a time."""
        size = self._checked(tokens, cost_ms)
        self._bins[_place(size)] = _Bin(size, cost_ms)
        self._curve = None

    def observe(self, tokens: int, cost_ms: float) -> None:
        """A forward over ``tokens`` new tokens took ``cost_ms``. Raises CrossSpecError for what cannot be a time."""
        size = self._checked(tokens, cost_ms)
        place = _place(size)
        if not self.known:
            self._bins[place] = _Bin(size, cost_ms)
        else:
            expected_ms = self(size)
            ratio = min(max(cost_ms / expected_ms, 1.0 / _SPIKE), _SPIKE)
            own = self._bins.setdefault(place, _Bin(size, expected_ms, 0.0))
            for other, each in self._bins.items():
                each.cost_ms *= ratio ** (self._weight * math.exp(-abs(other - place) / _REACH))
            own.size += self._weight * (size - own.size)
            own.count = min(own.count + 1.0, 1.0 / self._weight)
        self._curve = None

    def _checked(self, tokens: int, cost_ms: float) -> float:
        if tokens < 1 or not cost_ms > 0 or math.isinf(cost_ms):
            raise CrossSpecError(f'a forward must have tokens >= 1 and finite cost_ms > 0, got {tokens} and {cost_ms}')
        return float(self._filled(tokens))

    def _filled(self, tokens: float | np.ndarray) -> np.ndarray:
        """The sizes of forwards of so many tokens."""
        if not len(self._sizes):
            return np.asarray(tokens, dtype=np.float64)
        place = np.searchsorted(self._sizes, tokens).clip(max=len(self._sizes) - 1)
        return np.maximum(self._sizes[place], tokens)

    def points(self) -> list[tuple[float, float]]:
        """(size, ms) in order of size, non-decreasing."""
        if self._curve is None:
            runs: list[list[float]] = []                         # [ms, weight, bins] of neighbours read as one
            for each in (bins := sorted(self._bins.values(), key=lambda each: each.size)):
                runs.append([each.cost_ms, each.count + 1.0, 1])
                while len(runs) > 1 and runs[-2][0] > runs[-1][0]:
                    cost_ms, weight, count = runs.pop()
                    before = runs[-1]
                    before[0] = (before[0] * before[1] + cost_ms * weight) / (before[1] + weight)
                    before[1:] = before[1] + weight, before[2] + count
            costs = [cost_ms for cost_ms, _, count in runs for _ in range(count)]
            self._curve = [(each.size, cost_ms) for each, cost_ms in zip(bins, costs)]
        return self._curve

    def __call__(self, tokens: float) -> float:
        """Milliseconds of a forward over ``tokens`` new tokens. Raises CrossSpecError while nothing was measured."""
        points = self.points()
        if not points:
            raise CrossSpecError('the cost curve must have at least one measured point; call observe first')
        tokens = float(self._filled(tokens))
        if tokens <= points[0][0]:
            return points[0][1]
        for (size, cost_ms), (next_size, next_ms) in zip(points, points[1:]):
            if tokens <= next_size:
                return cost_ms + (next_ms - cost_ms) * (tokens - size) / (next_size - size)
        last, last_ms = points[-1]
        return last_ms + self.mean_slope() * (tokens - last)

    def along(self, start: int, count: int) -> np.ndarray:
        """float64 (count,): c of ``start``, ``start + 1``, ...; the same values as one by one, at once."""
        sizes = self._filled(np.arange(start, start + count, dtype=np.float64))
        points = np.asarray(self.points())                       # (points, 2)
        if not len(points):
            raise CrossSpecError('the cost curve must have at least one measured point; call observe first')
        beyond = np.maximum(sizes - points[-1, 0], 0.0)
        return np.interp(sizes, points[:, 0], points[:, 1]) + self.mean_slope() * beyond

    def mean_slope(self) -> float:
        """Milliseconds of one more token, from the first measured size to the last."""
        (first, first_ms), (last, last_ms) = self.points()[0], self.points()[-1]
        return (last_ms - first_ms) / (last - first) if last > first else 0.0


@dataclass
class _Bin:
    """Mean size and milliseconds of forwards of about one size, and how many were met, up to what a mean remembers."""

    size: float
    cost_ms: float
    count: float = 1.0


def _place(size: float) -> int:
    return round(math.log(size, _STEP))


class SurvivalRecord:
    """What became of nodes that promised a survival: decayed shares of accepted ones, by sources and promise.

    Sources promise too much after a mismatch and together more than one by one; the size of the tree is chosen from
    what such nodes really did. Promises are binned by half powers of two; few nodes in a bin count as promised.
    """

    def __init__(self, *, strength: float = 30.0, memory: float = 4000.0) -> None:
        self._strength = strength
        self._memory = memory
        self._bins: dict[tuple[int, int], list[float]] = {}  # (source bits, bin) -> [nodes, accepted]

    def __len__(self) -> int:
        return len(self._bins)

    def clear(self) -> None:
        """Back to believing the promises."""
        self._bins.clear()

    def observe(self, sources: Sequence[int], promised: Sequence[float], accepted: Collection[int]) -> None:
        """A pass decided these nodes; ``accepted`` holds the indices of those that passed."""
        for node, (bits, survival) in enumerate(zip(sources, promised)):
            record = self._bins.setdefault((bits, _bin(survival)), [0.0, 0.0])
            record[0] += 1.0
            record[1] += node in accepted
            if record[0] > self._memory:
                record[0] *= 0.5
                record[1] *= 0.5

    def expected(self, sources: Sequence[int], promised: Sequence[float]) -> list[float]:
        """Survivals as they turned out for nodes like these."""
        believed = []
        for bits, survival in zip(sources, promised):
            nodes, hits = self._bins.get((bits, _bin(survival)), (0.0, 0.0))
            believed.append((hits + self._strength * survival) / (nodes + self._strength))
        return believed


def _bin(survival: float) -> int:
    return int(-2.0 * math.log2(survival))


class Pace:
    """Tokens that a millisecond of the target gains in passes of their own, over about the last ``memory`` passes."""

    def __init__(self, *, memory: float = 200.0) -> None:
        self._keep = 1.0 - 1.0 / memory
        self.clear()

    def clear(self) -> None:
        """Nothing known."""
        self._tokens = 0.0
        self._spent_ms = 0.0

    @property
    def tokens_per_ms(self) -> float | None:
        """The rate; None before the first pass."""
        return self._tokens / self._spent_ms if self._spent_ms else None

    def observe(self, tokens: int, cost_ms: float) -> None:
        """A pass said ``tokens`` and cost ``cost_ms``."""
        self._tokens = self._tokens * self._keep + tokens
        self._spent_ms = self._spent_ms * self._keep + cost_ms


def best_size(
    survivals: Sequence[float], cost: CostCurve, pace: float | None = None, *, fused_tokens: int = 0,
    node_ms: float = 0.0,
) -> int:
    """Number of nodes that pays best.

    A pass over the first ``n`` nodes says A(n) = 1 + sum of their survivals and costs C(n) = c(fused + 1 + n) + n *
    node_ms, where ``fused_tokens`` go through the same forward anyway. A token said now saves 1 / pace milliseconds
    later, so A - pace * C is to be highest: nodes are added while S > pace * dC, which is S * C > A * dC at the average
    pass, and does not mistake a dear prefill for a reason to draft more. Without a ``pace`` (tokens per ms) A / C is to
    be highest. The highest value counts and not the first peak, because a measured curve has steps. ``survivals`` about
    falling, as ``grow`` gives them.
    """
    count = len(survivals) + 1
    expected = np.cumsum([1.0, *survivals])                      # (count,), A of 0, 1, ... nodes
    cost_ms = cost.along(fused_tokens + 1, count) + node_ms * np.arange(count)
    worth = expected / cost_ms if pace is None else expected - pace * cost_ms
    return int(worth.argmax())
