"""Forms of answers from JSON schemas, lists of choices and regular expressions, by llguidance.

The grammar library is an optional part: ``pip install 'crossspec_ros[forms]'``.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from crossspec_ros.errors import CrossSpecError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from transformers import PreTrainedTokenizerFast

    from crossspec_ros.models.targets.transformers_target import TransformersTarget

_KEPT_TOKENIZERS = 4
_MAX_TEXT = 100_000              # characters of a schema; compiling takes time that captions wait for
_MAX_CHOICES = 1000


@dataclass(frozen=True)
class Form:
    """A form as it was asked for: ``kind`` is choices, json or regex; ``grammar`` is llguidance's text of it."""

    kind: str
    grammar: str

    @property
    def key(self) -> str:
        """16 hex digits that name the form."""
        return hashlib.sha256(f'{self.kind} {self.grammar}'.encode()).hexdigest()[:16]


def parse_form(text: str) -> Form | None:
    """A form of its text; None for an empty one.

    A JSON list of texts is a list of choices, a JSON object a JSON schema, ``/.../`` a regular expression. Raises
    `CrossSpecError` for anything else, for a schema that the grammar library does not take, and where it is absent.
    """
    text = text.strip()
    if not text:
        return None
    if len(text) > _MAX_TEXT:
        raise CrossSpecError(f'form must have at most {_MAX_TEXT} characters, got {len(text)}')
    if len(text) > 2 and text[0] == text[-1] == '/':
        return _checked('regex', _library().grammar_from_regex(text[1:-1]))
    try:
        content = json.loads(text)
    except ValueError as error:
        raise CrossSpecError('form must be a JSON list of choices, a JSON schema or /a regular expression/, got '
                             f'{text[:60]!r}: {error}') from error
    if isinstance(content, list):
        return _choices(content)
    if isinstance(content, dict):
        # Written one way only, as json.dumps would without blanks after breaks: freedom that says nothing costs passes.
        options = json.dumps({'whitespace_flexible': False})
        return _checked('json', _library().grammar_from_json_schema(json.dumps(content), overrides=json.loads(options)))
    raise CrossSpecError(f'form must be a JSON list of choices or a JSON schema, got {text[:60]!r}')


def _choices(content: Sequence[Any]) -> Form:
    if not content or len(content) > _MAX_CHOICES or not all(isinstance(one, str) and one for one in content):
        raise CrossSpecError(f'choices must be 1 to {_MAX_CHOICES} texts, none empty, got {str(list(content))[:60]}')
    alternatives = ' | '.join(json.dumps(one) for one in dict.fromkeys(content))
    return _checked('choices', _library().grammar_from_lark(f'start: {alternatives}'))


def _library() -> type[LLMatcher]:
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise CrossSpecError('answers of a given form need the grammar library llguidance; '
                             'pip install "crossspec_ros[forms]"') from error
    return LLMatcher


def _checked(kind: str, grammar: str) -> Form:
    fault = _library().validate_grammar(grammar)
    if fault:
        raise CrossSpecError(f'form must be one that the grammar library takes: {" ".join(fault.split())[:300]}')
    return Form(kind, grammar)


@lru_cache(maxsize=_KEPT_TOKENIZERS)
def _tokenizer(tokenizer: PreTrainedTokenizerFast, width: int, eos_ids: tuple[int, ...]) -> LLTokenizer:
    from llguidance.hf import from_tokenizer
    try:
        return from_tokenizer(tokenizer, n_vocab=width, eos_token=list(eos_ids))
    except Exception as error:  # noqa: BLE001 - the library raises bare errors of many kinds for what it cannot read
        raise CrossSpecError('answers of a given form need a tokenizer that the grammar library can read: '
                             f'{" ".join(str(error).split())[:200]}') from error


class GrammarConstraint:
    """`speculation.constraint.Constraint` over a matcher of llguidance."""

    def __init__(self, form: Form, target: TransformersTarget) -> None:
        """Raises `CrossSpecError` for a form or a tokenizer that cannot be served."""
        self.key, self._width = form.key, target.vocab_size
        width = self._width
        self._matcher = _library()(_tokenizer(target.tokenizer, width, target.eos_ids), form.grammar)
        self._check()
        self._taken: list[int] = []
        self._words = np.zeros((width + 31) // 32, np.int32)
        if not self.allowed(width).any():
            raise CrossSpecError('the form cannot be written with this model\'s vocabulary')

    def _check(self) -> None:
        if self._matcher.is_error():
            raise CrossSpecError(f'the form cannot be followed: {" ".join(self._matcher.get_error().split())[:300]}')

    def follow(self, token_ids: Sequence[int]) -> bool:
        """Go to the place after these tokens; False where they break the form."""
        same = 0
        for before, now in zip(self._taken, token_ids):
            if before != now:
                break
            same += 1
        if same < len(self._taken):
            self._matcher.rollback(len(self._taken) - same)
            del self._taken[same:]
        return all(self.step(token) for token in token_ids[same:])

    def step(self, token: int) -> bool:
        """Go on by a token; False where it may not follow here."""
        if not 0 <= token < self._width or self._matcher.try_consume_tokens([token]) != 1:
            return False
        self._taken.append(token)
        return True

    def back(self) -> None:
        """Undo the last step."""
        self._matcher.rollback(1)
        self._taken.pop()

    def allowed(self, width: int) -> np.ndarray:
        """bool (V,): the tokens that may follow here."""
        self._matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        self._check()
        return np.unpackbits(self._words.view(np.uint8), bitorder='little')[:width].astype(bool)

    def forced(self) -> Sequence[int]:
        """The tokens that must follow here."""
        return self._matcher.compute_ff_tokens()
