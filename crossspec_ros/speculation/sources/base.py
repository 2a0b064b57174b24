"""What a draft source is, and what is measured about each of them.

A source is a function from a state to the tokens that may come next. The proposer asks every live source for its state
at the committed prefix, grows one tree by following their answers, and hands each source afterwards what the target
really said. Sources never see the tree while it grows.
"""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crossspec_ros.speculation.outcome import PassOutcome

Step = tuple[int, float, Any]
"""(token, probability that the target says it here, state after it; None: the source has nothing further)."""

NEEDS = ('topk', 'hidden')
"""What a source may ask of a pass's outcome: the target's best next tokens, its decoder's states."""


@dataclass(frozen=True)
class Opening:
    """A caption that starts: its window, its question (key and text tokens), and what was rehearsed for it so far.

    ``prompt_key`` names question and form, for what is remembered of earlier captions; ``draft_key`` the question
    alone, which drafts carry (empty: the same).
    """

    window_id: int
    prompt_key: str
    question_ids: tuple[int, ...] = ()
    rehearsed: tuple[int, ...] = ()
    draft_key: str = ''


class DraftSource(ABC):
    """Proposes next tokens. States are immutable values of the source's own choosing; None means nothing to say."""

    name: str
    needs: frozenset[str] = frozenset()
    layers: tuple[int, ...] = ()             # of the target's decoder, whose states it reads besides the last ones
    spent_ms: float = 0.0                    # in all its drafts together, where that is worth measuring

    def begin(self, opening: Opening) -> None:
        """A caption starts."""

    @abstractmethod
    def start(self, committed: Sequence[int]) -> Any | None:
        """State after the committed tokens of the current caption."""

    @abstractmethod
    def step(self, state: Any) -> Sequence[Step]:
        """What may come next, most probable first, tokens all different. Must not change the source."""

    def feedback(self, state: Any, token: int) -> None:
        """The target said ``token`` at ``state``: probabilities are corrected by it."""

    def observe(self, outcome: PassOutcome) -> None:
        """A target pass is over; its outcome holds what some source needs."""

    def rehearsed(self, token_ids: Sequence[int]) -> None:
        """The target itself said this about the frames so far."""

    def finish(self, token_ids: Sequence[int]) -> None:
        """The caption is complete and verified."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything (time jumped back)."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """How much is held, by a name that says of what; all of it bounded."""

    def counts(self) -> dict[str, int]:
        """What became of its drafts, where it is asked for some and they may be dropped."""
        return {}


class HitTable:
    """b(match length): decayed share of offers that the target accepted, by bucket, starting from a prior.

    Facts: survival S of a node is the product of such shares along its path (Sequoia 2402.12374, SpecInfer 2305.09781).
    """

    def __init__(self, priors: Sequence[float], *, strength: float = 8.0, memory: float = 200.0) -> None:
        self._priors = tuple(priors)
        self._strength = strength
        self._keep = 1.0 - 1.0 / memory
        self.clear()

    def clear(self) -> None:
        """Back to the priors."""
        self._hits = [prior * self._strength for prior in self._priors]
        self._offers = [self._strength] * len(self._priors)
        self._shares = list(self._priors)                        # read far more often than changed

    def bucket(self, index: int) -> int:
        """The last bucket takes all that is longer."""
        return min(index, len(self._priors) - 1)

    def share(self, index: int) -> float:
        """Probability of a hit in a bucket."""
        shares = self._shares
        return shares[index] if index < len(shares) else shares[-1]

    def add(self, index: int, hit: bool) -> None:
        """Count one offer; older ones fade."""
        bucket = self.bucket(index)
        self._hits[bucket] = self._hits[bucket] * self._keep + hit
        self._offers[bucket] = self._offers[bucket] * self._keep + 1.0
        self._shares[bucket] = self._hits[bucket] / self._offers[bucket]


class Beliefs:
    """What became of tokens by how likely a source believed them: shares of hits, by half powers of two."""

    _BINS = 14

    def __init__(self) -> None:
        self._hits = HitTable([2.0 ** -((place + 0.5) / 2) for place in range(self._BINS)])

    def clear(self) -> None:
        """Back to believing the source."""
        self._hits.clear()

    def bin(self, prob: float) -> int:
        """Where a probability, 0 < ``prob`` <= 1, is counted."""
        return min(int(-2.0 * math.log2(prob)), self._BINS - 1)

    def share(self, place: int) -> float:
        """Share of the tokens of this bin that the target said."""
        return self._hits.share(place)

    def add(self, place: int, hit: bool) -> None:
        """A token of this bin was said, or not."""
        self._hits.add(place, hit)
