"""A question about a clip, as every reader here gives it."""
from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from crossspec_ros.recordings.quality.media import EventReference, FrameReference

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class QualityItem:
    """One question about one clip.

    ``question`` is empty where the data ask none (drives without captions: ask your own). ``choices`` are texts without
    their letters, None where the answer is free; ``answers`` are texts that are right, () where none is known, and
    among ``choices`` where there are some. ``split`` is one of `SPLITS` or empty, ``drive`` names the recording: what
    is resampled together.
    """

    item_id: str
    frames: FrameReference | None
    events: EventReference | None
    question: str
    choices: tuple[str, ...] | None
    answers: tuple[str, ...]
    split: str
    drive: str

    @property
    def letter(self) -> str | None:
        """Letter of the right choice, A the first; None where there are no choices or no answer."""
        if not self.choices or not self.answers:
            return None
        return string.ascii_uppercase[self.choices.index(self.answers[0])]


@dataclass
class QualityData:
    """Items of a local copy, read as they are asked for, in the same order each time.

    ``layout`` names what it was taken for; ``left_out`` counts by cause what the last pass through did not give.
    """

    path: Path
    layout: str
    read: Callable[[Counter[str]], Iterator[QualityItem]]
    left_out: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[QualityItem]:
        self.left_out.clear()
        return self.read(self.left_out)
