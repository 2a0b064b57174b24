"""Caption memory: a suffix automaton over the last verified captions, as a next-token distribution.

Blumer et al. 1985 (online construction); SuffixDecoding 2411.04975 and SAM-Decoding 2411.10666 (its use for drafts).
"""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence

START = -1
"""Mark before every caption: the context that proposes its first tokens."""

_WIDTH = 24
_FLOOR = 3e-3
_EVIDENCE = 0.3

Follower = tuple[int, float, int]
"""(token, probability, state after it)."""


def _by_probability(follower: Follower) -> float:
    return -follower[1]


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
        self._kept: list[tuple[int, list[Follower]] | None] = [None]
        self._inserted = 0
        self._newest = 1.0

    def __len__(self) -> int:
        return len(self._next)

    def insert(self, caption: Sequence[int], weight: float) -> None:
        """Add a caption whose tokens all weigh ``weight``."""
        self._inserted += 1
        self._newest = max(weight, self._newest)
        state = self._extend(0, START)
        for token in caption:
            self._add(state, token, weight)
            state = self._extend(state, token)

    def remove(self, caption: Sequence[int], weight: float) -> None:
        """Take a caption's weights away again. Its states stay until the automaton is built anew."""
        self._inserted += 1
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
            if total > 1e-6 * abs(weight):  # what is left below is rounding
                weights[token] = total
            else:
                weights.pop(token, None)
            self._kept[state] = None
            state = self._link[state]

    def _new(self, length: int, copy_of: int | None = None) -> int:
        copied = copy_of is not None
        self._next.append(dict(self._next[copy_of]) if copied else {})
        self._weights.append(dict(self._weights[copy_of]) if copied else {})
        self._link.append(self._link[copy_of] if copied else 0)
        self._length.append(length)
        self._kept.append(None)
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
        """Tokens after a state, most probable first: every order of context blended with the next shorter one.

        p(order) = (1 - e) * share of the weights + e * p(shorter order), cut below ``_FLOOR``. The escape e falls from
        1 to ``escape`` as evidence grows, after Witten-Bell: e = escape + (1 - escape) * k / (k + n), n the weight of
        the context counted in captions as heavy as the newest. A list is kept until its state's own weights change, or
        for ``refresh`` captions while only its shorter contexts do.
        """
        chain: list[int] = []
        shorter: list[Follower] = []
        while state >= 0:
            kept = self._kept[state]
            if kept is not None and self._inserted - kept[0] < refresh:
                shorter = kept[1]
                break
            chain.append(state)
            state = self._link[state]
        for state in reversed(chain):
            shorter = self._blend(state, shorter, escape)
            self._kept[state] = (self._inserted, shorter)
        return shorter

    def _blend(self, state: int, shorter: list[Follower], escape: float) -> list[Follower]:
        weights = self._weights[state]
        if not weights:
            return shorter
        following = self._next[state]
        total = sum(weights.values())
        doubt = _EVIDENCE * self._newest
        escape += (1.0 - escape) * doubt / (doubt + total)
        scale = (1.0 - escape) / total
        probs = {token: weight * scale for token, weight in weights.items()}
        elsewhere: dict[int, int] = {}
        for token, prob, state_after in shorter:
            prob *= escape
            if token in probs:
                probs[token] += prob
            elif prob < _FLOOR:
                break
            else:
                probs[token] = prob
                elsewhere[token] = state_after
        blended = [
            (token, prob, elsewhere[token] if token in elsewhere else following[token])
            for token, prob in probs.items() if prob >= _FLOOR
        ]
        blended.sort(key=_by_probability)
        return blended[:_WIDTH]


class _Generation:
    """An automaton and the serial number of the caption that weighs 1 in it."""

    def __init__(self, first: int, growth: float) -> None:
        self.automaton = SuffixAutomaton()
        self.inserted = 0
        self._first = first
        self._growth = growth

    def insert(self, serial: int, caption: tuple[int, ...]) -> None:
        self.automaton.insert(caption, self._growth ** (serial - self._first))
        self.inserted += 1

    def remove(self, serial: int, caption: tuple[int, ...]) -> None:
        self.automaton.remove(caption, self._growth ** (serial - self._first))


class CaptionMemory:
    """The last ``captions`` verified captions of one prompt, each weighing ``growth`` times the one before it.

    Bounded whatever the length of the drive: a forgotten caption's weights are removed at once, its states when the
    automaton is replaced. The replacement is built beside it, two old captions with each new one, so that no caption
    pays for the whole.
    """

    def __init__(self, captions: int = 256, *, growth: float = 1.03, escape: float = 0.15, refresh: int = 8) -> None:
        self._limit = captions
        self._growth = growth
        self._escape = escape
        self._refresh = refresh
        self.clear()

    def clear(self) -> None:
        """Forget all captions."""
        self._serial = 0
        self._kept: deque[tuple[int, tuple[int, ...]]] = deque()
        self._now = _Generation(0, self._growth)
        self._next: _Generation | None = None
        self._to_copy: deque[tuple[int, tuple[int, ...]]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def states(self) -> int:
        """Number of states held, the replacement's included."""
        return len(self._now.automaton) + (len(self._next.automaton) if self._next else 0)

    def add(self, caption: Sequence[int]) -> None:
        """Remember a verified caption, and forget the oldest where there are too many."""
        entry = (self._serial, tuple(caption))
        self._serial += 1
        self._kept.append(entry)
        self._now.insert(*entry)
        if self._next is not None:
            self._next.insert(*entry)
        if len(self._kept) > self._limit:
            self._forget_oldest()
        self._renew()

    def _forget_oldest(self) -> None:
        oldest = self._kept.popleft()
        self._now.remove(*oldest)
        if self._to_copy and self._to_copy[0] is oldest:
            self._to_copy.popleft()
        elif self._next is not None:
            self._next.remove(*oldest)

    def _renew(self) -> None:
        if self._next is None and self._now.inserted >= 2 * self._limit:
            self._next = _Generation(self._kept[0][0], self._growth)
            self._to_copy = deque(self._kept)
        for _ in range(min(2, len(self._to_copy))):
            self._next.insert(*self._to_copy.pop())
        if self._next is not None and not self._to_copy:
            self._now, self._next = self._next, None

    def start(self, committed: Sequence[int]) -> int:
        """State after the committed tokens of a caption."""
        automaton = self._now.automaton
        state = automaton.root()
        for token in committed:
            state = automaton.walk(state, token)
        return state

    def followers(self, state: int) -> list[Follower]:
        """Tokens after a state, most probable first."""
        return self._now.automaton.followers(state, self._escape, self._refresh)
