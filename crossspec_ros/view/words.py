"""What became of a draft's words: kept, struck out, put in."""
from __future__ import annotations

import difflib
import enum
from typing import NamedTuple


class Fate(str, enum.Enum):
    """Kept: in both texts; struck: only in the draft; added: only in the caption."""

    KEPT = 'kept'
    STRUCK = 'struck'
    ADDED = 'added'


class Run(NamedTuple):
    """Neighbouring words with the same fate, joined by spaces."""

    fate: Fate
    text: str


def compare(draft: str, caption: str) -> list[Run]:
    """The way from the draft to the caption, word by word; struck words stand before those that replace them."""
    before, after = draft.split(), caption.split()
    runs: list[Run] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == 'equal':
            runs.append(Run(Fate.KEPT, ' '.join(after[j1:j2])))
            continue
        runs += [Run(Fate.STRUCK, ' '.join(before[i1:i2]))] if i2 > i1 else []
        runs += [Run(Fate.ADDED, ' '.join(after[j1:j2]))] if j2 > j1 else []
    return runs


def remainder(draft: str, verified: str) -> str:
    """The draft's words that are still open when ``verified`` is the start of the caption.

    The draft goes on after as many words as are verified; a word that is only half verified counts as open, so that
    the line on the screen keeps its length while it turns from dim to solid.
    """
    return ' '.join(draft.split()[len(verified.split()):])
