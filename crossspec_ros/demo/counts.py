"""What the nodes' diagnostics and the window grid say about a demo: events, the windows of the stream."""
from __future__ import annotations

from collections.abc import Mapping

from crossspec_ros.timing.window import WindowGrid
from crossspec_ros.view.drops import count_of, node_name
from crossspec_ros.view.record import Diagnostic, Recorder

_RECEIVED = 'received '


def events_by_topic(diagnostics: Mapping[str, Diagnostic]) -> dict[str, dict[str, int]]:
    """Packets received and events decoded by the drafter, by event topic."""
    values = next((status.values for name, status in diagnostics.items() if node_name(name) == 'drafter'), {})
    topics = [key.removeprefix(_RECEIVED) for key in values if key.startswith(_RECEIVED)]
    packets, events = (count_of(values.get(key, '')) or 0 for key in ('packets', 'events'))
    return {topic: {'packets': packets, 'events': events} for topic in topics}


def stream_window_ids(record: Recorder, first_ns: int, last_ns: int, grid: WindowGrid = WindowGrid()) -> list[int]:
    """Windows that hold something of a stream from ``first_ns`` to ``last_ns``, in the graph's clock.

    Nodes go on for a moment when a stream has ended, as a camera may only be slow: those windows are not the stream's.
    """
    return [window.window_id for window in record.ordered()
            if window.window_end_ns > first_ns and window.window_end_ns - grid.span_ns < last_ns]
