"""Answers of a verifier with the states from which it said each token, recorded as the engine decodes.

The engine's memory makes the decoding quick, and the states come with its passes: nothing is computed for them.
Letters: T tokens of an answer, K states of a token, D their width, L likely tokens of a place.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from crossspec_ros.speculation.engine import CaptionEngine, make_proposer
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources.recorder import Record, Recorder
from crossspec_ros.speculation.target import Target
from crossspec_ros.speculation.types import Draft

_MS = 1_000_000


@dataclass(frozen=True, eq=False)
class StatedAnswer(Record):
    """A greedy answer, the end token missing where it was cut for length; ``rehearsed``: what the target said of the
    frames before the newest."""

    rehearsed: tuple[int, ...] = ()


class AnswerRecorder:
    """Answers window after window, as a drive brings them."""

    def __init__(self, target: Target, layers: Sequence[int], config: EngineConfig | None = None,
                 likely: int = 0) -> None:
        """``layers``: whose states are kept, in this order; ``likely`` best next tokens are kept of each place.

        Raises `CrossSpecError` for layers that are not there.
        """
        config = replace(config or EngineConfig(), acceptance='greedy')
        recorder = Recorder(self._keep, layers, likely)
        self.engine = CaptionEngine(target, config, make_proposer(target, config, (recorder,)))
        self._kept: Record | None = None

    def _keep(self, window_id: int, record: Record) -> None:
        self._kept = record

    def record(self, window_id: int, frames: Sequence[np.ndarray], prompt: str, drafts: Sequence[Draft] = (),
               rehearse: bool = False, stamps_ns: Sequence[int] | None = None) -> StatedAnswer:
        """The answer to a window, its frames oldest first; frames that windows share have the same ``stamps_ns``.

        Raises `CrossSpecError` for bad frames or a bad prompt.
        """
        if stamps_ns is None:
            stamps_ns = [(window_id * len(frames) + slot) * _MS for slot in range(len(frames))]
        session, rehearsed = self.engine.open(window_id, window_id * 1000 * _MS, prompt), ()
        try:
            for slot, (stamp_ns, frame) in enumerate(zip(stamps_ns, frames, strict=True)):
                session.add_frame(slot, stamp_ns, frame)
                if rehearse:
                    rehearsed = session.rehearse() or rehearsed
            for draft in drafts:
                self.engine.offer(draft)
            self._kept = None
            for _ in session.answer():
                pass
        finally:
            session.close()
        kept = self._kept
        assert kept is not None, 'every pass of an answer must be seen by its recorder'
        return StatedAnswer(kept.token_ids, kept.states, kept.likely, kept.log_probs, rehearsed)


def as_stored(states: torch.Tensor) -> NDArray[np.float16]:
    """States as they are kept on disk: in 16 bits, which a few states of large decoders exceed."""
    largest = np.finfo(np.float16).max
    return states.detach().float().cpu().numpy().clip(-largest, largest).astype(np.float16)
