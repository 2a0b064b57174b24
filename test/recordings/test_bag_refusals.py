"""What is no recording, or only a part of one, is called what it is, in one line with the way out."""
from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import tarfile
import zipfile

import pytest
import zstandard

from bag_making import IMAGE, image_cdr, split_bag, times_read, write_mcap, write_ros1
from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagReader, BagWriter
from crossspec_ros.recordings.bag_edit import cut
from shared_data import shared

MCAP, ZSTD = b'\x89MCAP0\r\n', b'\x28\xb5\x2f\xfd'
LFS = b'version https://git-lfs.github.com/spec/v1\noid sha256:' + b'0' * 64 + b'\nsize 990\n'


@pytest.fixture
def cdr(tmp_path):
    return image_cdr(tmp_path / '..', 5)


def _info(path, capsys):
    """(exit code, the lines on stderr) of ``crossspec bag info``."""
    capsys.readouterr()
    code = main(['bag', 'info', str(path)])
    return code, capsys.readouterr().err.splitlines()


def _zip(path):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a', 'b')


def _tar(path):
    (path.parent / 'inside').write_text('x')
    with tarfile.open(path, 'w') as archive:
        archive.add(path.parent / 'inside')


def _database(path):
    with sqlite3.connect(path) as database:
        database.execute('CREATE TABLE other (a)')


def _cut_ros1(path):
    write_ros1(path, 50)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(('name', 'make', 'said'), [
    pytest.param('a.mcap', lambda path: path.write_bytes(LFS), 'git lfs pull', id='lfs_mcap'),
    pytest.param('a.db3', lambda path: path.write_bytes(LFS), 'git lfs pull', id='lfs_db3'),
    pytest.param('a.bag', lambda path: path.write_bytes(LFS), 'git lfs pull', id='lfs_bag'),
    pytest.param('a.mcap', lambda path: path.write_bytes(b''), '0 bytes', id='empty_mcap'),
    pytest.param('a.db3', lambda path: path.write_bytes(b''), '0 bytes', id='empty_db3'),
    pytest.param('a.bag', lambda path: path.write_bytes(b''), '0 bytes', id='empty_bag'),
    pytest.param('a.mcap', lambda path: path.write_bytes(bytes(1000)), 'zeros only', id='zeros'),
    pytest.param('a.zip', _zip, 'zip archive', id='zip'),
    pytest.param('a.mcap', _zip, 'zip archive', id='zip_named_mcap'),
    pytest.param('a.tar', _tar, 'tar xf', id='tar'),
    pytest.param('a.tar.gz', lambda path: path.write_bytes(gzip.compress(b'x')), 'gzip', id='gzip'),
    pytest.param('a.mcap', lambda path: path.write_text('<!DOCTYPE html><html>'), 'web page', id='web_page'),
    pytest.param('a.h5', lambda path: path.write_bytes(b'\x89HDF\r\n\x1a\n'), 'HDF5', id='hdf5'),
    pytest.param('a.mp4', lambda path: path.write_bytes(b'\0\0\0 ftypisom'), 'no recording', id='film'),
    pytest.param('a.mcap', lambda path: path.write_bytes(b'something else'), 'no .mcap file', id='text'),
    pytest.param('a.db3', _database, 'no rosbag2', id='other_database'),
    pytest.param('a.bag', lambda path: path.write_bytes(b'#ROSBAG V1.2\n'), 'rosbags-convert', id='old_ros1'),
    pytest.param('a.bag', lambda path: path.write_bytes(b'#ROSBAG V2.0\n'), 'rosbags-convert', id='ros1_head_only'),
    pytest.param('a.bag', _cut_ros1, 'rosbags-convert', id='ros1_cut'),
    pytest.param('a.mcap', lambda path: path.write_bytes(MCAP), 'no message that can be read', id='mcap_head'),
    pytest.param('a.mcap.zstd', lambda path: path.write_bytes(ZSTD + b'rest'), 'packed with zstd', id='cut_zstd'),
    pytest.param('a.db3.zstd', lambda path: path.write_bytes(ZSTD + bytes(99)), 'packed with zstd', id='bad_zstd'),
    pytest.param('a.zst', lambda path: path.write_bytes(zstandard.compress(LFS)), 'git lfs', id='zstd_of_pointer')])
def test_file_that_is_no_recording_is_called_what_it_is(tmp_path, name, make, said, capsys):
    make(tmp_path / name)
    code, (line,) = _info(tmp_path / name, capsys)
    assert code == 2 and said in line and str(tmp_path / name) in line


def _several(path):
    for name in ('a', 'b'):
        split_bag(path / name, [[1]])


def _only_metadata(path):
    (path / 'metadata.yaml').write_text('rosbag2_bagfile_information: {relative_file_paths: [x_0.db3]}')


def _other_storage(path):
    (path / 'metadata.yaml').write_text('rosbag2_bagfile_information: {relative_file_paths: [x_0.abc], '
                                        'storage_identifier: abc}')
    (path / 'x_0.abc').write_text('something')


def _files_of_two(path):
    for name in ('x_0.db3', 'y_0.mcap'):
        (path / name).write_bytes(b'x')


@pytest.mark.parametrize(('make', 'said'), [
    pytest.param(lambda path: None, 'holds no recording', id='empty'),
    pytest.param(lambda path: (path / 'a.txt').write_text('x'), 'holds no recording', id='other_files'),
    pytest.param(_several, '2 bags in it, name one', id='several_bags'),
    pytest.param(lambda path: split_bag(path / 'a', [[1]]), 'with a bag in it, name one', id='bag_inside'),
    pytest.param(_files_of_two, 'files of 2 recordings, name one', id='files_of_two'),
    pytest.param(lambda path: (path / 'x_0.mcap').write_bytes(LFS), 'git lfs pull', id='lfs'),
    pytest.param(lambda path: (path / '._x_0.mcap').write_bytes(b'x'), 'holds no recording', id='dot_file'),
    pytest.param(lambda path: (path / 'events' / 'left').mkdir(parents=True), 'dsec convert', id='dsec'),
    pytest.param(_other_storage, 'ros2 bag convert', id='other_storage'),
    pytest.param(_only_metadata, 'lacks its files', id='only_metadata')])
def test_folder_that_is_no_recording_is_called_what_it_is(tmp_path, make, said, capsys):
    folder = tmp_path / 'rec'
    folder.mkdir()
    make(folder)
    code, (line,) = _info(folder, capsys)
    assert code == 2 and said in line and str(folder) in line


def test_path_that_is_not_there_and_a_link_to_nowhere_are_told_apart(tmp_path, capsys):
    (tmp_path / 'link').symlink_to(tmp_path / 'gone')
    assert 'does not exist' in _info(tmp_path / 'none', capsys)[1][0]
    assert f'leads to {tmp_path / "gone"}' in _info(tmp_path / 'link', capsys)[1][0]


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
@pytest.mark.parametrize('what', ['file', 'folder', 'metadata'])
def test_path_that_may_not_be_read_is_told(tmp_path, what, capsys):
    bag = split_bag(tmp_path / 'rec', [[1]])
    path = {'file': bag / 'rec_0.mcap', 'folder': bag, 'metadata': bag / 'metadata.yaml'}[what]
    path.chmod(0)
    try:
        code, (line,) = _info(bag, capsys)
    finally:
        path.chmod(0o755)
    assert code == 2 and 'permission denied' in line and 'chmod' in line


def test_permission_error_of_the_system_is_one_line(tmp_path, monkeypatch, capsys):
    bag = split_bag(tmp_path / 'rec', [[1]])
    real = type(bag).open

    def closed(self, *args, **kwargs):
        if self.suffix == '.mcap':
            raise PermissionError(13, 'Permission denied', str(self))
        return real(self, *args, **kwargs)
    monkeypatch.setattr(type(bag), 'open', closed)
    code, (line,) = _info(bag, capsys)
    assert code == 2 and 'rec_0.mcap: permission denied' in line and 'chmod' in line


@pytest.mark.parametrize('name', ['metadata.yaml', 'rec_0.mcap', '.'])
def test_bag_may_be_named_by_its_folder_its_file_or_its_metadata(tmp_path, name):
    assert times_read(split_bag(tmp_path / 'rec', [[1, 2]]) / name) == [1, 2]


@pytest.mark.parametrize('name', ['x.bin', 'x', 'x.db3', 'x.bag'])
def test_file_is_known_by_its_first_bytes_not_by_its_name(tmp_path, cdr, name):
    assert times_read(write_mcap(tmp_path / name, [1, 2], cdr)) == [1, 2]


@pytest.mark.parametrize(('encoding', 'schema'), [
    pytest.param('json', 'jsonschema', id='json'), pytest.param('protobuf', 'protobuf', id='protobuf'),
    pytest.param('flatbuffer', 'flatbuffer', id='flatbuffer'), pytest.param('cbor', '', id='no_schema'),
    pytest.param('ros1', 'strange', id='ros1_of_unknown_type')])
def test_channel_serialised_otherwise_does_not_spoil_the_others(tmp_path, cdr, encoding, schema, caplog, capsys):
    path = write_mcap(tmp_path / 'x.mcap', [1, 2, 3], cdr, other=(encoding, schema, b'{"a": 1}'))
    assert _info(path, capsys) == (0, [])
    assert times_read(path, ['/image']) == [1, 2, 3]
    assert not caplog.records


def test_channel_serialised_otherwise_is_told_once_when_it_is_asked_for(tmp_path, cdr, caplog):
    path = write_mcap(tmp_path / 'x.mcap', [1, 2, 3], cdr, other=('json', 'jsonschema', b'{}'))
    with BagReader(path) as bag:
        for _ in range(2):
            assert [m.log_ns for m in bag.messages(['/image', '/other'])] == [1, 2, 3]
        with pytest.raises(CrossSpecError, match='/other.*2 messages as json.*only CDR'):
            list(bag.messages(['/other']))
    assert ['/other (2 messages as json)' in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    assert cut(path, tmp_path / 'out') == 3             # a copy of all is asked for all
    assert ['/other' in record.getMessage() for record in caplog.records] == [True]


def test_bag_with_nothing_but_json_says_so(tmp_path, cdr, capsys):
    path = write_mcap(tmp_path / 'x.mcap', [], cdr, other=('json', 'jsonschema', b'{}'))
    with BagReader(path) as bag, pytest.raises(CrossSpecError, match='/other .*2, json'):
        bag.require_topics()


def test_definitions_that_cannot_be_read_are_told_of_only_where_asked_for_in_a_line(tmp_path, cdr, caplog):
    path = write_mcap(tmp_path / 'rec' / 'rec_0.mcap', [1], cdr)
    write_mcap(path.with_name('rec_1.mcap'), [2], b'\0\1\0\0', topic='/lift/_service_event',
               type_name='own/srv/Lift_Event', definition='MSG: own/srv/Lift_Event\n===\nSRV: own/srv/Lift\nint64 a\n')
    with BagReader(tmp_path / 'rec') as bag:
        caplog.clear()
        assert [m.log_ns for m in bag] == [1, 2]
        bag.require_topics()
        assert not caplog.records
        for _ in range(2):
            assert next(bag.messages(['/lift/_service_event'])).data is None
    text, = [record.getMessage() for record in caplog.records]
    assert 'own/srv/Lift_Event' in text and '\n' not in text
    assert cut(tmp_path / 'rec', tmp_path / 'out') == 2
    copy, = (tmp_path / 'out').glob('*.mcap')
    assert b'SRV: own/srv/Lift\nint64 a' in copy.read_bytes()        # copied, though nobody here can read it


# -- the recordings of people's reports --------------------------------------------------------------------------------

def _case(name, tmp_path):
    """A copy of a report's folder: SQLite may want to write beside what it reads."""
    return shutil.copytree(shared(f'trouble/{name}'), tmp_path / 'case')


@pytest.mark.parametrize(('name', 'file', 'counts'), [
    pytest.param('01_qos_only_in_metadata', '.', {'/event_camera/events': 273, '/camera/image_raw': 15}, id='01'),
    pytest.param('02_sqlite_log_of_killed_recorder', 'rec_0.db3', {'/camera/image_raw': 15}, id='02'),
    pytest.param('02_sqlite_log_of_killed_recorder', '.', {'/camera/image_raw': 15}, id='02_folder'),
    pytest.param('03_storage_id_empty_after_reindex', '.', {'/event_camera/events': 273, '/camera/image_raw': 15},
                 id='03'),
    pytest.param('04_one_json_channel', 'b_0.mcap', {'/camera/image_raw': 15}, id='04'),
    pytest.param('05_mcap_without_profile', 'b_0.mcap', {'/camera/image_raw': 15}, id='05'),
    pytest.param('32_service_event_topics', 'b_0.mcap', {'/camera/image_raw': 5}, id='32')])
def test_report_is_read_whole_without_a_word(name, file, counts, tmp_path, capsys, caplog):
    path = _case(name, tmp_path) / file
    code, lines = _info(path, capsys)
    assert (code, lines) == (0, [])
    assert file == '.' and '02' in name or not caplog.records
    with BagReader(path) as bag:
        read = list(bag.messages(bag.require_topics()))
    assert {topic: sum(m.topic == topic for m in read) for topic in counts} == counts
    assert all(m.data.rgb().any() for m in read if m.type == IMAGE)


@pytest.mark.parametrize(('name', 'file', 'said'), [
    pytest.param('06_git_lfs_pointer', 'b_0.mcap', 'git lfs pull', id='06'),
    pytest.param('07_ros1_bag', 'drive.bag', 'rosbags-convert --src', id='07')])
@pytest.mark.parametrize('whole', [False, True], ids=['file', 'folder'])
def test_report_is_refused_by_its_true_cause(name, file, said, whole, tmp_path, capsys):
    code, (line,) = _info(_case(name, tmp_path) / ('.' if whole else file), capsys)
    assert code == 2 and said in line and 'damaged' not in line


def test_bag_of_a_topic_with_no_message_is_read(tmp_path):
    with BagWriter(tmp_path / 'rec') as bag:
        bag.add_topic('/image', IMAGE)
    with BagReader(tmp_path / 'rec') as bag:
        assert (list(bag), bag.start_ns, bag.end_ns, bag.message_count) == ([], 0, 0, 0)
