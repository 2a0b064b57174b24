"""All that was answered, as one indexable set: which windows are learned from, which are held out."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.drives import Split
from crossspec_ros.learn.settings import LearnConfig
from crossspec_ros.learn.store import Learned, Store, read_part

_TOO_RARE = 1                    # a token that was said so often, on the drives learned from, is not worth a row


@dataclass(frozen=True, eq=False)
class Lesson:
    """A window and the drive that it is of."""

    drive: int
    window: Learned


class Lessons:
    """``learned`` and ``held``: lessons in the order of drives and time. Raises CrossSpecError where there are too few.
    """

    def __init__(self, learned: Sequence[Lesson], held: Sequence[Lesson]) -> None:
        self.learned, self.held = list(learned), list(held)
        for what, found in (('learn from', self.learned), ('judge by', self.held)):
            if len(found) < 2:
                raise CrossSpecError(f'{len(found)} windows to {what} could be answered, 2 are needed at least: record '
                                     'longer drives, or look at the counts of what was lost with -v')

    @classmethod
    def read(cls, store: Store, config: LearnConfig, splits: Sequence[Split]) -> Lessons:
        """Everything in the store."""
        learned, held = [], []
        for drive, split in enumerate(splits):
            for path in store.parts(drive):
                for window in read_part(path):
                    (learned if window.end_ns <= split.cut_ns else held).append(Lesson(drive, window))
        return cls(learned, held)

    def first(self, share: float, splits: Sequence[Split]) -> Lessons:
        """The same with the first ``share`` of what is learned from of each drive."""
        ends = [split.start_ns + round(share * (split.cut_ns - split.start_ns)) for split in splits]
        return Lessons([lesson for lesson in self.learned if lesson.window.end_ns <= ends[lesson.drive]], self.held)

    def voxels(self, rows: Sequence[int], looks: Sequence[int]) -> NDArray[np.float32]:
        """(len(rows), C, H, W) of what is learned from; ``looks`` says for each row which."""
        return np.stack([self.learned[row].window.voxels[look] for row, look in zip(rows, looks, strict=True)]
                        ).astype(np.float32)

    def kept_ids(self, questions: Sequence[Sequence[int]], eos_id: int) -> tuple[int, ...]:
        """Tokens worth a row, rising: those of the questions, and those that the verifier said more than once."""
        said = Counter(int(token) for lesson in self.learned for answer in lesson.window.answers
                       for token in answer.token_ids)
        kept = {token for token, count in said.items() if count > _TOO_RARE}
        return tuple(sorted(kept | {eos_id} | {token for question in questions for token in question}))

    def longest(self) -> int:
        """Tokens of the longest answer."""
        return max(len(answer.token_ids) for lesson in self.learned for answer in lesson.window.answers)
