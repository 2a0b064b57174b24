"""A sequence in the layout of DSEC from the synthetic world, for trying the converter where no DSEC can be had.

Both sensors of the world look from one place: the calibration says so (no baseline), the RGB pictures are the world's
enlarged to 1440x1080. Events are the world's, or windows of real events in a row.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import h5py
import hdf5plugin
import numpy as np
import yaml

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.dsec_columns import DSEC_SENSOR
from crossspec_ros.world import World

WIDTH, HEIGHT = DSEC_SENSOR
RGB_WIDTH, RGB_HEIGHT = 1440, 1080
T_OFFSET_US = 51_835_949_776
_EXPOSURE_US = 4_000
Columns = dict[str, np.ndarray]


def make_sequence(root: str | Path, *, seed: int = 1_000_000, seconds: float = 5.0, windows: Sequence[Path] = (),
                  advance: Callable[[float], None] = lambda seconds: None) -> None:
    """Write ``seconds`` of the world of ``seed`` as a DSEC sequence.

    ``windows`` are .npz files of real events (x, y, t in us, p): they are repeated one after another instead of the
    world's events. Raises CrossSpecError when ``root`` exists or ``seconds`` is not above 0.
    """
    root = Path(root)
    if root.exists():
        raise CrossSpecError(f'{root} exists; choose another name or remove it first')
    if not seconds > 0:
        raise CrossSpecError(f'seconds must be > 0, got {seconds}')
    for folder in ('events/left', 'images/left/rectified', 'calibration'):
        (root / folder).mkdir(parents=True)
    stamps: list[int] = []
    with _EventWriter(root / 'events' / 'left' / 'events.h5') as events:
        for columns in _repeated(windows, seconds) if windows else ():
            events.add(columns)
        for stamp_ns, kind, payload in World(seed, width=WIDTH, height=HEIGHT).stream(0.0, seconds):
            if kind == 'image':
                _write_picture(root / 'images' / 'left' / 'rectified' / f'{len(stamps):06d}.png', payload)
                stamps.append(T_OFFSET_US + stamp_ns // 1000)
            elif not windows and len(payload):
                events.add({'t': payload.t_ns // 1000, 'x': payload.x, 'y': payload.y, 'p': payload.p})
            if kind == 'image':
                advance(0.05)
    _write_times(root, stamps)
    _write_calibration(root)


def _write_picture(path: Path, rgb: np.ndarray) -> None:
    large = cv2.resize(rgb, (RGB_WIDTH, RGB_HEIGHT), interpolation=cv2.INTER_LINEAR)
    if not cv2.imwrite(str(path), cv2.cvtColor(large, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_PNG_COMPRESSION, 1)):
        raise CrossSpecError(f'image {path} cannot be written: is the disk full?')


def _write_times(root: Path, stamps: Sequence[int]) -> None:
    (root / 'images' / 'timestamps.txt').write_text(''.join(f'{stamp}\n' for stamp in stamps), 'utf-8')
    half = _EXPOSURE_US // 2
    lines = ''.join(f'{stamp - half}, {stamp + half}\n' for stamp in stamps)
    text = f'# exposure_start_timestamp_us, exposure_end_timestamp_us\n{lines}'
    (root / 'images' / 'left' / 'exposure_timestamps.txt').write_text(text, 'utf-8')


def _write_calibration(root: Path) -> None:
    grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).astype(np.float32)
    with h5py.File(root / 'events' / 'left' / 'rectify_map.h5', 'w') as file:
        file['rectify_map'] = grid
    scale = RGB_WIDTH / WIDTH
    event = {'camera_matrix': [553.0, 553.0, 319.5, 239.5], 'resolution': [WIDTH, HEIGHT]}
    # Pixel centres: x of the large picture is scale * (x + 0.5) - 0.5.
    rgb = {'camera_matrix': [553.0 * scale, 553.0 * scale, 320.0 * scale - 0.5, 240.0 * scale - 0.5],
           'resolution': [RGB_WIDTH, RGB_HEIGHT]}
    raw = {'distortion_coeffs': [0.0, 0.0, 0.0, 0.0], 'distortion_model': 'radtan'}
    eye = np.eye(4).tolist()
    table = {'intrinsics': {'cam0': {**event, **raw}, 'camRect0': event, 'cam1': {**rgb, **raw}, 'camRect1': rgb},
             'extrinsics': {'T_10': eye, 'R_rect0': np.eye(3).tolist(), 'R_rect1': np.eye(3).tolist()}}
    (root / 'calibration' / 'cam_to_cam.yaml').write_text(yaml.safe_dump(table), 'utf-8')


def _repeated(windows: Sequence[Path], seconds: float) -> Iterator[Columns]:
    """Windows of real events one after another, again and again, without gaps."""
    tables: list[Columns] = []
    for path in windows:
        try:
            with np.load(path) as file:
                table = {name: file[name] for name in ('t', 'x', 'y', 'p')}
        except (OSError, KeyError, ValueError) as error:
            raise CrossSpecError(f'events {path} must be an .npz with t, x, y and p; {error}') from error
        tables.append({**table, 't': table['t'] - table['t'][0]})
    begin_us = number = 0
    while begin_us < seconds * 1e6:
        table = tables[number % len(tables)]
        inside = np.searchsorted(table['t'], seconds * 1e6 - begin_us)
        yield {name: (column[:inside] + begin_us if name == 't' else column[:inside]) for name, column in table.items()}
        begin_us += int(table['t'][-1]) + 1
        number += 1


class _EventWriter:
    """events.h5 packed as DSEC's, growing chunk by chunk."""

    def __init__(self, path: Path) -> None:
        self._file = h5py.File(path, 'w')
        packing = hdf5plugin.Blosc(cname='zstd', clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE)
        self._columns = {
            name: self._file.create_dataset(f'events/{name}', (0,), dtype, maxshape=(None,), chunks=(1 << 16,),
                                            **packing)
            for name, dtype in (('t', np.uint32), ('x', np.uint16), ('y', np.uint16), ('p', np.uint8))}
        self._count = 0
        self._first_of_ms: list[int] = []

    def __enter__(self) -> _EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file['t_offset'] = np.int64(T_OFFSET_US)
        self._file['ms_to_idx'] = np.array(self._first_of_ms or [0], np.uint64)
        self._file.close()

    def add(self, columns: Columns) -> None:
        """Append events, later than all before."""
        t_us = columns['t']
        if not len(t_us):
            return
        new_ms = np.arange(len(self._first_of_ms), int(t_us[-1]) // 1000 + 1)
        self._first_of_ms += (np.searchsorted(t_us, new_ms * 1000) + self._count).tolist()
        self._count += len(t_us)
        for name, column in self._columns.items():
            column.resize((self._count,))
            column[-len(t_us):] = columns[name]
