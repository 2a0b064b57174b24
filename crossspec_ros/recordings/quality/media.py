"""References to frames and events of a clip: cheap to hold, read when they are asked for.

Frames come as ``count`` pictures uint8 (H, W, 3) RGB, oldest first, evenly over the clip, its first and last among
them; a clip of fewer pictures repeats some.
"""
from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events
from crossspec_ros.events.types import Events
from crossspec_ros.frames.compressed import unpack_compressed

VIDEOS = ('.mp4', '.avi', '.webm', '.mkv', '.mov')
PICTURES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp')
EVENTS = ('.npz', '.npy', '.h5', '.hdf5', '.raw', '.dat', '.aedat4')
_LONG_S = 30.0
_TINY_S = 1e-4                   # times of pictures are rounded


class FrameReference(Protocol):
    """Frames of a clip."""

    def frames(self, count: int) -> list[np.ndarray]:
        """See the module. Raises CrossSpecError naming the file that cannot be read."""


class EventReference(Protocol):
    """Events of a clip."""

    def events(self) -> Events:
        """Events in the order of time. Raises CrossSpecError naming the file that cannot be read."""


def spread(length: int, count: int) -> list[int]:
    """``count`` indices evenly over ``length``, first and last among them (the last alone where count is 1)."""
    return [length - 1] if count == 1 else [round(at) for at in np.linspace(0, length - 1, count)]


@dataclass(frozen=True)
class PictureFiles:
    """Picture files in the order of time."""

    files: tuple[Path, ...]

    def frames(self, count: int) -> list[np.ndarray]:
        """See the module."""
        chosen = [self.files[at] for at in spread(len(self.files), count)]
        read = {path: _read_picture(path) for path in dict.fromkeys(chosen)}
        return [read[path] for path in chosen]


def _read_picture(path: Path) -> np.ndarray:
    try:
        pixels = unpack_compressed(path.suffix[1:], path.read_bytes())
    except OSError as error:
        raise CrossSpecError(f'picture {path} cannot be read: {error.strerror}') from error
    except CrossSpecError as error:
        raise CrossSpecError(f'picture {path}: {error}') from error
    if pixels.dtype != np.uint8:
        raise CrossSpecError(f'picture {path} must have 8 bits a channel, got {pixels.dtype}')
    return pixels


@dataclass(frozen=True)
class Film:
    """A video, or the part of it from ``start_s`` to ``end_s`` after its first picture (None: its start, its end)."""

    path: Path
    start_s: float | None = None
    end_s: float | None = None

    def frames(self, count: int) -> list[np.ndarray]:
        """See the module. Of a part of more than half a minute only the pictures around those times are decoded."""
        length_s = self._length_s()
        if length_s is not None and length_s > _LONG_S:
            return [self._at((self.start_s or 0.0) + length_s * share) for share in np.linspace(0.0, 1.0, count)]
        chosen = spread(self._length(), count)
        found = {number: picture.to_ndarray(format='rgb24')
                 for number, (_, picture) in enumerate(self._decoded()) if number in chosen}
        return [found[number] for number in chosen]

    def _length_s(self) -> float | None:
        """From the part's start to its last picture, as far as the file tells."""
        import av                       # only where a film is asked for
        with self._opened() as film:
            stream = film.streams.video[0]
            if stream.duration is None or not stream.average_rate:
                return None if film.duration is None else self._of(film.duration / av.time_base)
            return self._of(float(stream.duration * stream.time_base - 1 / stream.average_rate))

    def _of(self, whole_s: float) -> float:
        return min(whole_s, whole_s if self.end_s is None else self.end_s) - (self.start_s or 0.0)

    def _length(self) -> int:
        length = sum(1 for _ in self._decoded())
        return length or self._nothing()

    def _nothing(self) -> int:
        raise CrossSpecError(f'video {self.path} has no picture from {self.start_s or 0:g} s to '
                             f'{"its end" if self.end_s is None else f"{self.end_s:g} s"}; is it whole?')

    def _at(self, at_s: float) -> np.ndarray:
        """The picture that is seen at a time."""
        seen = None
        for picture_s, picture in Film(self.path, max(0.0, at_s - 1.0))._decoded():
            if seen is not None and picture_s is not None and picture_s > at_s + _TINY_S:
                break
            seen = picture
        return self._nothing() if seen is None else seen.to_ndarray(format='rgb24')

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        import av
        try:
            with av.open(str(self.path)) as film:
                yield film
        except (av.FFmpegError, IndexError, OSError) as error:
            raise CrossSpecError(f'video {self.path} cannot be read ({error}); copy it again') from error

    def _decoded(self) -> Iterator[tuple[float | None, Any]]:
        """Time after the first picture in s, where the file tells it, and picture."""
        with self._opened() as film:
            first_us = film.start_time or 0             # many files do not begin at 0
            if self.start_s:
                film.seek(first_us + round(self.start_s * 1e6), backward=True)
            for picture in film.decode(video=0):
                at_s = None if picture.time is None else picture.time - first_us / 1e6
                if at_s is not None and self.end_s is not None and at_s > self.end_s + _TINY_S:
                    return
                if at_s is None or at_s >= (self.start_s or 0.0) - _TINY_S:
                    yield at_s, picture


@dataclass(frozen=True)
class Hdf5Clip:
    """Pictures ``first`` up to ``stop`` and events of [``start_ns``, ``stop_ns``) of an MVSEC or M3ED file."""

    path: Path
    first: int
    stop: int
    start_ns: int
    stop_ns: int

    def frames(self, count: int) -> list[np.ndarray]:
        """See the module."""
        from crossspec_ros.recordings.event_files.hdf5 import Hdf5File
        file = Hdf5File(self.path)
        try:
            return [file.picture(self.first + at) for at in spread(self.stop - self.first, count)]
        finally:
            file.close()

    def events(self) -> Events:
        """Events in the order of time."""
        from crossspec_ros.recordings.event_files.hdf5 import Hdf5File
        file = Hdf5File(self.path)
        try:
            return file.between(self.start_ns, self.stop_ns)
        finally:
            file.close()


@dataclass(frozen=True)
class DsecEvents:
    """Events of [``start_us``, ``stop_us``) of a DSEC sequence, us of the pictures' clock; ``pictures_us``: the first
    and last time of its pictures."""

    path: Path
    start_us: int
    stop_us: int
    pictures_us: tuple[int, int]

    def events(self) -> Events:
        """Events in the order of time."""
        from crossspec_ros.recordings.dsec import EventFile
        with EventFile(self.path, self.pictures_us) as file:
            parts = list(file.events(self.start_us, self.stop_us))
            return join_events(parts) if parts else Events.empty(file.width, file.height)


@dataclass(frozen=True)
class EventsFile:
    """All events of a file: NumPy's (``x``, ``y``, ``t`` in us, ``p``), or one that ``crossspec events`` reads."""

    path: Path

    def events(self) -> Events:
        """Events in the order of time."""
        if self.path.suffix in ('.npz', '.npy'):
            return _numpy_events(self.path)
        from crossspec_ros.recordings.event_files.opening import open_event_file
        file = open_event_file(self.path)
        try:
            return join_events([piece.events for piece in file.pieces()])
        finally:
            file.close()


def _numpy_events(path: Path) -> Events:
    try:
        loaded = np.load(path)
        columns = {name: np.asarray(loaded[name]).reshape(-1) for name in 'txyp'}
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise CrossSpecError(f'events {path} must hold arrays t, x, y and p without pickled objects ({error}); save '
                             'them with numpy.savez') from error
    order = np.argsort(columns['t'], kind='stable')
    t, x, y, p = (columns[name][order] for name in 'txyp')
    return Events((t.astype(np.float64) * 1000).astype(np.int64) if t.dtype.kind == 'f' else t.astype(np.int64) * 1000,
                  x.astype(np.uint16), y.astype(np.uint16), (p > 0).astype(np.uint8),
                  int(x.max(initial=-1)) + 1, int(y.max(initial=-1)) + 1)
