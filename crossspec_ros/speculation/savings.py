"""What each draft source saved, in milliseconds, estimated from the measured cost of forwards."""
from __future__ import annotations

from collections.abc import Mapping

from crossspec_ros.speculation.budget import CostCurve


def saved_ms(sources: Mapping[str, Mapping[str, float]], cost: CostCurve) -> dict[str, float | None]:
    """Milliseconds saved by source: what its accepted tokens would have cost one by one, less what its nodes cost.

    An accepted token saves a plain pass, c(1). A node costs what one more token adds to a pass, the slope of c between
    1 and 65 tokens. A token that several sources proposed counts for each of them, so the figures do not add up. None
    while nothing was measured.
    """
    if not cost.known:
        return dict.fromkeys(sources)
    plain_ms, node_ms = cost(1), (cost(65) - cost(1)) / 64
    return {name: counts['num_accepted_tokens'] * plain_ms - counts['num_draft_tokens'] * node_ms
            for name, counts in sources.items()}
