"""Text from outside made safe for screens: the one place that cleans captions, drafts, prompts and names.

A model, a node or a file of others may put anything into a text: escape sequences that drive a terminal, marks that
turn the reading direction of all that follows, characters that take no room, and markup of the page that shows it. The
screens (terminal, overlay, report, viewer) show what `clean` returns; those that know markup escape it too.
"""
from __future__ import annotations

import html
import re
import unicodedata

REPLACED = '\N{REPLACEMENT CHARACTER}'                          # where something was taken out: nothing goes unseen
_LONGEST = 4000                                                 # characters; a screen has no room for more
_PUNCTUATION = re.compile(r'([!-/:-@\[-`{-~])')                 # of ASCII: all that CommonMark lets one escape
# Format characters that belong to words: joiners of scripts and emoji, and the number signs of Arabic.
_KEPT = frozenset('\u200c\u200d\u06dd\u070f\u08e2') | {chr(code) for code in range(0x600, 0x606)}


def _safe(character: str) -> str:
    category = unicodedata.category(character)
    if character in '\t\n\v\f\r\x85' or category in ('Zl', 'Zp'):
        return ' '
    return REPLACED if category in ('Cc', 'Cs') or (category == 'Cf' and character not in _KEPT) else character


def clean(text: str) -> str:
    """The text on one line, without what would act on a screen instead of being read.

    Control characters (with them every escape sequence), marks of reading direction and characters without width are
    replaced by U+FFFD, line ends by a space; a text of more than 4000 characters ends in an ellipsis.
    """
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + '…'
    return text if text.isascii() and text.isprintable() else ''.join(map(_safe, text))


def markdown(text: str) -> str:
    """Cleaned, and such that CommonMark shows it as it is: no emphasis, link, picture, HTML or code comes of it."""
    return _PUNCTUATION.sub(r'\\\1', ' '.join(clean(text).split()))


def rich_text(text: str) -> str:
    """Cleaned, and such that HTML shows it as it is, also within an attribute."""
    return html.escape(clean(text))
