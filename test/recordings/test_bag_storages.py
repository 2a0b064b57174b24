"""What the files of a recording hold is handed over, all of it, in the order of time."""
from __future__ import annotations

import shutil
import sqlite3

import numpy as np
import pytest
import yaml
import zstandard
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bag_making import IMAGE, RGB, image_cdr, split_bag, times_read, write_mcap, write_ros1
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagReader, BagWriter
from crossspec_ros.recordings.bag_edit import cut
from crossspec_ros.recordings.bag_info import bag_info
from crossspec_ros.recordings.bag_types import EVENT_TYPES


@pytest.fixture
def cdr(tmp_path):
    return image_cdr(tmp_path / '..', 5)


@pytest.fixture(params=['mcap', 'sqlite3'])
def parted(request, tmp_path):
    """A bag of three files, with what is in each."""
    return split_bag(tmp_path / 'rec', [[1, 2, 3], [4, 5], [6]], request.param)


def _metadata(folder, change):
    path = folder / 'metadata.yaml'
    info = yaml.safe_load(path.read_text())
    change(info['rosbag2_bagfile_information'])
    path.write_text(yaml.safe_dump(info))


def _edit_topics(**fields):
    def change(info):
        for topic in info['topics_with_message_count']:
            topic['topic_metadata'].update(fields)
    return change


@pytest.mark.parametrize('change', [
    pytest.param(_edit_topics(offered_qos_profiles=[{'history': 'keep_last'}]), id='another_qos'),
    pytest.param(_edit_topics(offered_qos_profiles='- history: ['), id='qos_that_is_no_yaml'),
    pytest.param(_edit_topics(type_description_hash='RIHS01_' + 'f' * 64), id='another_hash'),
    pytest.param(_edit_topics(serialization_format=''), id='no_serialisation'),
    pytest.param(lambda info: info.update(storage_identifier=''), id='no_storage_id'),
    pytest.param(lambda info: info.update(storage_identifier='my_plugin'), id='unknown_storage_id'),
    pytest.param(lambda info: info.update(version=99), id='newer_version'),
    pytest.param(lambda info: info.update(compression_mode='FILE', compression_format='zstd'), id='not_compressed'),
    pytest.param(lambda info: info.update(compression_format='lz4', compression_mode='MESSAGE'), id='other_format'),
    pytest.param(lambda info: info.pop('duration'), id='no_duration')])
def test_bag_is_read_whatever_its_metadata_says_of_the_form(parted, change, caplog):
    _metadata(parted, change)
    assert times_read(parted) == [1, 2, 3, 4, 5, 6]
    assert not caplog.records


@pytest.mark.parametrize(('change', 'said'), [
    pytest.param(lambda info: info['topics_with_message_count'][0].update(message_count=9), '/image 9 instead of 6',
                 id='count'),
    pytest.param(_edit_topics(name='/picture'), '/picture 6 instead of 0', id='name'),
    pytest.param(_edit_topics(type='my_msgs/msg/Image'), '/image 6 instead of 0', id='type'),
    pytest.param(lambda info: info.update(relative_file_paths=['old_0.mcap']), 'old_0.mcap', id='names')])
def test_bag_metadata_that_disagrees_is_told_in_a_line(parted, change, said, caplog):
    _metadata(parted, change)
    assert times_read(parted) == [1, 2, 3, 4, 5, 6]
    text, = [record.getMessage() for record in caplog.records]
    assert said in text and '\n' not in text


def test_bag_without_metadata_is_read_and_told_of(parted, caplog):
    (parted / 'metadata.yaml').unlink()
    assert times_read(parted) == [1, 2, 3, 4, 5, 6]
    text, = [record.getMessage() for record in caplog.records]
    assert 'no metadata.yaml' in text


def test_bag_metadata_that_is_cut_is_told_of(parted, caplog):
    (parted / 'metadata.yaml').write_text('rosbag2_bagfile_information: {a: [\n')
    assert times_read(parted) == [1, 2, 3, 4, 5, 6]
    assert ['metadata.yaml that cannot be read' in record.getMessage() for record in caplog.records] == [True]


def test_bag_file_that_is_missing_is_told_of_and_the_others_are_read(parted, caplog):
    next(parted.glob('rec_1.*')).unlink()
    assert times_read(parted) == [1, 2, 3, 6]
    text, = [record.getMessage() for record in caplog.records]
    assert 'lacks rec_1.' in text


def test_bag_file_that_metadata_forgot_is_read(parted, caplog):
    _metadata(parted, lambda info: info['relative_file_paths'].pop())
    shutil.copy(next(parted.glob('rec_0.*')), parted / 'another_0.mcap')        # of no recording that is meant
    assert times_read(parted) == [1, 2, 3, 4, 5, 6]
    assert 'rec_2.' in caplog.text and 'another' not in caplog.text


def test_bag_file_with_no_byte_beside_others_is_told_of(parted, caplog):
    next(parted.glob('rec_2.*')).write_bytes(b'')
    assert times_read(parted) == [1, 2, 3, 4, 5]
    assert '0 bytes' in caplog.text


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bag_of_files_that_overlap_is_in_the_order_of_time(tmp_path, storage):
    bag = split_bag(tmp_path / 'rec', [[5, 1, 9], [2, 9, 6], [0, 20]], storage)
    assert times_read(bag) == [0, 1, 2, 5, 6, 9, 9, 20]
    with BagReader(bag) as reader:
        assert (reader.start_ns, reader.end_ns, reader.message_count) == (0, 20, 8)
        assert [m.log_ns for m in reader.messages(start_ns=2, stop_ns=9)] == [2, 5, 6]


def test_bag_of_ten_files_is_read_in_the_order_of_their_numbers(tmp_path):
    bag = split_bag(tmp_path / 'rec', [[7]] * 11)
    (bag / 'metadata.yaml').unlink()
    with BagReader(bag) as reader:
        assert [storage.path.name for storage in reader._bag.storages] == [f'rec_{n}.mcap' for n in range(11)]


def test_bag_whose_files_number_their_topics_otherwise_is_joined_by_name(tmp_path, cdr):
    with BagWriter(tmp_path / 'a', 'sqlite3') as bag:
        bag.write('/clock', 'builtin_interfaces/msg/Time', 1, bag.make('builtin_interfaces/msg/Time', sec=1, nanosec=2))
        bag.write_rgb('/image', 2, 2, RGB)
    folder = tmp_path / 'rec'
    folder.mkdir()
    shutil.copy(tmp_path / 'a' / 'a.db3', folder / 'rec_0.db3')
    with BagWriter(tmp_path / 'b', 'sqlite3') as bag:
        bag.write_rgb('/image', 3, 3, RGB)
    shutil.copy(tmp_path / 'b' / 'b.db3', folder / 'rec_1.db3')
    assert times_read(folder, ['/image']) == [2, 3]
    assert times_read(folder) == [1, 2, 3]


def test_bag_topic_of_two_types_is_read_as_the_one_of_use_and_the_other_told(tmp_path, cdr, caplog):
    folder = tmp_path / 'rec'
    write_mcap(folder / 'rec_0.mcap', [1, 2], cdr)
    write_mcap(folder / 'rec_1.mcap', [3, 4, 5], b'\0\1\0\0', type_name='my_msgs/msg/Thing', definition='int8 a')
    with BagReader(folder) as bag:
        caplog.clear()
        assert (bag.topics['/image'].type, bag.topics['/image'].messages) == (IMAGE, 2)
        assert [m.log_ns for m in bag.messages()] == [1, 2]
        assert not caplog.records
        assert [m.log_ns for _ in range(2) for m in bag.messages(['/image'])] == [1, 2, 1, 2]
        text, = [record.getMessage() for record in caplog.records]
    assert '3 of my_msgs/msg/Thing' in text
    assert bag_info(folder)['topics']['/image']['left_out'] == {'my_msgs/msg/Thing as cdr': 3}


def test_bag_event_topic_under_its_old_and_new_name_is_one(tmp_path):
    folder = tmp_path / 'rec'
    folder.mkdir()
    from crossspec_ros.events.types import Packet
    for number, kind in enumerate(EVENT_TYPES):
        with BagWriter(tmp_path / str(number)) as bag:
            packet = Packet('mono', 64, 48, number, 0, number, np.zeros(8, np.uint8))
            bag.write_packet('/events', number + 1, packet)
        with BagReader(tmp_path / str(number)) as bag, BagWriter(tmp_path / f'{number}x') as out:
            out.write_cdr('/events', kind, number + 1, next(bag.messages(decode=False)).cdr)
        shutil.copy(next((tmp_path / f'{number}x').glob('*.mcap')), folder / f'rec_{number}.mcap')
    with BagReader(folder) as bag:
        assert [m.data.seq for m in bag] == [0, 1]
        assert len({m.type for m in bag}) == 1
    assert cut(folder, tmp_path / 'out') == 2


@pytest.mark.parametrize('name', ['a b', 'a#b', 'a?b', 'a%41b', 'ä→b', "a'b", 'a&b=c'])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bag_path_may_hold_any_character(tmp_path, name, storage):
    bag = split_bag(tmp_path / 'rec', [[1], [2]], storage).rename(tmp_path / name)
    assert times_read(bag) == [1, 2]
    alone = next(bag.glob('rec_1.*')).rename(tmp_path / f'{name}.{storage}')
    assert times_read(alone) == [2]


@pytest.mark.parametrize('name', ['a b', "a'ä", 'a#b', 'a?b', 'a%41b'])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_bag_is_written_where_it_is_named_or_refused(tmp_path, name, storage):
    try:
        with BagWriter(tmp_path / name, storage) as bag:
            bag.write_rgb('/image', 1, 1, RGB)
    except CrossSpecError as error:
        assert 'mcap' in str(error) and storage == 'sqlite3' and not list(tmp_path.iterdir())
    else:
        assert times_read(tmp_path / name) == [1] and [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize('storage', list(StoragePlugin))
@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize('metadata', [True, False], ids=['metadata', 'no_metadata'])
def test_bag_packed_with_zstd_is_read(tmp_path, cdr, storage, mode, metadata):
    bag = Writer(tmp_path / 'rec', version=9, storage_plugin=storage)
    bag.set_compression(mode, CompressionFormat.ZSTD)
    with bag:
        connection = bag.add_connection('/image', IMAGE, typestore=get_typestore(Stores.ROS2_KILTED))
        for time in (1, 2, 3):
            bag.write(connection, time, cdr)
    if not metadata:
        (tmp_path / 'rec' / 'metadata.yaml').unlink()
    assert times_read(tmp_path / 'rec') == [1, 2, 3]
    file, = [path for path in (tmp_path / 'rec').iterdir() if path.name != 'metadata.yaml']
    assert times_read(file) == [1, 2, 3]
    with BagReader(file) as bag:
        np.testing.assert_array_equal(next(iter(bag)).data.rgb(), RGB)


def test_bag_that_metadata_names_packed_is_read_unpacked_and_the_other_way_round(parted):
    first = next(parted.glob('rec_0.*'))
    first.with_name(first.name + '.zstd').write_bytes(zstandard.compress(first.read_bytes()))
    first.unlink()
    _metadata(parted, lambda info: info['relative_file_paths'].__setitem__(1, info['relative_file_paths'][1] + '.zstd'))
    assert times_read(parted) == [1, 2, 3, 4, 5, 6]


def test_ros1_bag_is_read_as_it_is(tmp_path, caplog):
    path = write_ros1(tmp_path / 'drive.bag', 4)
    with BagReader(path) as bag:
        assert {name: info.messages for name, info in bag.topics.items()} == {'/image': 4, '/speed': 4}
        images = list(bag.messages(['/image']))
        assert [m.data.speed for m in bag.messages(['/speed'])] == [0.0, 0.5, 1.0, 1.5]
    assert [(m.log_ns, m.stamp_ns) for m in images] == [(1000 + n, 7_000_000_000 + n) for n in range(4)]
    np.testing.assert_array_equal(images[0].data.rgb(), RGB)
    assert images[0].data.frame_id == 'cam'
    assert cut(path, tmp_path / 'out') == 8
    with BagReader(tmp_path / 'out') as bag:            # a rosbag2 now: the same messages by its own definitions
        assert [m.data.speed for m in bag.messages(['/speed'])] == [0.0, 0.5, 1.0, 1.5]
        assert [m.cdr for m in bag.messages(['/image'])] == [m.cdr for m in images]
    assert not caplog.records


def test_bag_definitions_in_several_idl_files_are_understood(tmp_path):
    rule = '=' * 80 + '\n'
    idl = ''.join(f'{rule}IDL: my_msgs/msg/{name}\n'
                  f'module my_msgs {{ module msg {{ struct {name} {{ {field}; }}; }}; }};\n'
                  for name, field in (('Outer', 'my_msgs::msg::Inner inner'), ('Inner', 'int32 a')))
    with sqlite3.connect(_one_image(tmp_path)) as database:
        database.execute("UPDATE message_definitions SET topic_type = 'my_msgs/msg/Outer', encoding = 'ros2idl', "
                         'encoded_message_definition = ?', (idl,))
        database.execute("UPDATE topics SET type = 'my_msgs/msg/Outer'")
        database.execute('UPDATE messages SET data = ?', (b'\0\1\0\0\x07\0\0\0',))
    with BagReader(tmp_path / 'rec' / 'rec.db3') as bag:
        assert next(iter(bag)).data.inner.a == 7


def _one_image(tmp_path):
    with BagWriter(tmp_path / 'rec', 'sqlite3') as bag:
        bag.write_rgb('/image', 1, 1, RGB)
    return tmp_path / 'rec' / 'rec.db3'


def test_a_header_of_another_layout_in_a_topic_of_no_use_does_not_spoil_the_images(tmp_path, cdr):
    path = write_mcap(tmp_path / 'rec' / 'rec_0.mcap', [1, 2], cdr)
    definition = 'std_msgs/Header header\n' + '=' * 80 + '\nMSG: std_msgs/Header\nuint32 seq\nint32 sec\n'
    assert get_types_from_msg(definition, 'my_msgs/msg/Thing')
    write_mcap(path.with_name('rec_1.mcap'), [3], b'\0\1\0\0', topic='/thing', type_name='my_msgs/msg/Thing',
               definition=definition)
    with BagReader(tmp_path / 'rec') as bag:
        assert [m.stamp_ns for m in bag.messages(['/image'])] == [5, 5]
