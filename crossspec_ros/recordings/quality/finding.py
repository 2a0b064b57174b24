"""Files that questions name, found in a local copy however it was unpacked."""
from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.event_files.pictures import natural
from crossspec_ros.recordings.quality.media import (EVENTS, PICTURES, VIDEOS, EventReference, EventsFile, Film,
                                                    FrameReference, PictureFiles)

_PLACES = ('', 'data', 'video', 'videos', 'images', 'events')


class Finder:
    """Looks for a name below ``root``: as it stands in the usual places, else by its last part.

    Names that lead out of ``root`` are not followed. ``mapping`` gives other names of the same (MSVD).
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._index: dict[str, list[Path]] | None = None
        self._found: dict[tuple[str, str, bool], Path | None] = {}
        self._mapping = _read_mapping(root)

    def frames(self, names: Sequence[str], hint: str = '', start_s: float | None = None, end_s: float | None = None
               ) -> FrameReference | None:
        """What is named: a video, a folder of pictures, or pictures; None where one of it is not there."""
        found = [self._seek(name, hint, (*VIDEOS, *PICTURES)) for name in names]
        if not found or None in found:
            return None
        if len(found) == 1 and found[0].is_dir():
            return PictureFiles(_pictures_of(found[0], start_s, end_s))
        if len(found) == 1 and found[0].suffix.lower() in VIDEOS:
            return Film(found[0], start_s, end_s)
        return PictureFiles(tuple(found)) if all(path.suffix.lower() in PICTURES for path in found) else None

    def events(self, names: Sequence[str]) -> EventReference | None:
        """The one file of events that is named; None where it is not there."""
        path = self._seek(names[0], '', EVENTS) if len(names) == 1 else None
        return None if path is None else EventsFile(path)

    def sequence(self, names: Sequence[str]) -> Path | None:
        """The folder of a DSEC sequence that is named; None where it is not there."""
        folders = [path for name in names[:1] for path in self._known().get(Path(name).name, ())
                   if (path / 'events' / 'left').is_dir()]
        return folders[0] if len(folders) == 1 else None

    def _seek(self, name: str, hint: str, suffixes: Sequence[str]) -> Path | None:
        key = name, hint, suffixes is EVENTS
        if key not in self._found:
            self._found[key] = self._find(name, hint, suffixes)
        return self._found[key]

    def _find(self, name: str, hint: str, suffixes: Sequence[str]) -> Path | None:
        for each in (name, *self._mapping.get(name, ())):
            for place in _PLACES:
                for folder in filter(None, (f'{place}/{hint}' if hint else '', place or '.')):
                    for suffix in ('', *suffixes):
                        path = self._root / folder / f'{each}{suffix}'
                        if self._serves(path, suffixes) and path.resolve().is_relative_to(self._root):
                            return path
            known = [path for path in self._known().get(Path(each).name, ()) if self._serves(path, suffixes)]
            if len(known) == 1:              # several of one name: which is meant cannot be known
                return known[0]
        return None

    def _serves(self, path: Path, suffixes: Sequence[str]) -> bool:
        if path.is_dir():
            return PICTURES[0] in suffixes and any(each.suffix.lower() in PICTURES for each in path.iterdir())
        return path.suffix.lower() in suffixes and path.is_file()

    def _known(self) -> dict[str, list[Path]]:
        """All files and folders below the root by name, with and without what follows the last point."""
        if self._index is None:
            self._index = {}
            for folder, folders, files in os.walk(self._root):
                for name in (*folders, *files):
                    path = Path(folder, name)
                    for key in dict.fromkeys((name, path.stem if path.suffix.lower() in (*VIDEOS, *EVENTS) else name)):
                        self._index.setdefault(key, []).append(path)
        return self._index


def _pictures_of(folder: Path, start_s: float | None, end_s: float | None) -> tuple[Path, ...]:
    """Pictures of a folder; from start to end where the folder's path tells their rate (``fps3``)."""
    files = sorted((path for path in folder.iterdir() if path.suffix.lower() in PICTURES
                    and not path.name.startswith('.')), key=natural)
    rate = re.search(r'fps(\d+)', folder.as_posix())
    if rate is None or int(rate[1]) == 0 or end_s is None:
        return tuple(files)
    first, last = int((start_s or 0.0) * int(rate[1])), int(end_s * int(rate[1]))
    return tuple(files[min(first, len(files) - 1):max(last, first) + 1])


def _read_mapping(root: Path) -> dict[str, list[str]]:
    """Other names of videos, both ways, where the folder has a ``youtube_mapping.txt``."""
    mapping: dict[str, list[str]] = {}
    path = root / 'youtube_mapping.txt'
    if path.is_file():
        for number, line in enumerate(path.read_text('utf-8').splitlines(), 1):
            words = line.split()
            if words and len(words) != 2:
                raise CrossSpecError(f'{path}, line {number}: must be two names of a video, got {line[:60]!r}')
            for name, other in (words, words[::-1]) if words else ():
                mapping.setdefault(name, []).append(other)
    return mapping
