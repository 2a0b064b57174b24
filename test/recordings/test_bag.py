"""Bags are read as they were written, and broken ones are refused by name."""
from __future__ import annotations

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Packet
from crossspec_ros.recordings.bag import BagReader, BagWriter
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from shared_data import shared

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def _packet(seq: int, size: int = 8) -> Packet:
    return Packet('evt3', 64, 48, seq, 5, 1_000_000_007 + seq, np.arange(size, dtype=np.uint8))


def _write(path, storage='mcap', count=5):
    with BagWriter(path, storage) as bag:
        for seq in range(count):
            bag.write_packet('/events', 2_000_000_000 + 10 * seq, _packet(seq))
            bag.write_rgb('/image', 2_000_000_001 + 10 * seq, 77 + seq, RGB)
    return path


@pytest.fixture(params=['mcap', 'sqlite3'])
def bag_path(request, tmp_path):
    return _write(tmp_path / 'bag', request.param)


def test_bag_gives_back_packets_and_images_as_written(bag_path):
    with BagReader(bag_path) as bag:
        messages = list(bag)
    packets = [m.data for m in messages if m.type == EVENT_TYPES[0]]
    frames = [m.data for m in messages if m.type == IMAGE_TYPES[0]]
    assert len(packets) == len(frames) == 5
    for seq, packet in enumerate(packets):
        wanted = _packet(seq)
        assert (packet.encoding, packet.width, packet.height, packet.seq, packet.time_base_ns, packet.stamp_ns,
                packet.is_bigendian) == ('evt3', 64, 48, seq, 5, wanted.stamp_ns, False)
        np.testing.assert_array_equal(packet.payload, wanted.payload)
    np.testing.assert_array_equal(frames[2].rgb(), RGB)
    assert frames[2].stamp_ns == 79 and messages[0].log_ns == 2_000_000_000


def test_bag_is_read_in_the_order_of_recording(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for log_ns in (30, 10, 20):
            bag.write_packet('/events', log_ns, _packet(log_ns))
    with BagReader(tmp_path / 'bag') as bag:
        assert [m.log_ns for m in bag] == [10, 20, 30]
        assert (bag.start_ns, bag.end_ns, bag.message_count) == (10, 30, 3)


def test_bag_reads_only_the_topics_and_times_asked_for(bag_path):
    with BagReader(bag_path) as bag:
        part = list(bag.messages(['/events'], start_ns=2_000_000_010, stop_ns=2_000_000_030))
        assert [m.data.seq for m in part] == [1, 2]
        assert [m.data for m in bag.messages(['/events'], decode=False)] == [None] * 5
        with pytest.raises(CrossSpecError, match='/nothing.*/events'):
            list(bag.messages(['/nothing']))


def test_bag_compressed_image_keeps_its_bytes(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_compressed('/image/compressed', 1, 2, 'png', b'bytes')
    with BagReader(tmp_path / 'bag') as bag:
        frame = next(iter(bag)).data
    assert (bytes(frame.data), frame.encoding, frame.compressed, frame.stamp_ns) == (b'bytes', 'png', True, 2)


def test_bag_of_our_own_messages_is_understood(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        message = bag.make('crossspec_ros/msg/Verdict', header=bag.header(5, ''), window_id=7,
                           committed=np.array([1, 2], np.uint32), committed_hash=2 ** 63, target_passes=3, final=True,
                           sources=['a'], drafted=np.array([4], np.uint32), accepted=np.array([3], np.uint32),
                           refused_causes=[], refused=np.array([], np.uint32), tokenizer_key='', verifier_key='')
        bag.write('/verdict', 'crossspec_ros/msg/Verdict', 9, message)
    with BagReader(tmp_path / 'bag') as bag:
        read = next(iter(bag))
    assert (read.data.window_id, list(read.data.committed), read.stamp_ns) == (7, [1, 2], 5)


@pytest.mark.parametrize(('name', 'type_name', 'count', 'encoding'), [
    pytest.param('evt3_trigger', EVENT_TYPES[0], 105, 'evt3', id='evt3'),
    pytest.param('mono_cd', EVENT_TYPES[1], 2, 'mono', id='old_type_name'),
    pytest.param('libcaer_rollover', EVENT_TYPES[0], 201, 'libcaer', id='libcaer')])
def test_bag_of_a_real_camera_is_read_whole(name, type_name, count, encoding):
    with BagReader(shared(f'events/{name}')) as bag:
        assert bag.topics['/event_camera/events'].type == type_name
        packets = [m.data for m in bag]
    assert len(packets) == count
    assert {p.encoding for p in packets} == {encoding}
    assert np.all(np.diff([p.seq for p in packets]) == 1)


def test_bag_refuses_a_cut_file_by_name(bag_path):
    for file in (*bag_path.glob('*.mcap'), *bag_path.glob('*.db3')):
        data = file.read_bytes()
        file.write_bytes(data[:len(data) // 5])         # before the end of the first chunk: nothing is left
        with pytest.raises(CrossSpecError, match=f'{bag_path}.*record'):
            with BagReader(bag_path) as bag:
                list(bag)


def test_bag_of_flipped_bytes_only_ever_raises_our_error(bag_path):
    random = np.random.default_rng(2)
    file = next(iter((*bag_path.glob('*.mcap'), *bag_path.glob('*.db3'))))
    whole = file.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 20):
            data[at] = random.integers(0, 256)
        file.write_bytes(data)
        try:
            with BagReader(file) as bag:
                list(bag)
        except CrossSpecError:
            pass


def test_bag_may_be_named_by_its_file(bag_path):
    with BagReader(next(iter((*bag_path.glob('*.mcap'), *bag_path.glob('*.db3'))))) as bag:
        assert len(list(bag)) == 10


@pytest.mark.parametrize('make', [
    pytest.param(lambda path: path / 'none', id='missing'),
    pytest.param(lambda path: path, id='empty_folder'),
    pytest.param(lambda path: (path / 'a.txt').write_text('x') and path / 'a.txt', id='text_file'),
    pytest.param(lambda path: (path / 'a.mcap').write_bytes(b'') or path / 'a.mcap', id='empty_mcap'),
    pytest.param(lambda path: (path / 'a.db3').write_bytes(b'no database') and path / 'a.db3', id='no_database'),
    pytest.param(lambda path: (path / 'metadata.yaml').write_text('a: [') and path, id='bad_yaml'),
    pytest.param(lambda path: (path / 'metadata.yaml').write_text('a: 1') and path, id='other_yaml')])
def test_bag_refuses_what_is_no_bag(make, tmp_path):
    with pytest.raises(CrossSpecError, match=str(tmp_path)):
        BagReader(make(tmp_path))


def test_bag_skips_and_counts_messages_that_are_not_of_their_type(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_packet('/events', 1, _packet(0))
        for log_ns, cdr in enumerate((b'', b'\x00\x01\x00\x00', b'\x00\x01\x00\x00' + b'\xff' * 40), 2):
            bag.write_cdr('/events', EVENT_TYPES[0], log_ns, cdr)
        bag.write_packet('/events', 9, _packet(1))
    with BagReader(tmp_path / 'bag') as bag:
        assert [m.data.seq for m in bag] == [0, 1]
        assert bag.malformed == {'/events': 3}


def test_bag_refuses_an_event_type_with_other_fields(tmp_path):
    from rosbags.typesys import Stores, get_typestore
    store = get_typestore(Stores.ROS2_KILTED)
    store.register(get_types_from_msg('std_msgs/Header header\nuint8[] events\n', EVENT_TYPES[0]))
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        bag.add_connection('/events', EVENT_TYPES[0], typestore=store)
    with pytest.raises(CrossSpecError, match='/events.*other fields'):
        BagReader(tmp_path / 'bag')


def test_bag_hands_on_unknown_types_as_bytes_and_says_what_is_missing(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_cdr('/secret', 'other_msgs/msg/Secret', 4, b'\x00\x01\x00\x00abcd')
    with BagReader(tmp_path / 'bag') as bag:
        message = next(iter(bag))
        assert (message.data, message.cdr, message.stamp_ns) == (None, b'\x00\x01\x00\x00abcd', 4)
        with pytest.raises(CrossSpecError, match='no usable topic.*/secret'):
            bag.require_topics()


def test_bag_writer_leaves_no_bag_that_looks_whole_when_it_is_stopped(tmp_path):
    with pytest.raises(KeyError):
        with BagWriter(tmp_path / 'bag') as bag:
            bag.write_packet('/events', 1, _packet(0))
            raise KeyError
    with pytest.raises(CrossSpecError, match='metadata'):
        BagReader(tmp_path / 'bag')


def test_bag_writer_refuses_to_overwrite_and_to_change_a_topics_type(tmp_path):
    _write(tmp_path / 'bag')
    with pytest.raises(CrossSpecError, match='exists'):
        BagWriter(tmp_path / 'bag')
    with BagWriter(tmp_path / 'other') as bag:
        bag.add_topic('/events', EVENT_TYPES[0])
        with pytest.raises(CrossSpecError, match='/events'):
            bag.add_topic('/events', IMAGE_TYPES[0])
