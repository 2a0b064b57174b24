"""The left RGB pictures of a DSEC sequence and their times, as they lie on the disk."""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossspec_ros.errors import CrossSpecError

_DSEC_NAME = re.compile(r'\d{6}')
_FEW = 0.1
_FRACTION = re.compile(r'[^\d\s,+-]')                          # a point, an exponent, nan, inf


@dataclass(frozen=True)
class Picture:
    """One image file; ``stamp_us`` is the middle of its exposure, ``ready_us`` the end of it."""

    path: Path
    stamp_us: int
    ready_us: int


def read_pictures(root: Path) -> tuple[list[Picture], list[str]]:
    """The pictures in the order of their times, and a line for each thing that was not as in DSEC.

    Hidden files are left out, names are in the order of their numbers, times are in us whatever they came in, pictures
    without a time and times without a picture are left out by their numbers. Raises CrossSpecError naming the file
    when pictures or times are missing, or which belong together cannot be known.
    """
    folder = root / 'images' / 'left' / 'rectified'
    if not folder.is_dir():
        raise CrossSpecError(f'images {folder} are missing; unpack the left rectified images of the sequence there')
    found: list[str] = []
    files = _files(folder, found)
    times_path = _first_of(root / 'images', ('timestamps.txt', '*image_timestamps.txt'))
    table, unit = _table(times_path, 1, found)
    stamps = table[:, 0]
    files, lines = _matched(folder, files, times_path, len(stamps), found)
    ready = _ready(root / 'images' / 'left', stamps, unit, found)
    order = _rising(stamps[lines], times_path, found)
    return [Picture(files[at], int(stamps[lines[at]]), int(ready[lines[at]])) for at in order], found


def _natural(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r'\d+', path.stem)], path.name


def _files(folder: Path, found: list[str]) -> list[Path]:
    everything = [path for path in folder.iterdir() if path.suffix.lower() == '.png']
    files = sorted((path for path in everything if not path.name.startswith('.')), key=_natural)
    if not files:
        raise CrossSpecError(f'images {folder} holds no *.png; unpack the left rectified images of the sequence there')
    if hidden := len(everything) - len(files):
        found.append(f'{folder}: {hidden} hidden files (._*.png and the like) are left out')
    if files != sorted(files, key=lambda path: path.name):
        found.append(f'{folder}: {len(files)} pictures are taken in the order of their numbers '
                     f'({files[0].name} ... {files[-1].name})')
    return files


def _matched(folder: Path, files: list[Path], times_path: Path, times: int,
             found: list[str]) -> tuple[list[Path], np.ndarray]:
    """Pictures that have a time, and the index of the time of each."""
    if len(files) == times:
        return files, np.arange(times)
    numbers = [int(path.stem) if path.stem.isdecimal() else -1 for path in files]
    counts = f'{len(files)} pictures but {times} times in {times_path.name}'
    dsec_names = all(_DSEC_NAME.fullmatch(path.stem) for path in files)
    if min(numbers) == 1 and max(numbers) == times and not dsec_names:
        numbers = [number - 1 for number in numbers]
    elif min(numbers) != 0 and not dsec_names or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise CrossSpecError(f'images {folder}: {counts}, and their names do not say which belong together; '
                             'some files are missing, unpack them again')
    kept = [at for at, number in enumerate(numbers) if number < times]
    if not kept:
        raise CrossSpecError(f'images {folder}: {counts}, and no picture has a number below {times}; unpack them again')
    found.append(f'{folder}: {counts}; {len(kept)} pictures are taken by their numbers, {len(files) - len(kept)} have '
                 f'no time, {times - len(kept)} times have no picture')
    return [files[at] for at in kept], np.array([numbers[at] for at in kept])


def _rising(stamps: np.ndarray, path: Path, found: list[str]) -> list[int]:
    """Indices in the order of time, none twice."""
    order = np.argsort(stamps, kind='stable')
    again = np.flatnonzero(np.diff(stamps[order]) == 0) + 1
    back = int(np.count_nonzero(np.diff(stamps) < 0))
    if len(again) > _FEW * len(stamps):
        raise CrossSpecError(f'{path}: times must rise, {len(again)} of {len(stamps)} are the same as the one before')
    if back or len(again):
        found.append(f'{path}: times go back {back} times and stand still {len(again)} times: pictures are taken in '
                     f'the order of time, {len(again)} with the time of another left out')
    return np.delete(order, again).tolist()


def _ready(folder: Path, stamps: np.ndarray, unit: float, found: list[str]) -> np.ndarray:
    """When each picture was whole, us: the end of its exposure, where there is a table of those."""
    path = _find(folder, ('exposure_timestamps.txt', '*exposure_timestamps*.txt'))
    if path is None:
        return stamps
    table, _ = _table(path, 2, [], unit)
    if len(table) != len(stamps):
        found.append(f'{path}: {len(table)} exposures but {len(stamps)} times: exposures are not used')
        return stamps
    late = np.count_nonzero(np.abs(table[:, 1] - stamps) > 1_000_000)
    if late:
        found.append(f'{path}: {late} of {len(table)} exposures end more than 1 s from their pictures\' times: '
                     'exposures are not used')
        return stamps
    return np.maximum(table[:, 1], stamps)


def _find(folder: Path, patterns: Sequence[str]) -> Path | None:
    return next((path for pattern in patterns for path in sorted(folder.glob(pattern))
                 if not path.name.startswith('.')), None)


def _first_of(folder: Path, patterns: Sequence[str]) -> Path:
    path = _find(folder, patterns)
    if path is None:
        raise CrossSpecError(f'{folder / patterns[0]} is missing; unpack the image timestamps of the sequence there')
    return path


def _table(path: Path, columns: int, found: list[str], unit: float | None = None) -> tuple[np.ndarray, float]:
    """(int64 us (N, columns), us a number) of a file of numbers in lines, separated by commas; # begins a heading.

    The unit is told by the step between two times: cameras send 1 to 500 pictures a second.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
        # Told by the text: NumPy before 2.3 takes the fraction of a number for nothing where whole ones are asked for.
        whole = not any(_FRACTION.search(line.split('#')[0]) for line in lines)
        table = np.loadtxt(lines, np.int64 if whole else np.float64, comments='#', delimiter=',', ndmin=2)
        if not np.isfinite(table).all():
            raise ValueError('a number is not finite')
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise CrossSpecError(f'{path} must hold {columns} whole number(s) a line, us; {error}') from error
    if table.size and table.shape[1] != columns:
        raise CrossSpecError(f'{path} must hold {columns} whole number(s) a line, us; got {table.shape[1]}')
    table = table.reshape(-1, columns)
    steps = np.abs(np.diff(table[:, 0]))
    if unit is None:
        step = float(np.median(steps[steps > 0])) if np.any(steps > 0) else 50_000.0
        name, unit = next((name, us) for name, low, us in
                          (('ns', 2e6, 1e-3), ('us', 2e3, 1.0), ('ms', 1.99, 1e3), ('s', 0.0, 1e6)) if step >= low)
        if name != 'us':
            found.append(f'{path}: its {len(table)} times are in {name}, not us')
    if unit == 1e-3 and table.dtype == np.int64:
        return table // 1000, unit
    return (table if unit == 1.0 and table.dtype == np.int64 else np.rint(table * unit).astype(np.int64)), unit
