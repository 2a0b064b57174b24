import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.world import World, iter_clips, parse_slots


def test_clip_same_seed_gives_same_bytes():
    first, second = (World(12, 96, 72, event_hz=32).clip(3.0) for _ in range(2))
    assert np.array_equal(first.frames, second.frames)
    for name in ('t_ns', 'x', 'y', 'p'):
        assert np.array_equal(getattr(first.events, name), getattr(second.events, name))
    assert first.caption == second.caption


def test_clip_does_not_depend_on_what_was_looked_at_before():
    fresh, used = World(12, 96, 72, event_hz=32), World(12, 96, 72, event_hz=32)
    used.clip(6.0)
    used.clip(1.0)
    one, other = fresh.clip(3.0), used.clip(3.0)
    assert np.array_equal(one.frames, other.frames)
    assert np.array_equal(one.events.t_ns, other.events.t_ns)


def test_clip_other_seed_gives_another_drive():
    captions = [[clip.slots for clip in iter_clips(seed, 4, width=64, height=48, event_hz=16)] for seed in (1, 2)]
    assert captions[0] != captions[1]


def test_clip_events_are_sorted_inside_the_window_and_the_picture():
    clip = World(4, 96, 72, event_hz=32).clip(2.0)
    events = clip.events
    assert len(events) > 100
    assert (np.diff(events.t_ns) >= 0).all()
    assert events.t_ns[0] > 1_000_000_000 and events.t_ns[-1] <= 2_000_000_000
    assert events.x.max() < 96 and events.y.max() < 72


def test_stream_frames_are_the_frames_of_the_clip():
    world = World(4, 96, 72, event_hz=40)
    live = {stamp: payload for stamp, kind, payload in world.stream(1.0, 2.0) if kind == 'image'}
    clip = World(4, 96, 72, event_hz=40).clip(2.0)
    for stamp, frame in zip(clip.frame_stamps_ns, clip.frames, strict=True):
        assert np.array_equal(live[int(stamp)], frame)


def test_stream_packets_are_in_order_of_time():
    stamps = [(stamp, kind) for stamp, kind, _ in World(4, 64, 48, event_hz=50).stream(0.0, 1.0)]
    assert [s for s, _ in stamps] == sorted(s for s, _ in stamps)
    assert sum(kind == 'image' for _, kind in stamps) == 20
    assert sum(kind == 'events' for _, kind in stamps) == 50


def test_truth_agrees_with_the_clip_and_its_caption():
    world = World(7, 96, 72, event_hz=16)
    for end in (1.0, 2.0, 3.0, 4.0):
        truth, clip = world.truth(end), world.clip(end)
        assert truth.slots == clip.slots == parse_slots(truth.caption)
        assert truth.answers == clip.answers


@pytest.mark.parametrize('arguments', [
    pytest.param({'width': 8}, id='narrow'), pytest.param({'rgb_hz': 0}, id='no-frames'),
    pytest.param({'event_hz': 1}, id='slow-events'), pytest.param({'pace': 'wild'}, id='pace')])
def test_world_bad_argument_is_refused(arguments):
    with pytest.raises(CrossSpecError):
        World(1, **arguments)


def test_clip_before_the_first_window_is_refused():
    with pytest.raises(CrossSpecError, match='whole window'):
        World(1, 64, 48).clip(0.5)
