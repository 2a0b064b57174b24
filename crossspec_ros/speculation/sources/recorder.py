"""Keeps what the target said and what it said it from: its states, and the tokens that it thought likely.

Letters: T tokens of an answer, K states of a token, D their width, L likely tokens of a place.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.sources.base import DraftSource, Opening, Step
from crossspec_ros.speculation.sources.heads import StateLogs, reading_states


@dataclass(frozen=True, eq=False)
class Record:
    """An answer: ``token_ids`` (T,), end token included, ``states`` (T, K, D), the best next tokens of each place
    ``likely`` (T, L) with their ``log_probs`` (T, L), best first; on the target's device. None: not asked for."""

    token_ids: tuple[int, ...]
    states: torch.Tensor | None = None
    likely: torch.Tensor | None = None
    log_probs: torch.Tensor | None = None


class Recorder(DraftSource):
    """Proposes nothing; hands the `Record` of each answer to ``keep``."""

    name = 'recorder'
    needs = frozenset({'hidden'})

    def __init__(self, keep: Callable[[int, Record], None], layers: Sequence[int] = (), likely: int = 0) -> None:
        """``keep(window_id, record)``; states of ``layers`` (none: no states) and ``likely`` tokens (0: none)."""
        self.layers = tuple(layers)
        self._keep, self._likely = keep, likely
        self._states = reading_states(layers) if layers else None
        self._logs = StateLogs(self._read)

    def _read(self, outcome: PassOutcome, rows: Sequence[int]) -> tuple[torch.Tensor, ...]:
        kept = () if self._states is None else self._states(outcome, rows)
        if not self._likely:
            return kept
        laws = torch.log_softmax(outcome.logits[rows].float(), -1)
        best = laws.topk(min(self._likely, laws.shape[-1]))
        return *kept, best.indices, best.values

    def begin(self, opening: Opening) -> None:
        self._logs.begin(opening.window_id)

    def start(self, committed: Sequence[int]) -> None:
        return None

    def step(self, state: object) -> Sequence[Step]:
        return ()

    def observe(self, outcome: PassOutcome) -> None:
        self._logs.add(outcome)

    def finish(self, token_ids: Sequence[int]) -> None:
        taken = self._logs.finish().take()
        if taken is None or taken[0][:len(token_ids)] != tuple(token_ids):         # not all of it was seen
            return
        tokens, parts = taken
        states, rest = (None, parts) if self._states is None else (parts[0], parts[1:])
        self._keep(self._logs.window_id, Record(tokens, states, *rest))

    def reset(self) -> None:
        self._logs.clear()

    def sizes(self) -> dict[str, int]:
        return {'recorder_windows': len(self._logs)}
