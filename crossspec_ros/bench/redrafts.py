"""What the drafter's node says of a window once a verdict departs from what it drafted."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from crossspec_ros.config import DrafterConfig
from crossspec_ros.speculation.sources.foreign import Hypothesis
from crossspec_ros.speculation.types import Draft

MOST = DrafterConfig().redrafts

Again = Callable[[int, tuple[int, ...]], Draft]
"""(revision, verified tokens) -> a draft that goes on from them."""


class Redrafter:
    """Follows the verdicts on one window as `pipeline.drafting` does: at most `MOST` drafts more than ``newest``."""

    def __init__(self, newest: Draft, again: Again) -> None:
        self._newest, self._again, self._count = newest, again, 0

    def after(self, committed: Sequence[int]) -> Draft | None:
        """A draft from the verified tokens where they depart from the newest draft; None where none is made."""
        if self._count >= MOST or not committed:
            return None
        hypothesis = Hypothesis.of(self._newest)
        if hypothesis.extends(committed) and not hypothesis.along(committed)[1]:
            return None
        self._count += 1
        self._newest = self._again(self._newest.revision + 1, tuple(committed))
        return self._newest
