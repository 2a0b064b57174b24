"""What heads learn from: a verifier's answers with the states from which it said each token, on disk.

A file a drive, each whole or not there, so that an interrupted collection goes on where it stopped. Letters: T tokens
of an answer, K states of a token, D their width.
"""
from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads.recording import AnswerRecorder, StatedAnswer, as_stored
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Draft, prompt_key
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.world import QUESTIONS, World

FIRST_SEED = 700_000               # of the drives of the driving world; those of the pair begin far below
_DRIVE_WINDOWS = 24
_OTHERS_EVERY = 3                  # windows for each of which one of the other questions is asked too
_CALM_STRIDE_S = 3


@dataclass(frozen=True)
class Stated:
    """An answer: ``token_ids`` int64 (T,), ``states`` float16 (T, K, D)."""

    token_ids: NDArray[np.int64]
    states: NDArray[np.float16]


@dataclass(frozen=True)
class Asked:
    """A window's frames, oldest first, and a question about them; ``guess`` is a likely answer, which saves time."""

    frames: Sequence[np.ndarray]
    prompt: str
    guess: str = ''


def collect_states(target: TransformersTarget, layers: Sequence[int], drives: Iterable[tuple[str, Iterable[Asked]]],
                   folder: Path, max_new_tokens: int = 96) -> Iterator[tuple[str, int]]:
    """Answer the windows of ``drives`` (name, windows) into ``folder``, a file a drive; yields (name, answers).

    Drives whose file is there are not answered again; one whose file is of another verifier or of other layers is
    refused with `CrossSpecError`, as are bad frames and a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key, numbers = _key(f'{target.model_key} {target.dtype}', layers), count()
    recorder = AnswerRecorder(target, layers, EngineConfig(max_new_tokens=max_new_tokens))
    for name, windows in drives:
        path = folder / f'{name}.npz'
        if path.is_file():
            yield name, len(_read(path, key))
            continue
        answers = [_answered(recorder, next(numbers), asked) for asked in windows]
        write_atomic(path, lambda made: _save(made, key, answers))
        yield name, len(answers)


def _answered(recorder: AnswerRecorder, window_id: int, asked: Asked) -> StatedAnswer:
    draft = Draft(window_id, 0, 0, prompt_key(asked.prompt), '', asked.guess, (), source='guess')
    return recorder.record(window_id, asked.frames, asked.prompt, [draft] if asked.guess else [])


def read_states(target: TransformersTarget, layers: Sequence[int], folder: Path) -> list[Stated]:
    """All answers that `collect_states` left there. Raises `CrossSpecError` where there are none, or broken ones."""
    paths = sorted(folder.glob('*.npz'))
    if not paths:
        raise CrossSpecError(f'no answers with states in {folder}: collect them first')
    key = _key(f'{target.model_key} {target.dtype}', layers)
    return [answer for path in paths for answer in _read(path, key)]


def said_ids(answers: Iterable[Stated]) -> list[int]:
    """The tokens that occur in answers, in the order of their ids: all that a head need be able to say."""
    return sorted({int(token) for answer in answers for token in answer.token_ids})


def world_drives(windows: int, seed: int = 0) -> Iterator[tuple[str, Iterator[Asked]]]:
    """Drives of the driving world, brisk and calm in turn, ``windows`` windows together; seeds not used elsewhere."""
    for drive in range(-(-windows // _DRIVE_WINDOWS)):
        world_seed = FIRST_SEED + 1000 * seed + drive
        pace = 'calm' if drive % 2 else 'brisk'
        yield f'{pace}_{world_seed}', _asked(World(world_seed, pace=pace), _CALM_STRIDE_S if drive % 2 else 1,
                                             min(_DRIVE_WINDOWS, windows - drive * _DRIVE_WINDOWS))


def _asked(world: World, stride_s: int, windows: int) -> Iterator[Asked]:
    describe, *others = QUESTIONS
    for number in range(windows):
        end_s = 2.0 + number * stride_s
        frames, truth = list(world.frames(end_s)[0]), world.truth(end_s).answers
        yield Asked(frames, describe, f' {truth[describe]}')
        if number % _OTHERS_EVERY == 0:
            other = others[number // _OTHERS_EVERY % len(others)]
            yield Asked(frames, other, f' {truth[other]}')


def _key(model_key: str, layers: Sequence[int]) -> str:
    return f'{model_key} {",".join(map(str, layers))}'


def _save(path: Path, key: str, answers: Sequence[StatedAnswer]) -> None:
    with path.open('wb') as handle:
        np.savez(handle, key=key, lengths=[len(answer.token_ids) for answer in answers],
                 token_ids=np.concatenate([answer.token_ids for answer in answers]).astype(np.int32),
                 states=np.concatenate([as_stored(answer.states) for answer in answers]))


def _read(path: Path, key: str) -> list[Stated]:
    try:
        with np.load(path) as stored:
            found, lengths = str(stored['key']), stored['lengths']
            token_ids, states = stored['token_ids'].astype(np.int64), stored['states']
        ends = np.cumsum(lengths)
        if len(token_ids) != ends[-1] or len(states) != ends[-1]:
            raise ValueError('tokens and states do not go together')
    except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise CrossSpecError(f'cannot read the answers with states {path} ({error}): delete the file and collect them '
                             'again') from error
    if found != key:
        raise CrossSpecError(f'{path} must be of the verifier and layers {key}, got {found}: use another folder')
    return [Stated(token_ids[end - length:end], states[end - length:end]) for end, length in zip(ends, lengths)]
