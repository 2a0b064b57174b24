"""What the nodes' diagnostics say was dropped, by node and cause."""
from __future__ import annotations

import re
from collections.abc import Mapping

from crossspec_ros.view.record import Diagnostic

_DROP = re.compile(r'dropped|refused|lost|skipped|failed|overflow|malformed|damaged|unusable|unstamped|_off$|duplicate|'
                   r'no_window|(frames|packets)_window_|_inactive$|_disabled$|_forgotten$|went_back|_late$|_stale$|'
                   r'_few_frames$|_overtaken$|_unfinished$')


def count_of(text: str) -> int | None:
    """A count as diagnostics carry it; None where it is none."""
    return int(text) if re.fullmatch(r'\d+', text) else None


def node_name(full_name: str) -> str:
    """The name of a node without its namespace."""
    return full_name.rsplit('/', 1)[-1]


def dropped_by_node(diagnostics: Mapping[str, Diagnostic]) -> dict[str, dict[str, int]]:
    """What each node dropped, by cause; causes and nodes with nothing are left out."""
    found = {node_name(name): {key: count for key, value in status.values.items()
                               if _DROP.search(key) and (count := count_of(value))}
             for name, status in diagnostics.items()}
    return {name: causes for name, causes in sorted(found.items()) if causes}
