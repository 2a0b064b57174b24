"""When the graph speaks: on the grid, when the scene has changed, or both; intervals as numbers of frame slots."""
from __future__ import annotations

from dataclasses import dataclass

from crossspec_ros.errors import CrossSpecError

GRID, CHANGE, BOTH = WHENS = ('grid', 'change', 'both')
"""Of `window.when`: each window of the grid; those at a change of the scene; both kinds."""


@dataclass(frozen=True)
class Speaking:
    """By changes of the scene a window may end at each slot; this says which of them are opened.

    ``beat_slots``: from one window of the grid to the next one; ``min_slots``: a change opens no window sooner after
    the last one; ``max_slots``: one is opened at the latest; ``threshold``: what activity is a change, 0 to 1;
    ``grid_too``: the grid's windows are opened as well. Raises CrossSpecError where these do not go together.
    """

    beat_slots: int
    min_slots: int
    max_slots: int
    threshold: float
    grid_too: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.min_slots <= self.max_slots:
            raise CrossSpecError('window.min_s must be at least a frame interval and at most window.max_s, got '
                                 f'{self.min_slots} and {self.max_slots} intervals')

    def on_beat(self, slot: int) -> bool:
        """Whether a window of the grid ends with this slot."""
        return slot % self.beat_slots == 0
