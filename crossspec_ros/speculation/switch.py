"""Switching off a source that does not pay, and on again when it would."""
from __future__ import annotations


class SourceSwitch:
    """Decides from the share of right best guesses, over about the last ``memory`` of them.

    A source is judged on what it would have said along the target's text whether it was in the tree or not, so a source
    that is off is on trial all the time and the trial costs no target time. Two thresholds keep it from flapping.
    """

    def __init__(
        self, *, off_below: float = 0.04, on_above: float = 0.08, trial: int = 48, memory: float = 200.0,
    ) -> None:
        self._off_below, self._on_above = off_below, on_above
        self._trial = trial
        self._keep = 1.0 - 1.0 / memory
        self.clear()

    def clear(self) -> None:
        """On, with nothing known."""
        self.on = True
        self._offers = 0.0
        self._hits = 0.0

    @property
    def share(self) -> float | None:
        """Share of right guesses; None while there were none to judge."""
        return self._hits / self._offers if self._offers else None

    def add(self, offers: int, hits: int) -> None:
        """A pass went by in which the source guessed ``offers`` tokens and ``hits`` were right."""
        if not offers:
            return
        keep = self._keep ** offers
        self._offers = self._offers * keep + offers
        self._hits = self._hits * keep + hits
        if self._offers >= self._trial:
            threshold = self._off_below if self.on else self._on_above
            self.on = self._hits / self._offers >= threshold
