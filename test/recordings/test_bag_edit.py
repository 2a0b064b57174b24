"""Cut bags hold exactly their part, and a half-made bag is never there."""
from __future__ import annotations

import numpy as np
import pytest

from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Packet
from crossspec_ros.recordings import bag_edit
from crossspec_ros.recordings.bag import BagReader, BagWriter

SECOND = 1_000_000_000


@pytest.fixture
def bag_path(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for number in range(10):
            bag.write_packet('/events', 5 * SECOND + number * SECOND // 10,
                             Packet('mono', 64, 48, number, 0, number, np.arange(8, dtype=np.uint8)))
            bag.write_cdr('/secret', 'other_msgs/msg/Secret', 5 * SECOND + number * SECOND // 10, b'\x00\x01\x00\x00ab')
    return tmp_path / 'bag'


def test_cut_copies_the_messages_of_the_part_byte_for_byte(bag_path, tmp_path):
    assert bag_edit.cut(bag_path, tmp_path / 'out', start_s=0.2, end_s=0.5) == 6
    with BagReader(bag_path) as bag, BagReader(tmp_path / 'out') as part:
        wanted = [(m.topic, m.log_ns, m.cdr) for m in bag if 0.2 <= (m.log_ns - 5 * SECOND) / SECOND < 0.5]
        assert [(m.topic, m.log_ns, m.cdr) for m in part] == wanted
        assert (part.start_ns, part.end_ns) == (5 * SECOND + SECOND // 5, 5 * SECOND + 2 * SECOND // 5)


def test_cut_by_command_takes_topics_and_duration(bag_path, tmp_path):
    assert main(['bag', 'cut', str(bag_path), str(tmp_path / 'out'), '--start', '0.5', '--duration', '0.3', '--topics',
                 '/events', '--storage', 'sqlite3']) == 0
    with BagReader(tmp_path / 'out') as part:
        assert [m.data.seq for m in part] == [5, 6, 7]
        assert list(part.topics) == ['/events']


@pytest.mark.parametrize('options', [
    pytest.param({'start_s': -1.0}, id='negative'), pytest.param({'start_s': 2.0, 'end_s': 1.0}, id='backwards'),
    pytest.param({'start_s': 60.0}, id='behind_the_end'), pytest.param({'topics': ['/none']}, id='no_such_topic')])
def test_cut_refuses_what_leaves_nothing_and_leaves_nothing(options, bag_path, tmp_path):
    with pytest.raises(CrossSpecError):
        bag_edit.cut(bag_path, tmp_path / 'out', **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bag']


def test_cut_never_overwrites(bag_path, tmp_path):
    with pytest.raises(CrossSpecError, match='exists'):
        bag_edit.cut(bag_path, bag_path)
    with pytest.raises(CrossSpecError, match='folder'):
        bag_edit.cut(bag_path, tmp_path / 'none' / 'out')


def test_finish_makes_one_bag_of_segments(tmp_path):
    out = tmp_path / 'out'
    segments = []
    for number in range(3):
        segments.append(bag_edit.partial_path(out) / f'segment_{number}')
        with BagWriter(segments[-1]) as bag:
            bag.add_topic('/events', 'event_camera_msgs/msg/EventPacket')
            for seq in range(2 * number, 2 * number + 2):
                bag.write_packet('/events', 100 + seq, Packet('mono', 64, 48, seq, 0, seq, np.zeros(0, np.uint8)))
    bag_edit.finish(segments, out)
    assert sorted(p.name for p in out.iterdir()) == ['metadata.yaml', 'out_0.mcap', 'out_1.mcap', 'out_2.mcap']
    assert not bag_edit.partial_path(out).exists()
    with BagReader(out) as bag:
        assert [m.data.seq for m in bag] == list(range(6))
        assert (bag.message_count, bag.start_ns, bag.end_ns) == (6, 100, 105)
        assert bag.topics['/events'].messages == 6


def test_finish_can_be_done_again_after_it_was_stopped(tmp_path, monkeypatch):
    out = tmp_path / 'out'
    segment = bag_edit.partial_path(out) / 'segment'
    with BagWriter(segment) as bag:
        bag.write_packet('/events', 1, Packet('mono', 64, 48, 0, 0, 0, np.zeros(0, np.uint8)))
    with monkeypatch.context() as patch:
        patch.setattr(bag_edit.os, 'rename', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bag_edit.finish([segment], out)
    assert not out.exists()
    bag_edit.finish([segment], out)
    with BagReader(out) as bag:
        assert len(list(bag)) == 1
