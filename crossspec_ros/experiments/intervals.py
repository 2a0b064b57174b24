"""From rows by drive to figures with intervals; the drives drawn are the same for every row that is compared."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crossspec_ros.experiments.experiment import Value
from crossspec_ros.speculation.intervals import RESAMPLES, drawn_groups, interval_95, resampled, resampled_ratio

Rows = Sequence[Mapping[str, Any]]
"""Measured windows, each with its ``drive``."""


def by_drive(rows: Rows) -> list[list[Mapping[str, Any]]]:
    """Rows of each drive, in order."""
    drives: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        drives.setdefault(row['drive'], []).append(row)
    return list(drives.values())


def ratio(rows: Rows, part: str, whole: str, digits: int = 2) -> Value | None:
    """Sum of ``part`` over sum of ``whole`` with its interval; None where the whole is nothing."""
    groups = by_drive(rows)
    parts, wholes = ([sum(row[name] for row in group) for group in groups] for name in (part, whole))
    if not sum(wholes):
        return None
    if len(groups) < 2 or not all(wholes):
        return Value(sum(parts) / sum(wholes), digits=digits)
    return Value(sum(parts) / sum(wholes), *interval_95(resampled_ratio(parts, wholes, drawn_groups(len(groups)))),
                 digits=digits)


def statistic(rows: Rows, name: str, figure: Callable[[np.ndarray], float] = np.median, digits: int = 1) -> Value:
    """``figure`` of a column, the median by default, with its interval."""
    groups = by_drive(rows)
    value = float(figure(np.array([row[name] for row in rows])))
    if len(groups) < 2:
        return Value(value, digits=digits)
    draws = drawn_groups(len(groups), RESAMPLES // 4)
    found = resampled(groups, lambda drawn: {name: float(figure(np.array([row[name] for row in drawn])))}, draws)
    return Value(value, *interval_95(found[name]), digits=digits)


def over(rows: Rows, base: Rows, part: str, whole: str, digits: int = 2) -> Value:
    """How far the ratio of ``rows`` is above that of ``base``, paired by drive."""
    sums = [[[sum(row[name] for row in group) for group in by_drive(each)] for name in (part, whole)]
            for each in (rows, base)]
    (part_a, whole_a), (part_b, whole_b) = sums
    value = sum(part_a) / sum(whole_a) - sum(part_b) / sum(whole_b)
    if len(part_a) < 2:
        return Value(value, digits=digits)
    draws = drawn_groups(len(part_a))
    return Value(value, *interval_95(resampled_ratio(part_a, whole_a, draws) - resampled_ratio(part_b, whole_b, draws)),
                 digits=digits)


def point(label: Any, value: Value | None) -> tuple[Any, float, float | None, float | None]:
    """As a plot takes it."""
    return (label, 0.0, None, None) if value is None else (label, value.value, value.low, value.high)
