"""How many cores a process may use."""
from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS, _ROOT = Path('/proc/self/cgroup'), Path('/sys/fs/cgroup')


def cores(groups: Path = _GROUPS, root: Path = _ROOT) -> int:
    """Cores that this process may run on, no more than its control groups grant it, rounded up; at least 1.

    A container with a share of a host (``docker run --cpus 2``) sees all of the host's cores: as many threads would
    take turns at its share, and wait for each other. Linux; elsewhere the cores of the machine.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(share) for share in _shares(groups, root))]))


def _shares(groups: Path, root: Path) -> Iterator[float]:
    """The shares of the process' groups and of those around them, of both kinds of control groups."""
    for line in _words(groups, '\n'):
        number, _, rest = line.partition(':')
        controllers, _, path = rest.partition(':')
        if number == '0' and not controllers:
            places, names = (root, root / 'unified'), ('cpu.max',)
        elif 'cpu' in controllers.split(','):
            places, names = (root / controllers, root / 'cpu'), ('cpu.cfs_quota_us', 'cpu.cfs_period_us')
        else:
            continue
        for place in places:
            inner = place / path.lstrip('/')
            for folder in (inner, *inner.parents):
                if folder.is_relative_to(place):
                    yield from _share([word for name in names for word in _words(folder / name)])


def _share(words: list[str]) -> Iterator[float]:
    """Of quota and period; none where the quota is ``max`` or below zero."""
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        yield int(words[0]) / int(words[1])


def _words(path: Path, between: str | None = None) -> list[str]:
    try:
        return path.read_text().split(between)
    except (OSError, ValueError):
        return []
