"""Drives without questions as clips: DSEC, MVSEC and M3ED, each cut into pieces of equal length.

| Layout | Folder | Split |
| --- | --- | --- |
| DSEC | a sequence, or ``[train|val|test/]SEQUENCE/``: ``events/left``, ``images`` | by the name of the sequence |
| MVSEC | ``[SCENE/]NAME_data.hdf5`` | none is standard |
| M3ED | ``[NAME/]NAME_data.h5`` | by ``is_test_file`` of ``dataset_list.yaml`` where that is there |
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.dsec_pictures import Picture, read_pictures
from crossspec_ros.recordings.quality.items import SPLITS, QualityItem
from crossspec_ros.recordings.quality.media import DsecEvents, Hdf5Clip, PictureFiles

# The 53 sequences as they were published, by place and letter.
_DSEC_TRAIN = {'interlaken_00': 'cdefg', 'thun_00': 'a', 'zurich_city_00': 'ab', 'zurich_city_01': 'abcdef',
               'zurich_city_02': 'abcde', 'zurich_city_03': 'a', 'zurich_city_04': 'abcdef', 'zurich_city_05': 'ab',
               'zurich_city_06': 'a', 'zurich_city_07': 'a', 'zurich_city_08': 'a', 'zurich_city_09': 'abcde',
               'zurich_city_10': 'ab', 'zurich_city_11': 'abc'}
_DSEC_TEST = {'interlaken_00': 'ab', 'interlaken_01': 'a', 'thun_01': 'ab', 'zurich_city_12': 'a',
              'zurich_city_13': 'ab', 'zurich_city_14': 'abc', 'zurich_city_15': 'a'}
DSEC_SPLITS: dict[str, str] = {f'{place}_{letter}': split
                               for split, places in (('train', _DSEC_TRAIN), ('test', _DSEC_TEST))
                               for place, letters in places.items() for letter in letters}
"""Sequence of DSEC -> the split that it was published in."""

_SUFFIX = '_data'


def dsec_split(sequence: Path) -> str:
    """Split of a sequence by its name; of one with another name by the folder that it lies in; else empty."""
    return DSEC_SPLITS.get(sequence.name, sequence.parent.name if sequence.parent.name in SPLITS else '')


def dsec_sequences(path: Path) -> list[Path]:
    """Folders of sequences: the path itself, those in it, or those in its ``train``, ``val`` and ``test``."""
    places = [path, *_folders(path), *(folder for split in SPLITS for folder in _folders(path / split))]
    return [place for place in dict.fromkeys(places) if (place / 'events' / 'left').is_dir()]


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir()) if path.is_dir() else []


def dsec_items(sequences: Sequence[Path], clip_s: float, left_out: Counter[str]) -> Iterator[QualityItem]:
    """Clips of ``clip_s`` of each sequence. Raises CrossSpecError naming a file that is missing or damaged."""
    for sequence in sequences:
        pictures, _ = read_pictures(sequence)
        stamps = [picture.stamp_us for picture in pictures]
        for number, piece in enumerate(_cut(stamps, round(clip_s * 1e6), left_out)):
            yield QualityItem(f'{sequence.name}/{number}', *_dsec_clip(sequence, pictures, *piece), '', None, (),
                              dsec_split(sequence), sequence.name)


def _dsec_clip(sequence: Path, pictures: Sequence[Picture], first: int, stop: int, start_us: int, stop_us: int
               ) -> tuple[PictureFiles, DsecEvents]:
    ends_us = pictures[0].stamp_us, pictures[-1].stamp_us
    return (PictureFiles(tuple(picture.path for picture in pictures[first:stop])),
            DsecEvents(sequence / 'events' / 'left' / 'events.h5', start_us, stop_us, ends_us))


def dsec_part(sequence: Path, start_s: float | None, end_s: float | None) -> tuple[PictureFiles, DsecEvents] | None:
    """Frames and events from ``start_s`` to ``end_s`` after the first picture (None: its start, its end); None where no
    picture is there. Raises CrossSpecError as above."""
    pictures, _ = read_pictures(sequence)
    start_us = pictures[0].stamp_us + round(1e6 * (start_s or 0.0))
    stop_us = pictures[-1].stamp_us + 1 if end_s is None else pictures[0].stamp_us + round(1e6 * end_s)
    inside = [at for at, picture in enumerate(pictures) if start_us <= picture.stamp_us < stop_us]
    return _dsec_clip(sequence, pictures, inside[0], inside[-1] + 1, start_us, stop_us) if inside else None


def _cut(stamps: Sequence[int], length: int, left_out: Counter[str]) -> Iterator[tuple[int, int, int, int]]:
    """(first picture, one after the last, start, stop) of pieces one after another; those of fewer than two pictures
    are counted, the rest at the end is not a piece."""
    if len(stamps) < 2:
        return
    first, end = 0, stamps[-1] + (stamps[-1] - stamps[0]) // (len(stamps) - 1)
    for start in range(stamps[0], end - length + 1, length):
        stop = next((at for at in range(first, len(stamps)) if stamps[at] >= start + length), len(stamps))
        if stop - first < 2:
            left_out['few_pictures'] += 1
        else:
            yield first, stop, start, start + length
        first = stop


def hdf5_files(path: Path) -> list[Path]:
    """Files of MVSEC or M3ED: the path itself, or ``*_data.h5`` and ``*_data.hdf5`` in it and in its folders."""
    if path.is_file():
        return [path] if path.suffix in ('.h5', '.hdf5') else []
    return sorted(file for pattern in (f'*{_SUFFIX}.h5', f'*{_SUFFIX}.hdf5', f'*/*{_SUFFIX}.h5', f'*/*{_SUFFIX}.hdf5')
                  for file in path.glob(pattern) if not file.name.startswith('.'))


def hdf5_layout(files: Sequence[Path]) -> str:
    """``mvsec`` or ``m3ed``. Raises CrossSpecError for files of another layout, or of both."""
    from crossspec_ros.recordings.event_files.hdf5 import Hdf5File
    found: dict[str, Path] = {}
    for path in files:
        file = Hdf5File(path)
        file.close()
        found.setdefault(file.format, path)
    wrong = next((path for name, path in found.items() if name not in ('mvsec', 'm3ed')), None)
    if wrong is not None or len(found) > 1:
        raise CrossSpecError(f'{wrong or files[0].parent} must hold MVSEC or M3ED files alone, got '
                             f'{", ".join(found)}; name the folder of one of them')
    return next(iter(found))


def hdf5_items(files: Sequence[Path], clip_s: float, left_out: Counter[str]) -> Iterator[QualityItem]:
    """Clips of ``clip_s`` of each file; files without pictures are counted. Raises CrossSpecError as above."""
    from crossspec_ros.recordings.event_files.hdf5 import Hdf5File
    for path in files:
        file = Hdf5File(path)
        stamps = file.picture_times_ns()
        file.close()
        drive = path.stem.removesuffix(_SUFFIX)
        left_out['drives_without_pictures'] += not stamps
        split = _m3ed_split(path, drive)
        for number, piece in enumerate(_cut(stamps, round(clip_s * 1e9), left_out)):
            clip = Hdf5Clip(path, *piece)
            yield QualityItem(f'{drive}/{number}', clip, clip, '', None, (), split, drive)


def _m3ed_split(path: Path, drive: str) -> str:
    """As the list of files that M3ED publishes says, where it lies beside the file or above its folder; else empty."""
    for folder in (path.parent, path.parent.parent):
        listed = folder / 'dataset_list.yaml'
        if listed.is_file():
            for entry in _listed(listed):
                if isinstance(entry, dict) and entry.get('file') == drive and 'is_test_file' in entry:
                    return 'test' if entry['is_test_file'] else 'train'
    return ''


def _listed(path: Path) -> list[Any]:
    try:
        listed = yaml.safe_load(path.read_text('utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CrossSpecError(f'{path} cannot be read ({" ".join(str(error).split())}); copy it again') from error
    if not isinstance(listed, list):
        raise CrossSpecError(f'{path} must be a list of files, got {type(listed).__name__}; copy it again')
    return listed
