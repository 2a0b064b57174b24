"""Rules over captions that say when a moment is worth keeping: a word, a field, a change."""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crossspec_ros.errors import CrossSpecError

_FORMS = 'word:TEXT, field:NAME=VALUE, change or change:NAME'


@dataclass(frozen=True)
class Rule:
    """``kind``: word, field or change; ``name``: the word or the field; ``value``: what the field must be."""

    kind: str
    name: str = ''
    value: str = ''

    def __str__(self) -> str:
        text = f'{self.kind}:{self.name}={self.value}' if self.kind == 'field' else f'{self.kind}:{self.name}'
        return text.rstrip(':')


def parse(text: str) -> Rule:
    """A rule of its text. Raises CrossSpecError with the forms that there are."""
    kind, _, rest = text.strip().partition(':')
    name, equals, value = rest.partition('=')
    if kind == 'word' and rest.strip():
        return Rule('word', rest.strip())
    if kind == 'field' and equals and name.strip():
        return Rule('field', name.strip(), value.strip())
    if kind == 'change' and not equals:
        return Rule('change', rest.strip())
    raise CrossSpecError(f'keep.rules must hold {_FORMS}, got {text!r}')


def fields_of(text: str, more: Mapping[str, Any]) -> dict[str, str]:
    """A caption's fields as text: those of its JSON where it is an object, then ``more``, those of the message."""
    try:
        content = json.loads(text) if text.lstrip().startswith('{') else {}
    except ValueError:
        content = {}                                            # words that begin with a brace
    return {str(key): _shown(value) for key, value in {**content, **more}.items()}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class RuleBook:
    """Judges final captions one after the other; remembers what the last one said."""

    def __init__(self, rules: tuple[str, ...]) -> None:
        """Raises CrossSpecError for a text that is no rule."""
        self._rules = [parse(text) for text in rules if text]
        self._tests: dict[str, Callable[[Rule, str, dict[str, str]], bool]] = {
            'word': self._has_word, 'field': self._has_value, 'change': self._has_changed}
        self._last: tuple[str, dict[str, str]] | None = None

    def judge(self, text: str, more: Mapping[str, Any] = {}) -> list[str]:
        """The rules that this caption fulfils, as their texts."""
        fields = fields_of(text, more)
        met = [str(rule) for rule in self._rules if self._tests[rule.kind](rule, text, fields)]
        self._last = text, fields
        return met

    def forget(self) -> None:
        """The next caption follows none."""
        self._last = None

    @staticmethod
    def _has_word(rule: Rule, text: str, fields: dict[str, str]) -> bool:
        return re.search(rf'(?<!\w){re.escape(rule.name)}(?!\w)', text, re.IGNORECASE) is not None

    @staticmethod
    def _has_value(rule: Rule, text: str, fields: dict[str, str]) -> bool:
        return fields.get(rule.name) == rule.value

    def _has_changed(self, rule: Rule, text: str, fields: dict[str, str]) -> bool:
        if self._last is None:
            return False
        before_text, before = self._last
        return text != before_text if not rule.name else fields.get(rule.name) != before.get(rule.name)
