"""Windows with the verifier's answers and what a drafter sees of them, on disk: parts that are whole or not there.

A part is a few windows of one drive in the order of time: looks in one file, states in one where heads learn from them,
all else in another that is written last.
Letters: N windows, P prompts, L looks (early, final), C bins, H, W cells, T tokens of an answer, K likely tokens, S
states of a token, D their width.
"""
from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.settings import LearnConfig
from crossspec_ros.learn.sources import keeps_states
from crossspec_ros.models.writing import write_atomic

VERSION = 1
EARLY, FINAL = 0, 1
_ANSWER_BYTES = 80               # a token with eight likely ones


@dataclass(frozen=True, eq=False)
class Answer:
    """``token_ids`` int32 (T,), the end token included where the verifier ended the answer; ``likely`` int32 (T, K) the
    best tokens of each place, best first, ``log_probs`` float16 (T, K); ``states`` float16 (T, S, D) from which each
    was said, where they were asked for."""

    token_ids: NDArray[np.int32]
    likely: NDArray[np.int32]
    log_probs: NDArray[np.float16]
    states: NDArray[np.float16] | Stored | None = None


class Stored:
    """A piece of an array on disk, read when it is asked for: hours of drive have more parts than a process may hold
    open, and more than fits into memory."""

    def __init__(self, path: Path, piece: int | slice) -> None:
        self._path, self._piece = path, piece

    def __getitem__(self, key: object) -> NDArray[np.float16]:
        """A part of the piece."""
        return np.array(np.load(self._path, mmap_mode='r')[self._piece][key])

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.float16]:
        return np.asarray(self[...], dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the piece."""
        return np.load(self._path, mmap_mode='r')[self._piece].shape


@dataclass(frozen=True, eq=False)
class Learned:
    """One window: ``voxels`` float16 (L, C, H, W), an answer a prompt, ``jpeg`` of its newest frame where it is kept.
    """

    window_id: int
    end_ns: int
    voxels: NDArray[np.float16] | Stored
    answers: tuple[Answer, ...]
    jpeg: bytes = b''


class Store:
    """Parts of all drives in a folder. ``keys`` name the verifier; raises CrossSpecError as `open_store` tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def drive(self, number: int) -> Path:
        """Folder of one drive's parts."""
        return self.folder / f'drive-{number:03d}'

    def add(self, drive: int, windows: Sequence[Learned]) -> None:
        """Write a part. Raises CrossSpecError where the disk is full; parts of before stay."""
        folder = self.drive(drive)
        name = f'{windows[0].window_id:020d}'
        voxels = np.stack([window.voxels for window in windows])
        write_atomic(folder / f'{name}.looks.npy', lambda path: _save(path, voxels))
        if windows[0].answers[0].states is not None:
            states = np.concatenate([answer.states for window in windows for answer in window.answers])
            write_atomic(folder / f'{name}.states.npy', lambda path: _save(path, states))
        write_atomic(folder / f'{name}.npz', lambda path: _save_answers(path, windows))

    def parts(self, drive: int) -> list[Path]:
        """A drive's complete parts, oldest first."""
        return sorted(self.drive(drive).glob('*.npz'))

    def last(self, drive: int) -> int | None:
        """The newest window that is there; None where none is."""
        parts = self.parts(drive)
        return int(_load(parts[-1])['window_ids'][-1]) if parts else None

    def note(self, name: str, values: Any) -> None:
        """Keep values as JSON beside the parts."""
        write_atomic(self.folder / f'{name}.json',
                     lambda path: path.write_text(json.dumps(values, indent=1) + '\n', encoding='utf-8'))

    def noted(self, name: str) -> Any:
        """What `note` kept; None where it did not. Raises CrossSpecError where it cannot be read."""
        path = self.folder / f'{name}.json'
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise CrossSpecError(f'{path} cannot be read ({error}): remove {self.folder} and answer again') from error

    def size_mb(self) -> float:
        """What it takes on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob('*') if path.is_file()) / 1e6


def _save(path: Path, array: np.ndarray) -> None:
    with path.open('wb') as file:
        np.save(file, array)


def _save_answers(path: Path, windows: Sequence[Learned]) -> None:
    answers = [answer for window in windows for answer in window.answers]
    values = {'window_ids': [window.window_id for window in windows], 'end_ns': [window.end_ns for window in windows],
              'lengths': [len(answer.token_ids) for answer in answers],
              'token_ids': np.concatenate([answer.token_ids for answer in answers]),
              'likely': np.concatenate([answer.likely for answer in answers]),
              'log_probs': np.concatenate([answer.log_probs for answer in answers]),
              'jpeg_bytes': [len(window.jpeg) for window in windows], 'stated': answers[0].states is not None,
              'jpegs': np.frombuffer(b''.join(window.jpeg for window in windows), np.uint8)}
    with path.open('wb') as file:
        np.savez(file, **values)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CrossSpecError(f'cannot read the answers {path} ({error}): remove that file and go on with --resume'
                             ) from error


def count_part(path: Path) -> int:
    """Windows of a part."""
    return len(_load(path)['window_ids'])


def read_part(path: Path) -> list[Learned]:
    """The windows of a part. Raises CrossSpecError where it is broken."""
    part = _load(path)
    looks_path, states_path = path.with_suffix('.looks.npy'), path.with_suffix('.states.npy')
    try:
        count = len(part['window_ids'])
        prompts, ends = len(part['lengths']) // count, np.cumsum(part['lengths'])
        jpeg_ends = np.cumsum(part['jpeg_bytes'])
        looks = len(np.load(looks_path, mmap_mode='r'))
        if looks != count:
            raise ValueError(f'{looks} looks of {count} windows')
        states = states_path if part.get('stated') else None
        if states is not None and (found := len(np.load(states, mmap_mode='r'))) != ends[-1]:
            raise ValueError(f'states of {found} tokens for {ends[-1]}')
        windows = []
        for row in range(count):
            places = range(row * prompts, (row + 1) * prompts)
            answers = tuple(_answer(part, states, slice(ends[place] - part['lengths'][place], ends[place]))
                            for place in places)
            jpeg = part['jpegs'][jpeg_ends[row] - part['jpeg_bytes'][row]:jpeg_ends[row]].tobytes()
            windows.append(Learned(int(part['window_ids'][row]), int(part['end_ns'][row]),
                                   Stored(looks_path, row), answers, jpeg))
        return windows
    except (OSError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        raise CrossSpecError(f'cannot read the part {path} ({error}): remove it and {path.stem}.*.npy, and go on with '
                             '--resume') from error


def _answer(part: dict[str, np.ndarray], states: Path | None, piece: slice) -> Answer:
    return Answer(part['token_ids'][piece], part['likely'][piece], part['log_probs'][piece],
                  None if states is None else Stored(states, piece))


def needed_mb(config: LearnConfig, windows: int, look_bytes: int, state_bytes: int = 0) -> float:
    """What answers and looks of so many windows take at most; ``state_bytes``: of a token's states."""
    tokens = config.max_new_tokens * len(config.prompts)
    return windows * (look_bytes + tokens * (_ANSWER_BYTES + state_bytes)) / 1e6


def open_store(config: LearnConfig, keys: dict[str, Any], most_mb: float, layers: Sequence[int] = ()) -> Store:
    """The folder of a run, new or gone on with; up to ``most_mb`` (`needed_mb`) are to come into it, with states of
    these ``layers``.

    Raises CrossSpecError where a folder of an earlier run is there and is not to be gone on with, where it is of
    another verifier, other prompts or other drives, and where there is no room.
    """
    store, wanted = Store(config.work / 'answers'), {'version': VERSION, **keys, **config.settled()}
    wanted |= {'layers': list(layers)} if layers else {}
    found = store.noted('run')
    if found is None:
        if store.folder.is_dir() and any(store.folder.iterdir()):
            raise CrossSpecError(f'{store.folder} holds files of something else: remove it, or name another --out')
        _check_room(config, most_mb)
        store.note('run', wanted)
        return store
    if not config.resume:
        raise CrossSpecError(f'{config.work} holds the answers of an earlier run: go on with --resume, or remove it')
    if found.get('version') != VERSION:
        raise CrossSpecError(f'{config.work} is of another version of crossspec_ros: remove it and start again')
    for name, value in wanted.items():
        if found.get(name) != value:
            what = 'the answers are those of another verifier' if name in keys else f'it was begun with another {name}'
            raise CrossSpecError(f'{config.work} cannot be gone on with: {what} ({found.get(name)!r}, now {value!r}); '
                                 'name what it was begun with, or another --out')
    return store


def _check_room(config: LearnConfig, most_mb: float) -> None:
    takes = f'answers{", states" if keeps_states(config.sources) else ""} and looks would take up to {most_mb:.0f} MB'
    if most_mb > config.disk_mb:
        raise CrossSpecError(f'{takes}, more than --disk-mb {config.disk_mb}: raise it, or learn from fewer with '
                             '--slide 8, --seconds or --max-new-tokens')
    parent = next(path for path in (config.work, *config.work.absolute().parents) if path.is_dir())
    free_mb = shutil.disk_usage(parent).free / 1e6
    if most_mb > free_mb:
        raise CrossSpecError(f'{takes}, the disk that holds {config.work} has {free_mb:.0f}: free some space or name '
                             'another --out')
