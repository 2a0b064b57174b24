"""The n-gram pool of lookahead decoding as a draft source (Fu et al., 2402.02057), filled from what the target said."""
from __future__ import annotations

from collections.abc import Sequence

from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.sources.base import DraftSource, HitTable, Step

_PRIORS = (0.4, 0.2, 0.1, 0.05)


class NgramPool(DraftSource):
    """n-grams of the target's text by their first token, the newest first; state: (n-gram, how much of it is said).

    The other half of the method, guesses that the target refines in a branch of each pass, is `Jacobi`.
    """

    name = 'ngram_pool'

    def __init__(self, size: int = 5, kept: int = 4, max_tokens: int = 8192) -> None:
        self._size, self._kept, self._max_tokens = size, kept, max_tokens
        self._pool: dict[int, list[tuple[int, ...]]] = {}
        self._hits = HitTable(_PRIORS)

    def start(self, committed: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
        """What followed the last committed token before."""
        return tuple(self._pool.get(committed[-1], ())) or None if committed else None

    def step(self, state: tuple[tuple[int, ...], ...]) -> Sequence[Step]:
        """Next tokens of the n-grams, the newest's first."""
        rests: dict[int, list[tuple[int, ...]]] = {}
        for ngram in state:
            rests.setdefault(ngram[0], []).append(ngram[1:])
        return [(token, self._hits.share(rank), tuple(filter(None, rest)) or None)
                for rank, (token, rest) in enumerate(rests.items())]

    def feedback(self, state: tuple[tuple[int, ...], ...], token: int) -> None:
        """Count which rank hit."""
        for rank, candidate in enumerate(dict.fromkeys(ngram[0] for ngram in state)):
            self._hits.add(rank, candidate == token)

    def finish(self, token_ids: Sequence[int]) -> None:
        """Take the caption's n-grams."""
        for place in range(len(token_ids) - 1):
            ngram = tuple(token_ids[place + 1:place + self._size])
            kept = self._pool.setdefault(token_ids[place], [])
            if ngram in kept:
                kept.remove(ngram)
            kept.insert(0, ngram)
            del kept[self._kept:]
        while len(self._pool) > self._max_tokens:
            del self._pool[next(iter(self._pool))]

    def reset(self) -> None:
        """Forget the pool."""
        self._pool.clear()
        self._hits.clear()

    def sizes(self) -> dict[str, int]:
        """First tokens in the pool."""
        return {'ngram_pool_tokens': len(self._pool)}


class Jacobi(DraftSource):
    """Guesses that the target itself refines: what it said at the rejected places of the last pass is guessed next.

    Jacobi iteration (Santilli et al., 2305.10427), which lookahead's branch runs; a guess costs a node of the pass.
    """

    name = 'jacobi'
    needs = frozenset({'topk'})

    def __init__(self, length: int = 8) -> None:
        self._length = length
        self._guess: tuple[int, ...] = ()
        self._hits = HitTable((0.3,))

    def start(self, committed: Sequence[int]) -> int | None:
        """At the first guess."""
        return 0 if self._guess and committed else None

    def step(self, state: int) -> Sequence[Step]:
        """The guess, and then the next; never so unlikely that it is not checked, which would end the iteration."""
        following = state + 1 if state + 1 < len(self._guess) else None
        return ((self._guess[state], max(self._hits.share(0), 0.9), following),)

    def feedback(self, state: int, token: int) -> None:
        """Count the hit."""
        self._hits.add(0, self._guess[state] == token)

    def observe(self, outcome: PassOutcome) -> None:
        """What the target would say after its own wrong guesses is guessed next; the last one fills up."""
        rows, said = outcome.topk or (), len(outcome.emitted)
        if outcome.complete or not rows:
            self._guess = ()
            return
        refined = [row[0] for row in rows[said:self._length + 1]]
        last = refined[-1] if refined else outcome.emitted[-1]
        self._guess = tuple((refined + [last] * self._length)[:self._length])

    def finish(self, token_ids: Sequence[int]) -> None:
        """The next caption begins without a guess."""
        self._guess = ()

    def reset(self) -> None:
        """Forget the guess."""
        self._guess = ()
        self._hits.clear()

    def sizes(self) -> dict[str, int]:
        """Tokens guessed."""
        return {'jacobi_tokens': len(self._guess)}
