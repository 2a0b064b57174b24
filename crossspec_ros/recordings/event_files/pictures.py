"""Pictures beside a file of events: a folder of them with their times, or a film."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.images import as_bytes
from crossspec_ros.recordings.bag import ImageFrame, rgb_frame

_SUFFIXES = {'.png': 'png', '.jpg': 'jpeg', '.jpeg': 'jpeg'}
_FILMS = ('.mp4', '.mkv', '.avi', '.mov')
_FRAME = 'camera'


class PicturesBeside:
    """Pictures (PNG, JPEG) of a folder in the order of the numbers in their names, or the pictures of a film.

    ``times`` has one a line, with or without the name of its picture: whole numbers are us, numbers with a point are
    s; lines that begin with # are headings. They are in the clock of the messages. Without it a film begins with the
    events, and the names of the pictures of a folder must be their times in us. ``dropped`` counts pictures that cannot
    be read. Raises CrossSpecError where they and their times do not fit.
    """

    def __init__(self, path: str | Path, times: str | Path | None = None) -> None:
        self.path = Path(path)
        self.dropped: Counter[str] = Counter()
        table = None if times is None else read_times(Path(times))
        self.last_ns = 0
        self._files: list[Path] = []
        self._stamps: list[int] | None = None
        if self.path.is_dir():
            self._open_folder(table, times)
        elif self.path.is_file() and self.path.suffix.lower() in _FILMS:
            self._stamps = None if table is None else [stamp for stamp, _ in table]
        else:
            raise CrossSpecError(f'pictures {path} must be a folder of PNG or JPEG files or a film '
                                 f'({", ".join(_FILMS)})')
        if self._stamps is not None:
            if any(b <= a for a, b in zip(self._stamps, self._stamps[1:])):
                raise CrossSpecError(f'times of the pictures {path} must rise')
            self.last_ns = self._stamps[-1] if self._stamps else 0

    def _open_folder(self, table: list[tuple[int, str]] | None, times: str | Path | None) -> None:
        files = sorted((file for file in self.path.iterdir()
                        if file.suffix.lower() in _SUFFIXES and not file.name.startswith('.')), key=natural)
        if not files:
            raise CrossSpecError(f'pictures {self.path} holds no PNG or JPEG file')
        if table is None:
            if not all(file.stem.isdecimal() for file in files):
                raise CrossSpecError(f'pictures {self.path} have no times: give a file with one a line (--rgb-times '
                                     'FILE), '
                                     'or name each picture by its time in us')
            table = [(int(file.stem) * 1000, '') for file in files]
        if all(name for _, name in table):
            by_name = {file.name: file for file in files}
            missing = [name for _, name in table if Path(name).name not in by_name]
            if missing:
                raise CrossSpecError(f'{times} names {missing[0]} ({len(missing)} such), which is not in {self.path}')
            files = [by_name[Path(name).name] for _, name in table]
        elif len(table) != len(files):
            raise CrossSpecError(f'{times} has {len(table)} times and {self.path} {len(files)} pictures; '
                                 'one of them is not whole')
        self._files, self._stamps = files, [stamp for stamp, _ in table]

    def frames(self, events_start_ns: int) -> Iterator[ImageFrame]:
        """The pictures in order; a film without times begins at ``events_start_ns``."""
        self.dropped.clear()
        return self._of_folder() if self._files else self._of_film(events_start_ns)

    def _of_folder(self) -> Iterator[ImageFrame]:
        assert self._stamps is not None
        for path, stamp_ns in zip(self._files, self._stamps, strict=True):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise CrossSpecError(f'picture {path} cannot be read: {error.strerror}') from error
            if not data:
                self.dropped['empty_pictures'] += 1
                continue
            yield ImageFrame(stamp_ns, _FRAME, _SUFFIXES[path.suffix.lower()], 0, 0, 0, False, as_bytes(data), True)

    def _of_film(self, events_start_ns: int) -> Iterator[ImageFrame]:
        import av                       # only where a film is asked for
        try:
            with av.open(str(self.path)) as film:
                first_s = None
                for number, picture in enumerate(film.decode(video=0)):
                    if self._stamps is not None:
                        if number >= len(self._stamps):
                            self.dropped['pictures_without_time'] += 1
                            continue
                        stamp_ns = self._stamps[number]
                    else:
                        first_s = picture.time if first_s is None else first_s
                        stamp_ns = events_start_ns + round((picture.time - first_s) * 1e9)
                    yield rgb_frame(max(1, stamp_ns), picture.to_ndarray(format='rgb24'), _FRAME)
        except (av.FFmpegError, IndexError, OSError, TypeError) as error:
            raise CrossSpecError(f'film {self.path} cannot be read ({error}); is it whole?') from error


def natural(path: Path) -> list[tuple[int, str]]:
    """Sorts names as people do: 2 before 10."""
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', path.name) if part]


def read_times(path: Path) -> list[tuple[int, str]]:
    """(time in ns, name or '') of each line; CrossSpecError naming the first line that is neither."""
    try:
        lines = path.read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CrossSpecError(f'times {path} cannot be read ({error})') from error
    table = []
    for number, line in enumerate(lines, 1):
        words = line.replace(',', ' ').split()
        if not words or words[0].startswith('#'):
            continue
        times = [word for word in words if re.fullmatch(r'\d+(\.\d+)?', word)]
        names = [word for word in words if word not in times]
        if len(times) != 1 or len(names) > 1:
            raise CrossSpecError(f'{path}, line {number}: must be a time (us, or s with a point) and maybe the name '
                                 'of a '
                                 f'picture, got {line[:60]!r}')
        seconds, _, parts = times[0].partition('.')
        ns = int(seconds) * 1_000_000_000 + int(parts[:9].ljust(9, '0')) if parts else int(seconds) * 1000
        table.append((ns, names[0] if names else ''))
    return table


def as_png(frame: ImageFrame) -> ImageFrame:
    """A raw picture as PNG."""
    bgr = cv2.cvtColor(frame.rgb(), cv2.COLOR_RGB2BGR)
    data = cv2.imencode('.png', bgr, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].reshape(-1)
    return ImageFrame(frame.stamp_ns, frame.frame_id, 'png', 0, 0, 0, False, data, True)


def as_raw(frame: ImageFrame) -> ImageFrame:
    """A packed picture as rgb8; raises CrossSpecError where it is damaged."""
    return rgb_frame(frame.stamp_ns, np.ascontiguousarray(frame.rgb()), frame.frame_id)
