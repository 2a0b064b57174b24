"""Opens a file of events by what it holds, and makes a writer by what is asked for."""
from __future__ import annotations

from pathlib import Path

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.event_files.dat import DatFile, DatWriter
from crossspec_ros.recordings.event_files.headers import begins_like_events, kind_of
from crossspec_ros.recordings.event_files.piece import EventFile, EventWriter
from crossspec_ros.recordings.event_files.raw import RawFile, RawWriter

FORMATS = ('evt3', 'evt2', 'evt21', 'dat', 'aedat4', 'prophesee', 'dsec', 'm3ed', 'mvsec')
"""Formats that can be written; the last four are layouts of HDF5."""

_BY_SUFFIX = {'.raw': 'evt3', '.dat': 'dat', '.aedat4': 'aedat4', '.hdf5': 'prophesee', '.h5': 'dsec'}


def is_event_file(path: Path) -> bool:
    """Whether the path is a file of events other than a bag; raises CrossSpecError like ``kind_of``."""
    return path.is_file() and begins_like_events(path) and kind_of(path) != 'bag'


def open_event_file(path: str | Path, size: tuple[int, int] | None = None) -> EventFile:
    """A file of events, open for reading; ``size`` is the sensor's where the file does not say it.

    Raises CrossSpecError naming the file when it is none, cut within its header, of a format that is not read, or when
    what it needs is not installed.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == 'bag':
        raise CrossSpecError(f'{path} is a bag, not a file of events; look into it with "crossspec bag info {path}"')
    if kind == 'hdf5':
        from crossspec_ros.recordings.event_files.hdf5 import Hdf5File      # h5py: only where it is asked for
        return Hdf5File(path, size)
    if kind == 'aedat4':
        from crossspec_ros.recordings.event_files.aedat4 import Aedat4File
        return Aedat4File(path, size)
    return DatFile(path, size) if kind == 'dat' else RawFile(path, kind, size)


def format_of(path: Path, name: str | None) -> str | None:
    """The format to write: as named, or by the suffix; None is a bag. Raises CrossSpecError on an unknown name."""
    if name is None:
        return None if path.suffix in ('', '.bag') or path.suffix not in _BY_SUFFIX else _BY_SUFFIX[path.suffix]
    if name == 'bag':
        return None
    if name not in FORMATS:
        raise CrossSpecError(f'format must be bag or one of {", ".join(FORMATS)}, got {name!r}')
    return name


def make_writer(path: Path, name: str, width: int, height: int, *, header: str = '', offset_ns: int = 0,
                triggers: Path | None = None, picture_size: tuple[int, int] | None = None) -> EventWriter:
    """A writer of a format in ``FORMATS``; ``triggers`` is where DAT puts its triggers."""
    if name == 'dat':
        return DatWriter(path, triggers or path.with_suffix('.triggers'), width, height)
    if name == 'aedat4':
        from crossspec_ros.recordings.event_files.aedat4 import Aedat4Writer
        return Aedat4Writer(path, width, height, picture_size)
    if name in ('evt3', 'evt2', 'evt21'):
        return RawWriter(path, name, width, height, header)
    from crossspec_ros.recordings.event_files.hdf5 import Hdf5Writer
    return Hdf5Writer(path, name, width, height, offset_ns)
