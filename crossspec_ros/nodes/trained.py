"""Says on /diagnostics that a drafter was trained for another verifier than the one beside it."""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from crossspec_ros.speculation.drafter import NOT_TRAINED


class TrainedFor:
    """A source of `nodes.health.Health`; ``ask`` names the drafters, by the source of their drafts, that it is true of.
    """

    def __init__(self, ask: Callable[[], Collection[str]]) -> None:
        self._ask = ask

    def tick(self) -> dict[str, str]:
        """The warning, while it holds."""
        names = sorted(self._ask())
        if not names:
            return {}
        return {'other_verifier': f'{", ".join(names)}: {NOT_TRAINED}; drafts are used, words are not shown '
                                  '(show_untrained); learn a drafter with `crossspec learn`'}

    def statistics(self) -> Mapping[str, object]:
        """The same as a value."""
        return {'other_verifier': ', '.join(sorted(self._ask()))} if self._ask() else {}
