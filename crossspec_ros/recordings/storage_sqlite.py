"""rosbag2's SQLite files, with the write-ahead log that a killed recorder leaves beside them."""
from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.storages import CDR, NO_DEFINITION, Channel, Item

_FORMATS = {'ros2msg': MessageDefinitionFormat.MSG, 'ros2idl': MessageDefinitionFormat.IDL}
_COMPANIONS = ('-wal', '-journal')


class SqliteStorage:
    """One .db3 file as its database says it is, the log of a killed recorder included; nothing is written beside it.

    All is read in one transaction: of a bag that is still being written, what was there when it was opened.
    Raises CrossSpecError when it is damaged, or no rosbag2.
    """

    trouble = ''

    def __init__(self, path: Path) -> None:
        self.path = path
        self._copy: TemporaryDirectory[str] | None = None
        self._database: sqlite3.Connection | None = None
        try:
            self._database = self._opened()
            self._ids, self.channels, self.start_ns, self.end_ns = self._contents(self._database)
        except sqlite3.Error as error:
            self.close()
            raise self._damaged(error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    def _damaged(self, error: Exception) -> CrossSpecError:
        return CrossSpecError(f'{self.path} cannot be read as SQLite, it is cut or damaged ({error}); '
                              f'run sqlite3 {self.path.name} ".recover" for what is left, copy it or record it again')

    def _opened(self) -> sqlite3.Connection:
        """The database, by the first way that sees all of it and writes nothing beside it."""
        real = self.path.resolve()                      # the log lies beside the file, not beside a link to it
        beside = [suffix for suffix in _COMPANIONS if _has_bytes(real, suffix)]
        if not beside:
            return _connected(real, 'mode=ro&immutable=1')
        ways = []
        if beside == ['-wal']:
            # A file -shm is of a recorder that may live: share its locks. Without it, an index in memory will do,
            # which needs no file beside the database and so works in a folder that cannot be written, too.
            ways = ['mode=ro', 'mode=ro&vfs=unix-none'] if _has_bytes(real, '-shm') else ['mode=ro&vfs=unix-none']
        for way in ways:
            try:
                return _connected(real, way)
            except sqlite3.Error:
                continue
        return _connected(self._copied(real, beside), 'mode=rw')

    def _copied(self, real: Path, beside: list[str]) -> Path:
        """A copy of the database and its log: SQLite has to mend it before it can be read."""
        self._copy = TemporaryDirectory(prefix='crossspec-bag-')
        target = Path(self._copy.name) / 'copy.db3'
        try:
            shutil.copyfile(real, target)
            for suffix in beside:
                shutil.copyfile(f'{real}{suffix}', f'{target}{suffix}')
        except OSError as error:
            raise CrossSpecError(f'{self.path} has a log beside it ({", ".join(beside)}) and must be copied to be '
                                 f'read, which fails ({error.strerror}); set TMPDIR to a folder with room') from error
        return target

    def _contents(self, database: sqlite3.Connection) -> tuple[list[int], tuple[Channel, ...], int, int]:
        tables = {name for name, in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {'topics', 'messages'} <= tables:
            raise CrossSpecError(f'{self.path} is an SQLite database but no rosbag2: it has no tables topics and '
                                 'messages; was another file meant, or was its recorder stopped before it began?')
        definitions = {}
        if 'message_definitions' in tables:
            definitions = {name: MessageDefinition(_FORMATS[encoding], text) for name, encoding, text in
                           database.execute('SELECT topic_type, encoding, encoded_message_definition '
                                            'FROM message_definitions') if encoding in _FORMATS and text}
        spans = {topic: (count, first, last) for topic, count, first, last in
                 database.execute('SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp) '
                                  'FROM messages GROUP BY topic_id')}
        topics = database.execute('SELECT id, name, type, serialization_format FROM topics ORDER BY id').fetchall()
        topics += [(number, f'(topic {number}, not declared)', '', 'unknown')
                   for number in spans.keys() - {row[0] for row in topics}]
        channels = tuple(Channel(str(name), str(kind), serialisation or CDR, definitions.get(kind, NO_DEFINITION),
                                 spans.get(number, (0,))[0]) for number, name, kind, serialisation in topics)
        return ([row[0] for row in topics], channels, min((first for _, first, _ in spans.values()), default=0),
                max((last for _, _, last in spans.values()), default=0))

    def messages(self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None) -> Iterator[Item]:
        numbers = {self._ids[number]: number for number in wanted}
        query = (f'SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({",".join("?" * len(numbers))})'
                 f'{"" if start_ns is None else " AND timestamp >= ?"}{"" if stop_ns is None else " AND timestamp < ?"}'
                 ' ORDER BY timestamp, id')
        bounds = [bound for bound in (start_ns, stop_ns) if bound is not None]
        try:
            for topic, log_ns, data in self._database.execute(query, [*numbers, *bounds]):
                yield numbers[topic], log_ns, bytes(data)
        except sqlite3.Error as error:
            raise self._damaged(error) from error


def _has_bytes(path: Path, suffix: str) -> bool:
    beside = Path(f'{path}{suffix}')
    return beside.exists() and beside.stat().st_size > 0


def _connected(path: Path, options: str) -> sqlite3.Connection:
    """A connection inside a transaction that sees the database as it is now."""
    database = sqlite3.connect(f'{path.as_uri()}?{options}', uri=True, isolation_level=None, check_same_thread=False)
    try:
        database.text_factory = lambda text: text.decode('utf-8', 'replace')
        if 'unix-none' in options:
            database.execute('PRAGMA locking_mode = EXCLUSIVE')
        database.execute('BEGIN')
        database.execute('SELECT COUNT(*) FROM sqlite_master').fetchone()
    except BaseException:
        database.close()
        raise
    return database
