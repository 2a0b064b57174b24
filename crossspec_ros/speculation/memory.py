"""Caption memory: a suffix automaton over the last verified captions, as a next-token distribution.

Blumer et al. 1985 (online construction); SuffixDecoding 2411.04975 and SAM-Decoding 2411.10666 (its use for drafts).
"""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence

START = -1
"""Mark before every caption: the context that proposes its first tokens."""

_TOP = 24

Follower = tuple[int, float, int]
"""(token, probability, state after it)."""


class SuffixAutomaton:
    """Contexts seen in a set of captions, each with the weights of the tokens that followed it.

    A state stands for all contexts that ended at the same places, so the chain of suffix links from a state visits each
    distinct order of context once. Every caption is inserted from the root: no context runs across two captions.
    Inserting ``n`` tokens takes O(n) states; weights are added along the suffix chain.
    """

    def __init__(self) -> None:
        self._next: list[dict[int, int]] = [{}]
        self._link: list[int] = [-1]
        self._length: list[int] = [0]
        self._weights: list[dict[int, float]] = [{}]
        self._cache: list[tuple[int, list[Follower]] | None] = [None]
        self._clock = 0

    def __len__(self) -> int:
        return len(self._next)

    def insert(self, caption: Sequence[int], weight: float) -> None:
        """Add a caption whose tokens all weigh ``weight``."""
        self._clock += 1
        state = self._extend(0, START)
        for token in caption:
            self._add(state, token, weight)
            state = self._extend(state, token)

    def remove(self, caption: Sequence[int], weight: float) -> None:
        """Take a caption's weights away again. Its states stay until the automaton is built anew."""
        self._clock += 1
        state = self._next[0][START]
        for token in caption:
            self._add(state, token, -weight)
            state = self._next[state][token]

    def root(self) -> int:
        """State after the start mark."""
        return self._next[0].get(START, 0)

    def walk(self, state: int, token: int) -> int:
        """State of the longest known context after reading a token."""
        while state and token not in self._next[state]:
            state = self._link[state]
        return self._next[state].get(token, 0)

    def _add(self, state: int, token: int, weight: float) -> None:
        while state >= 0:
            weights = self._weights[state]
            total = weights.get(token, 0.0) + weight
            if total > 1e-9:
                weights[token] = total
            else:
                weights.pop(token, None)
            self._cache[state] = None
            state = self._link[state]

    def _new(self, length: int, copy_of: int | None = None) -> int:
        copied = copy_of is not None
        self._next.append(dict(self._next[copy_of]) if copied else {})
        self._weights.append(dict(self._weights[copy_of]) if copied else {})
        self._link.append(self._link[copy_of] if copied else 0)
        self._length.append(length)
        self._cache.append(None)
        return len(self._next) - 1

    def _extend(self, last: int, token: int) -> int:
        known = self._next[last].get(token)
        if known is not None:
            return known if self._length[last] + 1 == self._length[known] else self._split(last, known, token)
        state = self._new(self._length[last] + 1)
        while last >= 0 and token not in self._next[last]:
            self._next[last][token] = state
            last = self._link[last]
        if last >= 0:
            known = self._next[last][token]
            exact = self._length[last] + 1 == self._length[known]
            self._link[state] = known if exact else self._split(last, known, token)
        return state

    def _split(self, last: int, known: int, token: int) -> int:
        """A context of ``known`` now ends at one more place than its longer ones: it gets a state of its own."""
        clone = self._new(self._length[last] + 1, copy_of=known)
        self._link[known] = clone
        while last >= 0 and self._next[last].get(token) == known:
            self._next[last][token] = clone
            last = self._link[last]
        return clone

    def followers(self, state: int, escape: float, refresh: int) -> list[Follower]:
        """Tokens after a state, most probable first: each order blended with the next shorter one.

        p(order) = (1 - e) * weights + e * p(shorter order), e = escape * d / (escape * d + 1) with d the share of
        distinct followers... Lists are kept until the state's own weights change or ``refresh`` captions went by.
        """
        cache, clock = self._cache, self._clock
        chain: list[int] = []
        shorter: list[Follower] = []
        while state >= 0:
            kept = cache[state]
            if kept is not None and clock - kept[0] < refresh:
                shorter = kept[1]
                break
            chain.append(state)
            state = self._link[state]
        for state in reversed(chain):
            shorter = self._blend(state, shorter, escape)
            cache[state] = (clock, shorter)
        return shorter

    def _blend(self, state: int, shorter: list[Follower], escape: float) -> list[Follower]:
        weights = self._weights[state]
        if not weights:
            return shorter
        after = self._next[state]
        scale = (1.0 - escape) / sum(weights.values())
        probs = {token: weight * scale for token, weight in weights.items()}
        states = after
        extra: dict[int, int] = {}
        for token, prob, following in shorter:
            if token in probs:
                probs[token] += escape * prob
            else:
                probs[token] = escape * prob
                extra[token] = following
        blended = [
            (token, prob, extra[token] if token in extra else states[token]) for token, prob in probs.items()
        ]
        blended.sort(key=lambda follower: -follower[1])
        return blended[:_TOP]


class CaptionMemory:
    """The last ``captions`` verified captions of one prompt, newer ones weighing more.

    Bounded: an evicted caption's weights are removed at once; its states go when the automaton is built anew, a little
    with each caption (a standby automaton takes the new caption and two kept ones, and replaces the first when it has
    them all), so that no caption pays for the whole.
    """

    def __init__(self, captions: int = 256, *, growth: float = 1.03, escape: float = 0.4, refresh: int = 8) -> None:
        self._limit = captions
        self._growth = growth
        self._escape = escape
        self._refresh = refresh
        self.clear()

    def clear(self) -> None:
        """Forget all captions."""
        self._kept: deque[tuple[tuple[int, ...], float]] = deque()
        self._weight = 1.0
        self._automaton = SuffixAutomaton()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def states(self) -> int:
        """Size of the automaton."""
        return len(self._automaton)

    def add(self, caption: Sequence[int]) -> None:
        """Remember a verified caption, and forget the oldest where there are too many."""
        entry = (tuple(caption), self._weight)
        self._kept.append(entry)
        self._automaton.insert(*entry)
        self._weight *= self._growth
        if len(self._kept) > self._limit:
            self._automaton.remove(*self._kept.popleft())

    def start(self, committed: Sequence[int]) -> int:
        """State after the committed tokens of a caption."""
        state = self._automaton.root()
        for token in committed:
            state = self._automaton.walk(state, token)
        return state

    def walk(self, state: int, token: int) -> int:
        """State one token further."""
        return self._automaton.walk(state, token)

    def followers(self, state: int) -> list[Follower]:
        """Tokens after a state, most probable first."""
        return self._automaton.followers(state, self._escape, self._refresh)
