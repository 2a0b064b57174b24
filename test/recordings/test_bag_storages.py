"""What the files of a recording hold is handed over, all of it, in the order of time."""
from __future__ import annotations

import os
import shutil
import sqlite3

import numpy as np
import pytest
import yaml
import zstandard
from mcap.writer import CompressionType
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bag_making import IMAGE, RGB, image_cdr, leave_log, split_bag, times_read, write_mcap, write_ros1
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagReader, BagWriter
from crossspec_ros.recordings.bag_edit import cut
from crossspec_ros.recordings.bag_info import bag_info
from crossspec_ros.recordings.bag_types import EVENT_TYPES

TIMES = list(range(10, 200, 10))


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


@pytest.mark.parametrize('options', [
    pytest.param({}, id='whole'),
    pytest.param({'summary': False}, id='no_summary'),
    pytest.param({'chunked': False}, id='no_chunks'),
    pytest.param({'chunked': False, 'summary': False}, id='no_chunks_no_summary'),
    pytest.param({'compression': CompressionType.LZ4}, id='lz4'),
    pytest.param({'compression': CompressionType.NONE}, id='not_compressed'),
    pytest.param({'profile': ''}, id='no_profile'),
    pytest.param({'profile': 'somebody'}, id='other_profile'),
    pytest.param({'definition': ''}, id='no_definition'),
    pytest.param({'type_name': 'sensor_msgs/Image'}, id='short_type_name'),
    pytest.param({'metadata': {'offered_qos_profiles': '- ['}}, id='qos_that_is_no_yaml')])
@pytest.mark.parametrize('order', [1, -1], ids=['in_order', 'backwards'])
def test_mcap_is_read_whole_however_it_was_written(tmp_path, cdr, options, order, caplog):
    path = write_mcap(tmp_path / 'x.mcap', TIMES[::order], cdr, **options)
    with BagReader(path) as bag:
        assert bag.topics['/image'].messages == len(TIMES)
        assert (bag.start_ns, bag.end_ns) == (TIMES[0], TIMES[-1])
        assert [m.log_ns for m in bag] == TIMES
        assert [m.log_ns for m in bag.messages(start_ns=50, stop_ns=90)] == [50, 60, 70, 80]
        np.testing.assert_array_equal(next(iter(bag)).data.rgb(), RGB)
    assert not caplog.records


@pytest.mark.parametrize('chunked', [True, False], ids=['chunks', 'no_chunks'])
@pytest.mark.parametrize('share', [0.5, 0.8, 0.97])
def test_mcap_that_is_cut_gives_what_stands_before_the_cut_and_says_so(tmp_path, cdr, share, chunked, caplog):
    path = write_mcap(tmp_path / 'x.mcap', TIMES, cdr, chunked=chunked, compression=CompressionType.NONE)
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])
    read = times_read(path)
    assert read and read == TIMES[:len(read)]
    assert len(read) < len(TIMES) or share > 0.5
    text, = [record.getMessage() for record in caplog.records]
    assert 'has no end' in text and f'({len(read)} messages)' in text


def test_mcap_that_is_still_written_gives_what_is_there(tmp_path, cdr, caplog):
    from mcap.writer import Writer as McapWriter
    with (tmp_path / 'x.mcap').open('wb') as stream:
        writer = McapWriter(stream, chunk_size=300)
        writer.start('ros2')
        channel = writer.register_channel('/image', 'cdr', writer.register_schema(IMAGE, 'ros2msg', b''))
        for time in TIMES:
            writer.add_message(channel, time, cdr, time)
        stream.flush()
        read = times_read(tmp_path / 'x.mcap')
    assert len(read) >= len(TIMES) - 2 and read == TIMES[:len(read)]
    assert 'still writing' in caplog.text


def test_mcap_whose_own_count_is_another_is_an_error_with_both_numbers(tmp_path, cdr):
    path = write_mcap(tmp_path / 'x.mcap', TIMES, cdr)
    data = path.read_bytes()
    at = data.rindex(len(TIMES).to_bytes(8, 'little'))              # in the statistics: of the channel, then of all
    first = data.index(len(TIMES).to_bytes(8, 'little'), data.rindex(b'\x0b', 0, at - 40) - 1)
    for place in (first, at):
        data = data[:place] + (len(TIMES) + 3).to_bytes(8, 'little') + data[place + 8:]
    path.write_bytes(data)
    with BagReader(path) as bag, pytest.raises(CrossSpecError, match=f'{len(TIMES) + 3} messages of /image.*holds '
                                                                     f'{len(TIMES)}'):
        list(bag)


def test_mcap_chunk_that_is_damaged_is_an_error_that_says_where(tmp_path, cdr):
    path = write_mcap(tmp_path / 'x.mcap', TIMES, cdr, compression=CompressionType.NONE)
    data = bytearray(path.read_bytes())
    data[data.index(RGB.tobytes()) + 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CrossSpecError, match='chunk at byte .*mcap recover'):
        times_read(path)


@pytest.mark.parametrize('read_only', [False, True], ids=['writable', 'read_only'])
@pytest.mark.parametrize('named', ['file', 'folder', 'folder_without_metadata'])
def test_sqlite_log_of_a_killed_recorder_is_read(tmp_path, cdr, named, read_only):
    folder = tmp_path / 'rec # 100%?ü'
    with BagWriter(tmp_path / 'rec', 'sqlite3') as bag:
        bag.write_rgb('/image', 1, 1, RGB)
    (tmp_path / 'rec').rename(folder)
    database = next(folder.glob('*.db3'))
    leave_log(database, [2, 3], cdr)
    if named == 'folder_without_metadata':
        (folder / 'metadata.yaml').unlink()
    before = sorted(os.listdir(folder))
    if read_only:
        folder.chmod(0o555)
    try:
        assert times_read(database if named == 'file' else folder) == [1, 2, 3]
    finally:
        folder.chmod(0o755)
    assert sorted(os.listdir(folder)) == before


def test_sqlite_that_is_still_written_gives_what_was_there_when_it_was_opened(tmp_path, cdr):
    with BagWriter(tmp_path / 'rec', 'sqlite3') as bag:
        bag.write_rgb('/image', 1, 1, RGB)
    database = next((tmp_path / 'rec').glob('*.db3'))
    recorder = sqlite3.connect(database, isolation_level=None)
    recorder.execute('PRAGMA journal_mode = WAL')
    row = 'INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)'
    recorder.execute(row, (2, cdr))
    with BagReader(database) as bag:
        recorder.execute(row, (3, cdr))
        assert [m.log_ns for m in bag] == [1, 2]
    assert times_read(database) == [1, 2, 3]
    recorder.close()


def test_sqlite_with_a_journal_to_be_rolled_back_is_read_as_it_was_before(tmp_path, cdr):
    with BagWriter(tmp_path / 'rec', 'sqlite3') as bag:
        bag.write_rgb('/image', 1, 1, RGB)
    database = next((tmp_path / 'rec').glob('*.db3'))
    live = tmp_path / 'live.db3'
    shutil.copy(database, live)
    recorder = sqlite3.connect(live, isolation_level=None)
    recorder.execute('PRAGMA cache_size = 1')
    recorder.execute('BEGIN')
    for time in range(2, 200):                          # more than the cache holds: half is written, the journal too
        recorder.execute('INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)', (time, cdr))
    assert live.with_name('live.db3-journal').stat().st_size
    shutil.copy(live, database)
    shutil.copy(live.with_name('live.db3-journal'), database.with_name(database.name + '-journal'))
    recorder.close()
    assert times_read(database) == [1]


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


def test_mcap_packed_with_zstd_and_cut_gives_what_stands_before_the_cut(tmp_path, cdr, caplog):
    path = write_mcap(tmp_path / 'x.mcap', TIMES, cdr, compression=CompressionType.NONE)
    frames = [zstandard.compress(path.read_bytes()[at:at + 2000]) for at in range(0, path.stat().st_size, 2000)]
    packed = tmp_path / 'y.mcap.zstd'
    packed.write_bytes(b''.join(frames))
    assert times_read(packed) == TIMES and not caplog.records
    packed.write_bytes(b''.join(frames[:2]) + frames[2][:-9])
    read = times_read(packed)
    assert 0 < len(read) < len(TIMES) and read == TIMES[:len(read)]
    assert 'packed with zstd and cut' in caplog.text


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


def test_sqlite_of_the_first_versions_without_definitions_is_read(tmp_path):
    with sqlite3.connect(_one_image(tmp_path)) as database:
        for table in ('schema', 'metadata', 'message_definitions'):
            database.execute(f'DROP TABLE {table}')
        for column in ('offered_qos_profiles', 'type_description_hash'):
            database.execute(f'ALTER TABLE topics DROP COLUMN {column}')
    assert times_read(tmp_path / 'rec' / 'rec.db3') == [1]


def test_a_header_of_another_layout_in_a_topic_of_no_use_does_not_spoil_the_images(tmp_path, cdr):
    path = write_mcap(tmp_path / 'rec' / 'rec_0.mcap', [1, 2], cdr)
    definition = 'std_msgs/Header header\n' + '=' * 80 + '\nMSG: std_msgs/Header\nuint32 seq\nint32 sec\n'
    assert get_types_from_msg(definition, 'my_msgs/msg/Thing')
    write_mcap(path.with_name('rec_1.mcap'), [3], b'\0\1\0\0', topic='/thing', type_name='my_msgs/msg/Thing',
               definition=definition)
    with BagReader(tmp_path / 'rec') as bag:
        assert [m.stamp_ns for m in bag.messages(['/image'])] == [5, 5]
