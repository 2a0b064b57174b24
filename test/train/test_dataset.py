"""Shards hold what the live drafter sees: the events up to a lead before a window's end, and those up to it."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from crossspec_ros.events.representations import voxel_grid
from crossspec_ros.train.dataset import EARLY, FINAL, ClipData, DataConfig, make_shard
from crossspec_ros.world import World

SECOND_NS = 1_000_000_000


def test_shard_has_both_looks_at_the_events(tmp_path: Path) -> None:
    config = DataConfig(1, first_seed=7, clips_per_drive=2, width=96, height=72, image_size=28, grid=24, stride_s=3)
    make_shard(tmp_path, config, 7)
    data = ClipData(tmp_path)
    world = World(7, 96, 72, event_hz=config.event_hz)
    for row, second in enumerate((2, 5)):
        clip = world.clip(float(second), before_s=config.lead_s)
        for look, end_ns in ((EARLY, second * SECOND_NS - 125_000_000), (FINAL, second * SECOND_NS)):
            wanted = voxel_grid(clip.events, end_ns - SECOND_NS, end_ns, shape=(24, 24)).astype(np.float16)
            np.testing.assert_array_equal(data.voxels([row], [look])[0], wanted)
        assert data.truth[row] == world.slots(float(second))
        assert not np.array_equal(*data.voxels([row, row], [EARLY, FINAL]))


def test_clip_that_begins_before_has_the_same_window() -> None:
    plain, early = World(7, 96, 72).clip(3.0), World(7, 96, 72).clip(3.0, before_s=0.125)
    assert np.array_equal(plain.frames, early.frames) and plain.caption == early.caption
    assert early.events.t_ns[0] <= 2 * SECOND_NS < plain.events.t_ns[0]
    assert early.events.t_ns[0] > 1_875_000_000
