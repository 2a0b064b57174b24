"""MCAP files are read whole, whoever wrote them, and up to their end where that is missing."""
from __future__ import annotations

import numpy as np
import pytest
import zstandard
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Reader as RosbagReader

from bag_making import IMAGE, RGB, image_cdr, times_read, write_mcap, write_ros1
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagReader

TIMES = list(range(10, 200, 10))


@pytest.fixture
def cdr(tmp_path):
    return image_cdr(tmp_path / '..', 5)


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


def test_mcap_of_ros1_messages_is_read(tmp_path):
    with RosbagReader(write_ros1(tmp_path / 'drive.bag', 2)) as bag:
        messages = [(time, data) for connection, time, data in bag.messages() if connection.topic == '/image']
        definition = bag.topics['/image'].msgdef.data
    with (tmp_path / 'x.mcap').open('wb') as stream:
        writer = McapWriter(stream)
        writer.start('ros1')
        channel = writer.register_channel('/image', 'ros1', writer.register_schema('sensor_msgs/Image', 'ros1msg',
                                                                                  definition.encode()))
        for time, data in messages:
            writer.add_message(channel, time, data, time)
        writer.finish()
    with BagReader(tmp_path / 'x.mcap') as bag:
        assert [(m.log_ns, m.stamp_ns) for m in bag] == [(1000, 7_000_000_000), (1001, 7_000_000_001)]
        np.testing.assert_array_equal(next(iter(bag)).data.rgb(), RGB)
