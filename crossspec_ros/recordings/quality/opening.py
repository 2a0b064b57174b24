"""Opens a local copy of data by what lies in it."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.quality.drives import (dsec_items, dsec_sequences, hdf5_files, hdf5_items, hdf5_layout)
from crossspec_ros.recordings.quality.finding import Finder
from crossspec_ros.recordings.quality.items import QualityData, QualityItem
from crossspec_ros.recordings.quality.questions import asks, form_of, question_files, question_items, read_entries

_EVENTDRIVE = ('perception', 'understanding', 'prediction', 'planning')
_KNOWN = ('DSEC ([train/]SEQUENCE/events/left and images), MVSEC ([SCENE/]NAME_data.hdf5), M3ED ([NAME/]NAME_data.h5), '
          'EventDrive (json/perception... and data/), or JSON of questions about clips beside it (DSEC-QA, Video-MME, '
          'MVBench, MSVD-QA)')


def open_quality_data(path: str | Path, clip_s: float = 1.0) -> QualityData:
    """The items of a local copy: questions about clips, or drives cut into clips of ``clip_s``.

    Only what tells the layout is read here, the rest as the items are asked for. Raises CrossSpecError in one sentence
    for another layout (which are known, what was missing), for files that are damaged, and where not one item is there.
    """
    path = Path(path)
    if not path.exists():
        raise CrossSpecError(f'data {path} must be a folder, there is none of that name')
    if not 0.05 <= clip_s <= 3600:
        raise CrossSpecError(f'clip_s must be 0.05 to 3600, got {clip_s}')
    data = _opened(path, clip_s)
    if next(iter(data), None) is None:
        causes = ', '.join(f'{cause}: {count}' for cause, count in data.left_out.items() if count)
        raise CrossSpecError(f'data {path} is of the layout {data.layout}, and has no item that can be used '
                             f'({causes or "no clip is long enough"}); unpack what the questions are about beside them')
    return data


def _opened(path: Path, clip_s: float) -> QualityData:
    eventdrive = path / 'json'
    if any((eventdrive / name).is_dir() for name in _EVENTDRIVE):
        if not (path / 'data').is_dir():
            raise CrossSpecError(f'data {path} has the questions of EventDrive in json/ but no folder data/; unpack '
                                 'its archives there')
        return _questions(path, question_files(eventdrive), 'eventdrive')
    sequences, files = dsec_sequences(path), question_files(path)
    if sequences and not any(entries and asks(entries[0]) for entries in map(read_entries, files)):
        return QualityData(path, 'dsec', lambda left_out: dsec_items(sequences, clip_s, left_out))
    if drives := hdf5_files(path):
        return QualityData(path, hdf5_layout(drives), lambda left_out: hdf5_items(drives, clip_s, left_out))
    return _questions(path, files, '')


def _questions(path: Path, files: list[Path], layout: str) -> QualityData:
    """Data of the JSON files that ask something. Raises CrossSpecError where none does."""
    kept, seen = [], []
    for file in files:
        entries = read_entries(file)
        asking = bool(entries) and asks(entries[0])
        if asking or file.stem.endswith('_a'):
            kept.append(file)
        else:
            seen.append(f'{file.name} with {", ".join(list(entries[0])[:6]) if entries else "no list of objects"}')
        layout = layout or (form_of(entries) if asking else '')
    if not kept or not layout:
        here = '; '.join(seen[:3]) or 'none of these folders and no JSON file'
        raise CrossSpecError(f'data {path} must be {_KNOWN}; here is {here}')
    finder = Finder(path if path.is_dir() else path.parent)

    def read(left_out: Counter[str]) -> Iterator[QualityItem]:
        return question_items(kept, finder, left_out)
    return QualityData(path, layout, read)
