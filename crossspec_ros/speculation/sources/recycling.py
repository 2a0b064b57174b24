"""Token recycling: the target's own runners-up as bigrams (Luo et al., 2408.08696)."""
from __future__ import annotations

from collections.abc import Sequence

from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.sources.base import DraftSource, HitTable, Step

_RANK_PRIORS = (0.35, 0.12, 0.06, 0.04, 0.03, 0.02, 0.015, 0.01)


class TokenRecycling(DraftSource):
    """After a token, what the target ranked highest the last time it read that token, whatever it was checked for.

    State: the token read last. Costs no forward: every checked node, accepted or not, brings a ranking. Bounded to
    ``max_tokens`` rows, the least recently updated is dropped.
    """

    name = 'recycling'
    needs = frozenset({'topk'})

    def __init__(self, *, width: int = 8, max_tokens: int = 8192) -> None:
        self._width = width
        self._max_tokens = max_tokens
        self._following: dict[int, tuple[int, ...]] = {}
        self._hits = HitTable(_RANK_PRIORS[:width])
        self._shares = _RANK_PRIORS[:width]

    def start(self, committed: Sequence[int]) -> int | None:
        """The last committed token, where a ranking is known. The measured shares are read once a tree."""
        self._shares = tuple(map(self._hits.share, range(self._width)))
        return committed[-1] if committed and committed[-1] in self._following else None

    def step(self, state: int) -> Sequence[Step]:
        """The ranking after the token, with the measured share of hits of each rank."""
        following = self._following
        return [
            (token, share, token if token in following else None)
            for token, share in zip(following.get(state, ()), self._shares)
        ]

    def feedback(self, state: int, token: int) -> None:
        """Count which rank hit."""
        for rank, candidate in enumerate(self._following.get(state, ())):
            self._hits.add(rank, candidate == token)

    def observe(self, outcome: PassOutcome) -> None:
        """Learn the target's best next tokens after each token that it read."""
        for token, ranking in zip(outcome.read, outcome.topk or ()):
            self._following.pop(token, None)
            self._following[token] = tuple(ranking[:self._width])
        while len(self._following) > self._max_tokens:
            del self._following[next(iter(self._following))]

    def reset(self) -> None:
        """Forget the bigrams."""
        self._following.clear()
        self._hits.clear()

    def sizes(self) -> dict[str, int]:
        """Rows of the table."""
        return {'recycling_rows': len(self._following)}
