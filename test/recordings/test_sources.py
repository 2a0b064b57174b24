"""Everything that can be played gives events and images in the order of time."""
from __future__ import annotations

from itertools import islice, takewhile

import numpy as np
import pytest
from shared_data import shared

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events, make_decoder
from crossspec_ros.events.types import Packet
from crossspec_ros.recordings.bag import BagWriter
from crossspec_ros.recordings.sources import BagSource, WorldSource, open_source
from crossspec_ros.world import World


def _packet(seq=0):
    return Packet('mono', 64, 48, seq, 0, 5, np.zeros(8, np.uint8))


def test_bag_source_plays_the_first_topic_of_each_kind_and_raw_before_compressed(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_compressed('/a/compressed', 1, 1, 'png', b'x')
        bag.write_rgb('/a', 2, 2, np.zeros((2, 2, 3), np.uint8))
        bag.write_packet('/left', 3, _packet())
        bag.write_packet('/right', 4, _packet())
        bag.write_cdr('/other', 'other_msgs/msg/Other', 5, b'\x00\x01\x00\x00')
    source = BagSource(tmp_path / 'bag')
    assert set(source.topics) == {'/a', '/left'}
    assert [(m.topic, m.role, m.due_ns, m.stamp_ns) for m in source.messages(0)] == [
        ('/a', 'image', 2, 2), ('/left', 'events', 3, 5)]
    source.close()
    source = BagSource(tmp_path / 'bag', ['/right', '/a/compressed'])
    assert [(m.topic, m.role) for m in source.messages(0)] == [('/a/compressed', 'compressed'), ('/right', 'events')]
    source.close()
    with pytest.raises(CrossSpecError, match='/middle'):
        BagSource(tmp_path / 'bag', ['/middle'])


@pytest.mark.parametrize('name, packets, by_stamps', [
    pytest.param('libcaer_rollover', 201, False, id='as recorded'),
    pytest.param('evt3_trigger', 105, True, id='written again months later')])
def test_bag_source_paces_a_real_recording(name, packets, by_stamps):
    source = open_source(str(shared(f'events/{name}')))
    messages = list(source.messages(source.start_ns))
    assert len(messages) == packets and all(message.cdr for message in messages)
    assert messages[0].due_ns == source.start_ns and messages[-1].due_ns == source.end_ns
    assert all((message.due_ns == message.stamp_ns) == by_stamps for message in messages)
    assert all(0 <= message.due_ns - message.stamp_ns < 1_000_000_000 for message in messages)
    source.close()


def test_world_source_sends_the_worlds_events_through_the_wire_format():
    messages = list(takewhile(lambda m: m.due_ns <= 300_000_000, WorldSource(5, 64, 48).messages(0)))
    assert [m.due_ns for m in messages] == sorted(m.due_ns for m in messages)
    decoder = make_decoder('evt3', 64, 48)
    got = join_events([decoder.decode(m.data) for m in messages if m.role == 'events'])
    world = list(World(5, width=64, height=48, pace='calm').stream(0.0, 0.3))
    wanted = join_events([payload for _, kind, payload in world if kind == 'events'])
    np.testing.assert_array_equal(got.t_ns, wanted.t_ns // 1000 * 1000)
    np.testing.assert_array_equal(got.x, wanted.x)
    np.testing.assert_array_equal(got.p, wanted.p)
    frames = [m.data.rgb() for m in messages if m.role == 'image']
    for frame, picture in zip(frames, (payload for _, kind, payload in world if kind == 'image'), strict=True):
        np.testing.assert_array_equal(frame, picture)


def test_load_source_goes_on_in_time_and_keeps_its_rate_over_loops_and_rollovers():
    source = open_source('load:0.05')
    decoder = make_decoder('evt3', 640, 480)
    messages = list(islice(source.messages(0), 1700))                       # 17.4 s: 85 loops and one rollover
    parts = [decoder.decode(m.data) for m in messages]
    assert [m.data.seq for m in messages] == list(range(1700))
    assert not any(decoder.dropped.values())
    for message, events in zip(messages, parts, strict=True):
        assert len(events) == 512
        assert message.stamp_ns <= events.t_ns[0] <= events.t_ns[-1] < message.due_ns
    assert 2.5 < source.bytes_per_event < 6


@pytest.mark.parametrize('uri', ['world:', 'world:x', 'world:-1', 'nothing-here', 'load:', 'load:x'])
def test_open_source_refuses_what_is_no_source(uri):
    with pytest.raises(CrossSpecError, match=uri):
        open_source(uri)


def test_bag_source_of_a_bag_written_again_later_is_paced_by_its_stamps(tmp_path):
    year_ns = 365 * 86_400 * 10**9
    with BagWriter(tmp_path / 'bag') as bag:
        for i, stamp_ns in enumerate((1000, 3000, 2000, 9000)):
            bag.write_rgb('/a', year_ns + i, stamp_ns, np.zeros((2, 2, 3), np.uint8))
    source = BagSource(tmp_path / 'bag')
    assert source.start_ns == 1000
    assert [(m.due_ns, m.stamp_ns) for m in source.messages(source.start_ns)] == [
        (1000, 1000), (3000, 3000), (3000, 2000), (9000, 9000)]
    assert [m.stamp_ns for m in source.messages(2500)] == [3000, 9000]
    source.close()
