"""Answers of a verifier with the states from which it said each token, recorded as the engine decodes.

The engine's memory makes the decoding quick, and the states come with its passes: nothing is computed for them.
Letters: T tokens of an answer, K states of a token, D their width.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from crossspec_ros.speculation.engine import CaptionEngine, make_proposer
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources.heads import StateRecorder
from crossspec_ros.speculation.target import Target
from crossspec_ros.speculation.types import Draft

_MS = 1_000_000


@dataclass(frozen=True, eq=False)
class StatedAnswer:
    """Greedy ``token_ids`` (T,), end token included unless cut for length, with ``states`` (T, K, D) on the target's
    device; ``rehearsed``: what the target said of the frames before the newest."""

    token_ids: tuple[int, ...]
    states: torch.Tensor
    rehearsed: tuple[int, ...] = ()


class AnswerRecorder:
    """Answers window after window, as a drive brings them."""

    def __init__(self, target: Target, layers: Sequence[int], config: EngineConfig | None = None) -> None:
        """``layers``: whose states are kept, in this order. Raises `CrossSpecError` for layers that are not there."""
        config = replace(config or EngineConfig(), acceptance='greedy')
        recorder = StateRecorder(layers, self._keep)
        self.engine = CaptionEngine(target, config, make_proposer(target, config, (recorder,)))
        self._kept: tuple[tuple[int, ...], torch.Tensor] | None = None

    def _keep(self, window_id: int, tokens: tuple[int, ...], states: torch.Tensor) -> None:
        self._kept = tokens, states

    def record(self, window_id: int, frames: Sequence[np.ndarray], prompt: str, drafts: Sequence[Draft] = (),
               rehearse: bool = False) -> StatedAnswer:
        """The answer to a window, its frames oldest first. Raises `CrossSpecError` for bad frames or a bad prompt."""
        session, rehearsed = self.engine.open(window_id, window_id * 1000 * _MS, prompt), ()
        try:
            for slot, frame in enumerate(frames):
                session.add_frame(slot, (window_id * len(frames) + slot) * _MS, frame)
                if rehearse:
                    rehearsed = session.rehearse() or rehearsed
            for draft in drafts:
                self.engine.offer(draft)
            self._kept = None
            for _ in session.answer():
                pass
        finally:
            session.close()
        tokens, states = self._kept
        return StatedAnswer(tokens, states, rehearsed)
