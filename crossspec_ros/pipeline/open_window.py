"""A window of the verifier while it is filled, and what is kept of one that was answered."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from crossspec_ros.frames.slots import Frame
from crossspec_ros.speculation.session import Session
from crossspec_ros.speculation.types import Caption, Verdict


@dataclass(frozen=True)
class Answered:
    """What was asked about a window, for an audit: its frames (S, H, W, 3), the prompt, the tokens of its caption."""

    window_id: int
    frames: tuple[np.ndarray, ...]
    prompt: str
    token_ids: tuple[int, ...]


@dataclass
class OpenWindow:
    """A window being filled: the frames of its slots, those handed to its session first."""

    session: Session
    frames: list[Frame | None]
    prompt: str
    fed: int = 0
    own: list[int] = field(default_factory=list)                # slots of the grid with a frame of their own
    left_out: int = 0                                           # frames of the scene before a change
    whole: bool = False                                         # all slots are settled
    rehearsed: int = 0                                          # frames of the last rehearsal

    def fill_start(self) -> None:
        """Slots before the first frame repeat it."""
        first = next((i for i, frame in enumerate(self.frames) if frame is not None), None)
        for i in range(first or 0):
            self.frames[i] = self.frames[first]


def caption_first(outputs: Iterator[Caption | Verdict]) -> Iterator[Caption | Verdict]:
    """An answer with its last verdict after its final caption: people wait for that one. Verdicts before it, from which
    drafters go on, stay where they are."""
    last: Verdict | None = None
    for output in outputs:
        if isinstance(output, Verdict) and output.final:
            last = output
            continue
        yield output
        if last is not None:
            yield last
