"""What became of a draft's words: still open, kept, struck out, put in. All text that comes out is safe for screens."""
from __future__ import annotations

import difflib
import enum
from typing import NamedTuple

from crossspec_ros.speculation.types import Caption, Stage
from crossspec_ros.view.safe import clean


class Fate(str, enum.Enum):
    """Kept: in both texts, or verified; struck: only in the draft; added: only in the caption; open: not verified."""

    KEPT = 'kept'
    STRUCK = 'struck'
    ADDED = 'added'
    OPEN = 'open'


class Run(NamedTuple):
    """Neighbouring words with the same fate, joined by spaces."""

    fate: Fate
    text: str


def compare(draft: str, caption: str) -> list[Run]:
    """The way from the draft to the caption, word by word; struck words stand before those that replace them."""
    before, after = clean(draft).split(), clean(caption).split()
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
    return ' '.join(clean(draft).split()[len(clean(verified).split()):])


def standing(draft: str, caption: Caption | None) -> list[Run]:
    """A window's words as they stand now, of its draft ('' for none) and its newest caption of any stage.

    While the caption grows its verified start is kept and the rest of the draft open; in the end what was struck out
    and put in is told, where there was a draft.
    """
    if caption is None:
        runs = [Run(Fate.OPEN, clean(draft))]
    elif caption.stage is Stage.FINAL:
        runs = compare(draft, caption.text) if draft else [Run(Fate.KEPT, clean(caption.text))]
    else:
        verified = caption.text[:caption.stable_length]
        runs = [Run(Fate.KEPT, clean(verified)), Run(Fate.OPEN, remainder(draft, verified))]
    return [run for run in runs if run.text]
