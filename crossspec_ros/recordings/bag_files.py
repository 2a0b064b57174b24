"""Which files a bag is made of, what each of them is by its first bytes, and what else they turn out to be."""
from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import BinaryIO

import yaml
import zstandard

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.storage_mcap import McapStorage
from crossspec_ros.recordings.storage_ros1 import Ros1Storage
from crossspec_ros.recordings.storage_sqlite import SqliteStorage
from crossspec_ros.recordings.storages import Storage

SUFFIXES = ('.mcap', '.db3', '.bag')
_PACKED = ('.zstd', '.zst')
_BLOCK_BYTES = 1 << 20
_ZSTD = b'\x28\xb5\x2f\xfd'
_STORAGES = {b'\x89MCAP': McapStorage, b'SQLite format 3\0': SqliteStorage, b'#ROSBAG V2': Ros1Storage}
_WANTED = ('a rosbag2 (its folder, or an .mcap or .db3 file), a ROS 1 .bag file or a file of events (RAW, DAT, '
           'AEDAT4, HDF5)')
# First bytes -> what the file is, and the way out.
_OTHERS = {
    b'version https://git-lfs': 'is a Git LFS pointer, its contents were never fetched; run "git lfs pull" in its '
                                'repository',
    b'#ROSBAG': 'is a ROS 1 bag of a version before 2.0; run "rosbag fix" of ROS 1, then "rosbags-convert --src FILE '
                '--dst FOLDER"',
    b'PK\x03\x04': 'is a zip archive; unpack it (unzip) and give the folder',
    b'\x1f\x8b': 'is packed with gzip; unpack it (gunzip, or tar xzf) and give what is in it',
    b'BZh': 'is packed with bzip2; unpack it (bunzip2, or tar xjf) and give what is in it',
    b'\xfd7zXZ': 'is packed with xz; unpack it (unxz, or tar xJf) and give what is in it',
    b'7z\xbc\xaf': 'is a 7z archive; unpack it (7z x) and give the folder',
    b'Rar!': 'is a rar archive; unpack it (unrar x) and give the folder',
    b'\x89HDF': f'is an HDF5 file; give the folder of the DSEC sequence that it belongs to, or {_WANTED}',
    b'rosbag2_bagfile_information': 'is the metadata of a bag; give the folder that it lies in',
}


@dataclass(frozen=True)
class Metadata:
    """What metadata.yaml says of a bag: the names of its files and its messages by (topic, type)."""

    files: tuple[str, ...]
    counts: dict[tuple[str, str], int]


@dataclass
class BagFiles:
    """The open files of a bag, in the order of their names.

    ``notes`` are sentences on what does not fit, one for each thing. ``close`` gives all of it back.
    """

    storages: list[Storage]
    metadata: Metadata | None
    notes: list[str]
    _unpacked: list[TemporaryDirectory[str]] = field(default_factory=list)

    def close(self) -> None:
        for storage in self.storages:
            storage.close()
        while self._unpacked:
            self._unpacked.pop().cleanup()


def open_files(path: Path) -> BagFiles:
    """Open all files of the bag at ``path``; CrossSpecError with the cause and the way out."""
    try:
        if not path.exists():
            raise CrossSpecError(f'bag {path} does not exist' +
                                 (f': the link leads to {os.readlink(path)}' if path.is_symlink() else ''))
        if path.name == 'metadata.yaml':
            path = path.parent
        if path.is_dir():
            return _open_folder(path)
        files = BagFiles([], None, [])
        _open_all([path], files)
        return files
    except PermissionError as error:
        raise CrossSpecError(f'bag {path} may not be read by this user ({error.filename or path}: permission denied); '
                             'run "sudo chown -R $USER" or "chmod -R u+rX" on it') from error


def _open_folder(folder: Path) -> BagFiles:
    files = BagFiles([], *_metadata(folder))
    present = sorted(filter(_is_storage, folder.iterdir()), key=lambda entry: _natural(entry.name))
    if files.metadata is None:
        chosen = _without_metadata(folder, present)
        if not files.notes:
            files.notes.append(f'has no metadata.yaml, its recorder may have been stopped hard; read from '
                               f'{_listed([file.name for file in chosen])}')
    else:
        chosen = _by_metadata(folder, present, files)
    try:
        _open_all(chosen, files)
    except CrossSpecError as error:
        if files.metadata is None and _kind(chosen[0]) != '.bag':
            raise CrossSpecError(f'{error} (bag {folder} has no metadata.yaml)') from error
        raise
    return files


def _metadata(folder: Path) -> tuple[Metadata | None, list[str]]:
    """(metadata, what is wrong with it)."""
    path = folder / 'metadata.yaml'
    if not path.exists():
        return None, []
    try:
        info = yaml.safe_load(path.read_text('utf-8', 'replace'))['rosbag2_bagfile_information']
        counts: Counter[tuple[str, str]] = Counter()
        for topic in info.get('topics_with_message_count') or ():
            counts[(topic['topic_metadata']['name'], topic['topic_metadata']['type'])] += int(topic['message_count'])
        return Metadata(tuple(map(str, info.get('relative_file_paths') or ())), dict(counts)), []
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        return None, [f'has a metadata.yaml that cannot be read ({said}); its files are read without it']


def _is_storage(entry: Path) -> bool:
    name = entry.name
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    return not name.startswith('.') and name.endswith((*SUFFIXES, '.bag.active')) and entry.is_file()


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts rec_10 after rec_9."""
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', name)]


def _stem(name: str) -> str:
    """A file's name without its suffixes: rec_0 of rec_0.db3.zstd."""
    for suffix in (*_PACKED, '.active', *SUFFIXES):
        name = name.removesuffix(suffix)
    return name


def _series(name: str) -> str:
    """What the files of one split recording have in common: rec of rec_0.mcap."""
    return re.sub(r'_\d+$', '', _stem(name))


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


def _without_metadata(folder: Path, present: list[Path]) -> list[Path]:
    """The files of a folder that has no metadata to tell."""
    if not present:
        if (folder / 'events' / 'left').is_dir():
            raise CrossSpecError(f'{folder} is a DSEC sequence, no bag; "crossspec replay" plays it as it is, '
                                 '"crossspec dsec convert" makes a bag of it')
        inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith('.')
                        and ((entry / 'metadata.yaml').exists() or any(map(_is_storage, entry.iterdir()))))
        if inside:
            what = f'{len(inside)} bags in it' if len(inside) > 1 else 'a bag in it'
            raise CrossSpecError(f'bag {folder} is a folder with {what}, name one: {_listed([str(i) for i in inside])}')
        raise CrossSpecError(f'bag {folder} holds no recording: it has no metadata.yaml and no .mcap, .db3 or .bag '
                             'file; is this the right folder?')
    series = {(_series(file.name), _kind(file)) for file in present}
    if len(series) > 1:
        raise CrossSpecError(f'bag {folder} has no metadata.yaml and files of {len(series)} recordings, name one: '
                             f'{_listed([str(file) for file in present])}')
    return _once(present)


def _kind(file: Path) -> str:
    return next(suffix for suffix in SUFFIXES if suffix in file.name)


def _once(files: Sequence[Path]) -> list[Path]:
    """Of a file and its packed copy only the file."""
    names = {file.name for file in files}
    return [file for file in files if not any(file.name.endswith(suffix) and file.name.removesuffix(suffix) in names
                                              for suffix in _PACKED)]


def _by_metadata(folder: Path, present: list[Path], files: BagFiles) -> list[Path]:
    """The files that metadata.yaml names, those of the same recording that it forgot, and notes on what is missing."""
    listed = list(dict.fromkeys(PurePosixPath(name.replace('\\', '/')).name for name in files.metadata.files))
    by_name = {file.name: file for file in present}
    by_stem = {(_stem(file.name), _kind(file)): file for file in _once(present)}
    chosen: list[Path] = []
    missing: list[str] = []
    for name in listed:
        found = by_name.get(name) or by_stem.get((_stem(name), _kind(Path(name)) if _has_suffix(name) else ''))
        if found is None and (folder / name).is_file():
            found = folder / name                       # a name of no known kind: its first bytes tell what it is
        if found is None:
            missing.append(name)
        elif found not in chosen:
            chosen.append(found)
    rest = [file for file in _once(present) if file not in chosen]
    if not chosen and rest:                             # renamed, or metadata.yaml of another bag
        chosen = _without_metadata(folder, rest)
        files.notes.append(f'has none of the files that its metadata.yaml names ({_listed(missing)}); read from '
                           f'{_listed([file.name for file in chosen])}')
        return chosen
    if not chosen:
        names = _listed(missing) or 'none'
        raise CrossSpecError(f'bag {folder} lacks its files, only metadata.yaml is there: it names {names}; copy them '
                             'beside it')
    if missing:
        files.notes.append(f'lacks {_listed(missing)}, which its metadata.yaml names; the messages in '
                           f'{"it" if len(missing) == 1 else "them"} are missing')
    same = {(_series(file.name), _kind(file)) for file in chosen if _has_suffix(file.name)}
    forgotten = [file for file in rest if (_series(file.name), _kind(file)) in same]
    if forgotten:
        files.notes.append(f'has {_listed([file.name for file in forgotten])} too, which its metadata.yaml does not '
                           'name; read as well')
    return sorted([*chosen, *forgotten], key=lambda file: _natural(file.name)) if forgotten else chosen


def _has_suffix(name: str) -> bool:
    return any(suffix in name for suffix in SUFFIXES)


def _open_all(paths: Sequence[Path], files: BagFiles) -> None:
    """Open each file; empty ones beside others are noted, anything else that cannot be read is an error."""
    try:
        for path in paths:
            if len(paths) > 1 and path.stat().st_size == 0:
                files.notes.append(f'has an empty file, {path.name}, with 0 bytes; the others are read')
                continue
            storage = _open_file(path, files)
            files.storages.append(storage)
            if storage.trouble:
                files.notes.append(f'{path.name} {storage.trouble}; what stands before is read '
                                   f'({sum(channel.count for channel in storage.channels)} messages)')
    except BaseException:
        files.close()
        raise


def _open_file(path: Path, files: BagFiles, shown: Path | None = None) -> Storage:
    """The storage of a file, by its first bytes; ``shown`` is how the user knows it."""
    shown = shown or path
    with path.open('rb') as stream:
        head = stream.read(512)
    if not head:
        raise CrossSpecError(f'{shown} is empty, it has 0 bytes: nothing was recorded or the copy failed; copy it or '
                             'record it again')
    if head.startswith(_ZSTD) and shown == path:
        return _open_file(_unpacked(path, files), files, path)
    for magic, storage in _STORAGES.items():
        if head.startswith(magic):
            return storage(path)
    raise CrossSpecError(f'{shown} {_what(head, shown)}')


def _what(head: bytes, path: Path) -> str:
    """What a file is that is no recording, and the way out."""
    for magic, said in _OTHERS.items():
        if head.startswith(magic):
            return said
    if head[257:262] == b'ustar':
        return 'is a tar archive; unpack it (tar xf) and give the folder'
    if head.lstrip()[:9].lower().startswith((b'<!doctype', b'<html')):
        return 'is a web page, the download went wrong; download it again'
    if not any(head):
        return 'begins with zeros only: it was never written out, or the download stopped; copy it or record it again'
    if _has_suffix(path.name):
        return (f'is no {_kind(path)} file: it begins with {head[:8]!r}; was it damaged, packed or renamed? copy it or '
                'record it again')
    return (f'is no recording: it begins with {head[:8]!r}; wanted is {_WANTED}. Other storages of ROS 2 become one by '
            '"ros2 bag convert"')


def _unpacked(path: Path, files: BagFiles) -> Path:
    """A file packed with zstd, unpacked into a folder that goes when the bag is closed."""
    folder = TemporaryDirectory(prefix='crossspec-bag-')
    files._unpacked.append(folder)
    target = Path(folder.name) / _stem(path.name)
    try:
        with path.open('rb') as packed, target.open('wb') as out:
            whole = _copy_unpacked(packed, out)
    except zstandard.ZstdError as error:
        raise CrossSpecError(f'{path} is packed with zstd and damaged or cut ({error}); copy it or record it '
                             'again') from error
    except OSError as error:
        raise CrossSpecError(f'{path} is packed with zstd and cannot be unpacked ({error.strerror}); set TMPDIR to a '
                             'folder with room for it') from error
    if not whole:
        if not target.stat().st_size:
            raise CrossSpecError(f'{path} is packed with zstd and cut, nothing of it can be read; copy it or record it '
                                 'again')
        files.notes.append(f'{path.name} is packed with zstd and cut; what stands before the cut is read')
    return target


def _copy_unpacked(packed: BinaryIO, out: BinaryIO) -> bool:
    """Unpack a stream of zstd frames; False when it ends amid one."""
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    started = False
    while block := packed.read(_BLOCK_BYTES):
        while block:
            out.write(frame.decompress(block))
            started, block = True, b''
            if frame.eof:
                block, frame, started = frame.unused_data, decompressor.decompressobj(), False
    return not started


def describe_disagreement(metadata: Metadata | None, counts: dict[tuple[str, str], int]) -> str:
    """One sentence on where metadata.yaml counts other messages than the files hold; empty when they agree."""
    if metadata is None:
        return ''
    wrong = [f'{topic} {metadata.counts.get((topic, kind), 0)} instead of {counts.get((topic, kind), 0)}'
             for topic, kind in sorted({*metadata.counts, *counts})
             if metadata.counts.get((topic, kind), 0) != counts.get((topic, kind), 0)]
    return (f'has a metadata.yaml that counts other messages than its files hold ({_listed(wrong, 3)}); the files are '
            'followed') if wrong else ''
