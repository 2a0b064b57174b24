"""What the nodes' diagnostics and the window grid say about a demo: drops, events, the windows of the stream."""
from __future__ import annotations

import re
from collections.abc import Mapping

from crossspec_ros.timing.window import WindowGrid
from crossspec_ros.view.record import Diagnostic, Recorder

_DROP = re.compile(r'dropped|refused|lost|skipped|failed|overflow|malformed|damaged|unusable|unstamped|_off$|duplicate|'
                   r'no_window|(frames|packets)_window_|_inactive$|_disabled$|_forgotten$|went_back|_late$|_stale$|'
                   r'_few_frames$|_overtaken$|_unfinished$')
_RECEIVED = 'received '


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r'\d+', text) else None


def node_name(full_name: str) -> str:
    """The name of a node without its namespace."""
    return full_name.rsplit('/', 1)[-1]


def dropped_by_node(diagnostics: Mapping[str, Diagnostic]) -> dict[str, dict[str, int]]:
    """What each node dropped, by cause; causes and nodes with nothing are left out."""
    found = {node_name(name): {key: count for key, value in status.values.items()
                               if _DROP.search(key) and (count := _count(value))}
             for name, status in diagnostics.items()}
    return {name: causes for name, causes in sorted(found.items()) if causes}


def events_by_topic(diagnostics: Mapping[str, Diagnostic]) -> dict[str, dict[str, int]]:
    """Packets received and events decoded by the drafter, by event topic."""
    values = next((status.values for name, status in diagnostics.items() if node_name(name) == 'drafter'), {})
    topics = [key.removeprefix(_RECEIVED) for key in values if key.startswith(_RECEIVED)]
    return {topic: {'packets': _count(values.get('packets', '')) or 0, 'events': _count(values.get('events', '')) or 0}
            for topic in topics}


def stream_window_ids(record: Recorder, first_ns: int, last_ns: int, grid: WindowGrid = WindowGrid()) -> list[int]:
    """Windows that hold something of a stream from ``first_ns`` to ``last_ns``, in the graph's clock.

    Nodes go on for a moment when a stream has ended, as a camera may only be slow: those windows are not the stream's.
    """
    return [window.window_id for window in record.ordered()
            if window.window_end_ns > first_ns and window.window_end_ns - grid.span_ns < last_ns]
