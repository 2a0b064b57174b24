"""Clips of the driving world on disk: made by worker processes, read through memory maps.

A shard is one drive (one world seed): three files, each written whole or not at all, the text last, so that an
interrupted generation goes on where it stopped and training may begin while shards are still being made. Letters: N
clips, F frames, H, W pixels, C bins, L looks at the events.
"""
from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.representations import voxel_grid
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.world import EVALUATION_SEED, QUESTIONS, SLOTS, World, answers

_LOG = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
EARLY, FINAL = 0, 1        # looks at a window's events


@dataclass(frozen=True)
class DataConfig:
    """``drives`` worlds from seed ``first_seed``, ``clips_per_drive`` windows of one second each, ``stride_s`` apart.

    The events of a window are looked at twice, as the live drafter does: ``lead_s`` before the window's end, and at it.
    """

    drives: int
    first_seed: int = 0
    clips_per_drive: int = 24
    width: int = 320
    height: int = 240
    event_hz: int = 100
    image_size: int = 112
    bins: int = 5
    grid: int = 96
    pace: str = 'brisk'
    stride_s: int = 1
    lead_s: float = 0.125

    def __post_init__(self) -> None:
        for name in ('drives', 'clips_per_drive', 'stride_s'):
            if getattr(self, name) < 1:
                raise CrossSpecError(f'{name} must be >= 1, got {getattr(self, name)}')
        if not 0 <= self.lead_s <= 1:
            raise CrossSpecError(f'lead_s must be 0 to 1, got {self.lead_s}')
        if self.first_seed < EVALUATION_SEED < self.first_seed + self.drives:
            raise CrossSpecError(f'seeds {self.first_seed} to {self.first_seed + self.drives - 1} cross '
                                 f'{EVALUATION_SEED}, where the seeds of evaluation begin')

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.drives)


def resize_frames(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(F, H, W, 3) -> (F, size, size, 3), bicubic with antialiasing as the checkpoint's image processor resizes."""
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))
                     for frame in frames])


def _save_array(path: Path, array: np.ndarray) -> None:
    def write(target: Path) -> None:
        with target.open('wb') as handle:
            np.save(handle, array)
    write_atomic(path, write)


def make_shard(folder: Path, config: DataConfig, seed: int) -> Path:
    """Render one drive into ``folder``; returns the text file, which is written last."""
    text_path = folder / f'{seed:08d}.jsonl'
    if text_path.is_file():
        return text_path
    world = World(seed, config.width, config.height, event_hz=config.event_hz, pace=config.pace)
    frames, voxels, lines = [], [], []
    for number in range(config.clips_per_drive):
        # what is before the first window is there too
        second = 2 + number * config.stride_s
        clip, truth = world.clip(float(second), before_s=config.lead_s), world.truth(float(second))
        frames.append(resize_frames(clip.frames, config.image_size))
        ends_ns = (second * _SECOND_NS - round(config.lead_s * _SECOND_NS), second * _SECOND_NS)
        voxels.append(np.stack([voxel_grid(clip.events, end_ns - _SECOND_NS, end_ns, bins=config.bins,
                                           shape=(config.grid, config.grid)) for end_ns in ends_ns]).astype(np.float16))
        boxes = [[box.name, box.colour, *(round(v / s, 4) for v, s in zip(
            box.box, (config.width, config.height) * 2, strict=True))] for box in truth.boxes]
        lines.append(json.dumps({'slots': clip.slots, 'boxes': boxes}))
    _save_array(folder / f'{seed:08d}.frames.npy', np.stack(frames))
    _save_array(folder / f'{seed:08d}.voxels.npy', np.stack(voxels))
    write_atomic(text_path, lambda target: target.write_text('\n'.join(lines) + '\n', encoding='utf-8'))
    return text_path


def _worker(task: tuple[Path, DataConfig, int]) -> Path:
    return make_shard(*task)


def _quiet(niceness: int) -> None:
    os.nice(niceness)


def make_dataset(folder: Path, config: DataConfig, workers: int = 2, niceness: int = 0) -> Iterator[Path]:
    """Make the missing shards of ``config`` in ``folder``; yields each as it is done.

    Raises CrossSpecError where the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [(folder, config, seed) for seed in config.seeds]
    if workers <= 1:
        yield from map(_worker, tasks)
        return
    with multiprocessing.get_context('spawn').Pool(workers, _quiet, (niceness,)) as pool:
        yield from pool.imap_unordered(_worker, tasks)


@dataclass(frozen=True)
class SlotTable:
    """Slots and their values in a fixed order; a label is the index of a value."""

    values: dict[str, tuple[str, ...]]

    def labels(self, slots: dict[str, str]) -> list[int]:
        return [values.index(slots[name]) for name, values in self.values.items()]


class ClipData:
    """All complete shards of some folders as one indexable set; rows keep their order as shards are added by seed.

    ``labels`` int64 (N, slots), ``answers`` the text of every question a clip, ``slots_of`` the truth.
    """

    slots = SlotTable(SLOTS)
    questions: tuple[str, ...] = QUESTIONS

    def __init__(self, folder: Path, seeds: Sequence[int] | None = None) -> None:
        texts = sorted(folder.glob('*.jsonl'))
        if seeds is not None:
            texts = [path for path in texts if int(path.stem) in set(seeds)]
        if not texts:
            raise CrossSpecError(f'no clips in {folder}: make them with `crossspec train pair --stage data`')
        self._frames: list[np.ndarray] = []
        self._voxels: list[np.ndarray] = []
        where: list[tuple[int, int]] = []
        self.truth: list[dict[str, str]] = []
        self.answers: list[dict[str, str]] = []
        self.boxes: list[list[list[object]]] = []
        self.seeds: list[int] = []
        for number, path in enumerate(texts):
            rows = self._open(path)
            where += [(number, row) for row in range(len(rows))]
            self.seeds += [int(path.stem)] * len(rows)
            for row in rows:
                self.truth.append(row['slots'])
                self.answers.append(answers(row['slots']))
                self.boxes.append(row['boxes'])
        self._where = np.array(where)
        self.labels = np.array([self.slots.labels(slots) for slots in self.truth], np.int64)

    def _open(self, path: Path) -> list[dict[str, object]]:
        try:
            rows = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
            self._frames.append(np.load(path.with_suffix('.frames.npy'), mmap_mode='r'))
            self._voxels.append(np.load(path.with_suffix('.voxels.npy'), mmap_mode='r'))
        except (OSError, ValueError) as error:
            raise CrossSpecError(f'the shard {path.stem} in {path.parent} is broken ({error}): delete its files and '
                                 f'make it again') from error
        return rows

    def __len__(self) -> int:
        return len(self._where)

    def frames(self, rows: Sequence[int], times: Sequence[int] | slice = slice(None)) -> NDArray[np.uint8]:
        """(len(rows), F, H, W, 3) of the frames ``times``."""
        return np.stack([self._frames[shard][row][times] for shard, row in self._where[np.asarray(rows)]])

    def voxels(self, rows: Sequence[int], looks: Sequence[int]) -> NDArray[np.float16]:
        """(len(rows), C, H, W); ``looks`` says for each row which look at its events (EARLY or FINAL)."""
        return np.stack([self._voxels[shard][row, look]
                         for (shard, row), look in zip(self._where[np.asarray(rows)], looks, strict=True)])
