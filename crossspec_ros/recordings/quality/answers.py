"""Whether an answer is right: by its text, or by the choice that it names. Pure functions.

Texts are compared as in SQuAD (Rajpurkar 2016, 1606.05250): lower case, without punctuation, articles and double space.
"""
from __future__ import annotations

import re
import string
from collections.abc import Sequence

from crossspec_ros.recordings.quality.items import QualityItem

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)
_MARKED = re.compile(r'\(([A-Z])\)|\b(?i:answer|option|choice)(?i:\s+is)?\s*:?\s*\(?([A-Z])\b|'
                     r'^\s*([A-Z])\s*(?:[.):,]|$)')


def normalised(text: str) -> str:
    """The text as it is compared."""
    return ' '.join(_ARTICLES.sub(' ', text.lower().translate(_PUNCTUATION)).split())


def exact(text: str, answers: Sequence[str]) -> bool:
    """Whether the text is one of the answers."""
    return normalised(text) in set(map(normalised, answers))


def chosen(text: str, choices: Sequence[str]) -> int | None:
    """Index of the choice that a text names; None where it names none, or several.

    By its letter ("B", "(B)", "B. red", "the answer is B"), else by its text: all of it, or the only one of the
    choices that stands in it as whole words.
    """
    letters = {next(filter(None, match)) for match in _MARKED.findall(text)}
    places = {place for letter in letters if (place := ord(letter) - ord('A')) < len(choices)}
    if len(places) == 1:
        return places.pop()
    said = normalised(text)
    same = [place for place, choice in enumerate(choices) if normalised(choice) == said]
    if len(same) == 1:
        return same[0]
    inside = [place for place, choice in enumerate(choices)
              if normalised(choice) and f' {normalised(choice)} ' in f' {said} ']
    return inside[0] if len(inside) == 1 and not places else None


def right(text: str, item: QualityItem) -> bool | None:
    """Whether a text answers an item; None where the item has no answer to compare with."""
    if not item.answers:
        return None
    if item.choices is None:
        return exact(text, item.answers)
    place = chosen(text, item.choices)
    return place is not None and item.choices[place] in item.answers
