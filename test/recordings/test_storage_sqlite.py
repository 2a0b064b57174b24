"""SQLite files are read with the log that a killed recorder left, and nothing is written beside them."""
from __future__ import annotations

import os
import shutil
import sqlite3

import pytest

from bag_making import RGB, image_cdr, leave_log, times_read
from crossspec_ros.recordings.bag import BagReader, BagWriter


@pytest.fixture
def cdr(tmp_path):
    return image_cdr(tmp_path / '..', 5)


def _one_image(tmp_path):
    with BagWriter(tmp_path / 'rec', 'sqlite3') as bag:
        bag.write_rgb('/image', 1, 1, RGB)
    return tmp_path / 'rec' / 'rec.db3'


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


def test_sqlite_of_the_first_versions_without_definitions_is_read(tmp_path):
    with sqlite3.connect(_one_image(tmp_path)) as database:
        for table in ('schema', 'metadata', 'message_definitions'):
            database.execute(f'DROP TABLE {table}')
        for column in ('offered_qos_profiles', 'type_description_hash'):
            database.execute(f'ALTER TABLE topics DROP COLUMN {column}')
    assert times_read(tmp_path / 'rec' / 'rec.db3') == [1]
