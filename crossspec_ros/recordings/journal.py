"""What a conversion has done, kept on the disk, so that one that was stopped goes on where it was."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from crossspec_ros.errors import CrossSpecError


class Journal:
    """Which segments are done, on the disk before it is believed.

    ``made_of`` tells whether a journal found there belongs to this work. Raises CrossSpecError where it does not, or
    where the journal is damaged.
    """

    def __init__(self, folder: Path, made_of: dict[str, Any]) -> None:
        self.folder = folder
        self._path = folder / 'journal.json'
        self._made_of = made_of
        self.segments: list[dict[str, Any]] = []
        folder.mkdir(exist_ok=True)
        if self._path.exists():
            self._load()

    def _load(self) -> None:
        try:
            table = json.loads(self._path.read_text('utf-8'))
            made_of, segments = table['made_of'], table['segments']
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CrossSpecError(f'{self._path} is damaged ({error}); remove {self.folder} to begin again') from error
        if made_of != self._made_of:
            raise CrossSpecError(f'{self.folder} was begun with another recording or other options; give those again '
                                 'to '
                                 'go on, or remove it to begin anew')
        self.segments = segments

    def done(self, segment: dict[str, Any]) -> None:
        """Note that the next segment is on the disk."""
        self.segments.append(segment)
        text = json.dumps({'made_of': self._made_of, 'segments': self.segments}, indent=1)
        fresh = self._path.with_suffix('.new')
        fresh.write_text(text, 'utf-8')
        os.replace(fresh, self._path)
