"""Tokens a pass of a drafter that drafts the rest of the caption after every verdict, from where it would be right.

Along the accepted text a drafter's context is the true one, so a chain of drafts stands for as long as the drafter is
right place after place: no drafting is needed to count, only what it would say after each true prefix.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST = 96


def chain_row(drive: str, right: Sequence[bool], length: int = MOST) -> dict[str, Any]:
    """A window's passes, tokens, drafted and accepted; ``right``: at each place of the answer, given what is before.

    ``length``: draft tokens of a pass at most. The first pass verifies a draft too.
    """
    done = passes = drafted = accepted = 0
    while done < len(right):
        offered = min(length, len(right) - done)
        run = next((place for place in range(offered) if not right[done + place]), offered)
        passes, drafted, accepted = passes + 1, drafted + offered, accepted + run
        done += run + 1
    return {'drive': drive, 'passes': passes, 'tokens': len(right), 'drafted': drafted, 'accepted': accepted,
            'right': int(sum(right))}
