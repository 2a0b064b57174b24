"""The frames of the last seconds: what is held, and which of them a question is about."""
from __future__ import annotations

import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.history import FrameHistory
from crossspec_ros.frames.slots import Frame
from crossspec_ros.timing.window import WindowGrid

MS, S = 1_000_000, 1_000_000_000
GRID = WindowGrid(4, 100.0, 4)


def frame(slot: int) -> Frame:
    return Frame(slot * 100 * MS - 10 * MS, np.full((10, 10, 3), slot % 256, np.uint8))     # slots end on the grid


def filled(slots, seconds=5.0, max_bytes=10**6) -> FrameHistory:
    history = FrameHistory(GRID, seconds, max_bytes)
    for slot in slots:
        history.add(slot, frame(slot))
    return history


def shown(clip) -> list[int]:
    return [int(each.unpack()[0, 0, 0]) for each in clip]


def test_now_is_the_newest_window_and_then_is_the_one_before():
    history = filled(range(1, 21))
    assert shown(history.clip()) == [17, 18, 19, 20]
    assert shown(history.clip(frame(12).stamp_ns)) == [9, 10, 11, 12]


def test_a_slot_without_a_frame_repeats_the_one_before_it():
    history = filled([1, 2, 4, 6, 8])
    assert shown(history.clip()) == [6, 6, 6, 8] and shown(history.clip(frame(4).stamp_ns)) == [1, 2, 2, 4]


@pytest.mark.parametrize('seconds, max_bytes, held', [(0.5, 10**6, 6), (100.0, 1500, 5)])
def test_only_so_many_seconds_and_bytes_are_held(seconds, max_bytes, held):
    assert len(filled(range(1, 40), seconds, max_bytes)) == held


def test_a_time_that_is_not_held_is_told_with_what_is():
    with pytest.raises(CrossSpecError, match='no frame has come yet'):
        filled([]).clip()
    with pytest.raises(CrossSpecError, match=r'it has 0; frames are held from 0\.090 to 1\.990 s'):
        filled(range(1, 21)).clip(60 * S)
