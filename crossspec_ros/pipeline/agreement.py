"""How sure one may be of an answer: whether drafter and verifier say the same, and for how long it has stood.

Both are counts of what was said, no probabilities: a planner decides what it makes of them.
"""
from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

AGREES, DIFFERS, UNKNOWN = 'agrees', 'differs', 'unknown'
ANSWER = 'answer'
_KEPT_QUESTIONS = 64


@dataclass(frozen=True)
class Field:
    """A field of an answer: its value as JSON, what the draft says to it, and answers in a row that said the same."""

    name: str
    value: str
    agreement: str
    stood: int


def fields_of(text: str) -> dict[str, Any]:
    """The fields of an answer: of its JSON object where it is one, else the whole as one field."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {ANSWER: text}


def compare(name: str, value: Any, draft: str) -> str:
    """What a draft says to a field.

    A draft of the same form says it by its field of that name. One in words agrees with a text whose words stand in it
    one after the other; it differs from no value: what it leaves out it may not have been asked.
    """
    if not draft.strip():
        return UNKNOWN
    said = fields_of(draft)
    if set(said) != {ANSWER}:
        return UNKNOWN if name not in said else AGREES if said[name] == value else DIFFERS
    if name == ANSWER:
        return AGREES if _words(draft) == _words(str(value)) else DIFFERS
    words = _words(value) if isinstance(value, str) else ''
    return AGREES if words and f' {words} ' in f' {_words(draft)} ' else UNKNOWN


def _words(text: str) -> str:
    return ' '.join(re.findall(r'\w+', text.lower()))


class Standing:
    """For how many answers in a row each field has said the same, by question and form."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, dict[str, tuple[str, int]]] = OrderedDict()

    def judge(self, key: str, text: str, draft: str = '') -> list[Field]:
        """The fields of an answer; ``key`` names question and form, ``draft`` is the newest text of a drafter."""
        before = self._last.pop(key, {})
        fields = []
        for name, value in fields_of(text).items():
            shown = json.dumps(value)
            said, stood = before.get(name, ('', 0))
            fields.append(Field(name, shown, compare(name, value, draft), stood + 1 if said == shown else 1))
        self._last[key] = {field.name: (field.value, field.stood) for field in fields}
        while len(self._last) > _KEPT_QUESTIONS:
            self._last.popitem(last=False)
        return fields

    def reset(self) -> None:
        """Forget what was said: time jumped."""
        self._last.clear()
