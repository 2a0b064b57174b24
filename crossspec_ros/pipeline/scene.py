"""Which windows are opened, by what the event camera sees: the drafter's part of `window.when`."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crossspec_ros.events.activity import difference
from crossspec_ros.speculation.types import Opening, SceneChange
from crossspec_ros.timing.when import Speaking
from crossspec_ros.timing.window import WindowGrid

_DRIFT_WEIGHT = 0.5         # events of one scene differ more from those of seconds ago than from those just before


class SceneWatch:
    """Looks at the activity of each slot in turn and decides whether the window that ends with it is opened.

    Activity is how much a slot differs from the one before it (a jump), or half of how much it differs from the newest
    slot of the window opened last (a drift). A change opens a window at once, or as soon as ``min_slots`` have passed
    since the last one. After a jump that window shows the new scene alone, as far as there is any; another one is
    opened when a whole window lies after the jump. The first window is opened when all of its slots have been seen.
    """

    def __init__(self, grid: WindowGrid, speaking: Speaking) -> None:
        self._grid, self._speaking = grid, speaking
        self.reset()

    def reset(self) -> None:
        """Forget everything: time jumped."""
        self._slots = 0                                         # looked at, one after another
        self._newest: tuple[int, np.ndarray] | None = None
        self._pending, self._settled_at = False, None           # a change not told yet; the slot when a jump is over
        self._scene = 0                                         # slot of the last jump
        self.ask_again()

    def ask_again(self) -> None:
        """The last caption no longer answers what is asked: the next window is opened as the first one is."""
        self._opened: int | None = None
        self._spoken: np.ndarray | None = None                  # map of the newest slot of the window opened last

    def look(self, slot: int, activity: np.ndarray) -> SceneChange:
        """What a slot's map says; slots rise, and those after a gap begin anew."""
        jump = drift = 0.0
        if self._newest is not None and self._newest[0] == slot - 1:
            jump = difference(activity, self._newest[1])
            self._slots += 1
        else:
            self._slots = 1
        if self._spoken is not None:
            drift = _DRIFT_WEIGHT * difference(activity, self._spoken)
        self._newest = slot, activity
        threshold, measure = self._speaking.threshold, max(jump, drift)
        self._pending |= measure > threshold
        if jump > threshold:
            self._scene = slot
            self._settled_at = slot + self._grid.window_frames - 1
        why = self._why(slot)
        changed = self._pending
        new = why is Opening.CHANGE and self._scene > slot - self._grid.window_frames + 1
        if why is not Opening.NONE:
            self._open(slot, activity)
        return SceneChange(slot, self._grid.end_ns(slot), measure, threshold, changed, why,
                           self._opened or 0, self._scene if new else 0)

    def _why(self, slot: int) -> Opening:
        speaking, grid_too = self._speaking, self._speaking.grid_too and self._speaking.on_beat(slot)
        if self._opened is None:
            return Opening.FIRST if self._slots >= self._grid.window_frames or grid_too else Opening.NONE
        since = slot - self._opened
        ways: tuple[tuple[Opening, Callable[[], bool]], ...] = (
            (Opening.GRID, lambda: grid_too),
            (Opening.CHANGE, lambda: self._pending and since >= speaking.min_slots),
            (Opening.SETTLED, lambda: self._settled_at is not None and slot >= self._settled_at
             and since >= speaking.min_slots),
            (Opening.CEILING, lambda: since >= speaking.max_slots))
        return next((why for why, holds in ways if holds()), Opening.NONE)

    def _open(self, slot: int, activity: np.ndarray) -> None:
        self._opened, self._spoken, self._pending = slot, activity, False
        if self._settled_at is not None and slot >= self._settled_at:
            self._settled_at = None
