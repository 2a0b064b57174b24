"""Whether it pays to ask a source that takes time: the tokens that it alone gained, against what it cost.

A head on the target's states is a small network: a draft of it takes a good part of what a short pass of the target
takes. It is asked while the tokens that nobody else would have given save more than its drafts cost, and now and then
besides, so that it is asked again when that changes.
"""
from __future__ import annotations


class Worth:
    """Means over about the last ``memory`` drafts and passes.

    The first ``trial`` drafts are made in any case; of a source that does not pay, every ``every``-th is.
    """

    def __init__(self, *, trial: int = 16, every: int = 16, memory: float = 100.0) -> None:
        self._trial, self._every = trial, every
        self._weight = 1.0 / memory
        self.clear()

    def clear(self) -> None:
        """Nothing known."""
        self.drafts = 0
        self._skipped = 0
        self._spent_ms: float | None = None
        self._gained: float | None = None
        self._token_ms: float | None = None

    @property
    def token_ms(self) -> float | None:
        """What a token costs in a pass of the target that is not fused with the prefill; None before the first."""
        return self._token_ms

    @property
    def pays(self) -> bool | None:
        """Whether drafts gain more than they cost; None while that is not known."""
        if self.drafts < self._trial or None in (self._token_ms, self._gained, self._spent_ms):
            return None
        return self._gained * self._token_ms > self._spent_ms

    def asks(self) -> bool:
        """Whether the next draft is to be made; asked once for each that could be."""
        if self.pays is not False:
            return True
        self._skipped = (self._skipped + 1) % self._every
        return self._skipped == 0

    def spent(self, elapsed_ms: float) -> None:
        """A draft took so long."""
        self.drafts += 1
        self._spent_ms = self._mean(self._spent_ms, elapsed_ms)

    def gained(self, tokens: int) -> None:
        """A pass accepted so many tokens of the last draft that no other source had proposed there."""
        self._gained = self._mean(self._gained, float(tokens))

    def passed(self, emitted: int, verify_ms: float) -> None:
        """A pass of the target emitted so many tokens and took so long."""
        self._token_ms = self._mean(self._token_ms, verify_ms / emitted)

    def _mean(self, mean: float | None, value: float) -> float:
        # A plain mean as long as there are few values, a decaying one after.
        weight = max(self._weight, 1.0 / (self.drafts + 1))
        return value if mean is None else mean + weight * (value - mean)
