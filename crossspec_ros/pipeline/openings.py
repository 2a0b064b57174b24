"""Which windows are answered and which words confirmed, by what the drafter says: the verifier's `window.when`."""
from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from crossspec_ros.frames.slots import Frame
from crossspec_ros.speculation.types import Caption, SceneChange, Stage
from crossspec_ros.timing.when import Speaking

_WAITING = 64               # of what is heard ahead of the frames; older goes


class Openings:
    """Keeps what the drafter said until the frames are there, and notices when it says nothing.

    With no word of the drafter since the start, or for ``max_slots``, the grid's windows are opened; whatever is heard,
    one is opened ``max_slots`` after the last. `hear` may be called from any thread.
    """

    def __init__(self, speaking: Speaking) -> None:
        self.speaking = speaking
        self._lock = threading.Lock()
        self._heard: deque[SceneChange] = deque(maxlen=_WAITING)
        self.reset()

    def reset(self) -> None:
        """Forget everything: time jumped."""
        with self._lock:
            self._heard.clear()
        self._told: int | None = None                           # the newest slot that the drafter spoke of
        self._opened: int | None = None                         # the window opened last

    def hear(self, change: SceneChange) -> None:
        """What the drafter says of a slot."""
        with self._lock:
            self._heard.append(change)

    def take(self, newest_slot: int) -> list[SceneChange]:
        """What was heard of slots whose frames are settled, oldest first."""
        with self._lock:
            found = sorted((each for each in self._heard if each.window_id <= newest_slot),
                           key=lambda each: each.window_id)
            for each in found:
                self._heard.remove(each)
        if found:
            self._told = max(self._told or 0, found[-1].window_id)
        return found

    def opened(self, window_id: int) -> None:
        """A window was opened."""
        self._opened = max(self._opened or 0, window_id)

    def ahead(self, window_id: int) -> bool:
        """Whether a window is opened with its first frame, since nothing can prevent it."""
        return self.speaking.grid_too and self.speaking.on_beat(window_id)

    def alone(self, slot: int) -> bool:
        """Whether the window that ends here is opened without being told."""
        speaking = self.speaking
        if self._opened is not None and slot - self._opened >= speaking.max_slots:
            return True
        silent = self._told is None or slot - self._told >= speaking.max_slots
        return (silent or speaking.grid_too) and speaking.on_beat(slot)


class RecentFrames:
    """The frames of the newest slots, of which windows are made when they are opened: twice a window's number of slots.
    """

    def __init__(self, window_frames: int) -> None:
        self._window_frames = window_frames
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._slots: dict[int, Frame | None] = {}               # frames of their own
        self.newest = -1

    def add(self, slot: int, own: Frame | None) -> list[int]:
        """A slot is settled; returns slots with frames that no window will be made of any more."""
        self._slots[slot], self.newest = own, slot
        gone = [each for each in self._slots if each <= slot - 2 * self._window_frames]
        return [each for each in gone if self._slots.pop(each) is not None]

    def window(self, window_id: int, scene_id: int = 0) -> tuple[list[Frame | None], list[int], int]:
        """Frames of a window that ends with a slot, its slots that have one, and how many frames before ``scene_id``
        were left out; none are where the scene has no frame yet.
        """
        slots = range(window_id - self._window_frames + 1, window_id + 1)
        there = [slot for slot in slots if self._slots.get(slot) is not None]
        own = [slot for slot in there if slot >= scene_id] or there
        return [self._slots[slot] if slot in own else None for slot in slots], own, len(there) - len(own)


def confirmed(words: Caption, window_id: int, window_end_ns: int) -> Caption:
    """The words of an earlier window for one that is not decoded, since nothing has changed."""
    return replace(words, window_id=window_id, window_end_ns=window_end_ns, stage=Stage.STILL_VALID, drafted=0,
                   accepted=0, target_passes=0, stage_ms={}, answer_ms=0.0, near_ties=0,
                   words_age_ms=(window_end_ns - words.window_end_ns) / 1e6)


def retracted(caption: Caption) -> Caption:
    """What tells everyone that a caption shown before no longer holds."""
    return replace(caption, stage=Stage.RETRACTED, text='', stable_length=0, token_ids=())
