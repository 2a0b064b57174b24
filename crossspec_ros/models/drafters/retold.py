"""A drafter of another vocabulary that speaks in the verifier's tokens: its text is tokenised again, here.

So its drafts carry an end token, and it goes on from verdicts, which are in the verifier's tokens. A node that does not
have the verifier's tokenizer sends drafts in its own tokens; then the verifier tokenises their text again.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from crossspec_ros.models.drafter import DraftTokens
from crossspec_ros.models.drafters.captioning import CaptioningDrafter
from crossspec_ros.models.tokenizer import tokenizer_key
from crossspec_ros.speculation.drafter import View


class Words(Protocol):
    """Text from and to the tokens of one vocabulary."""

    key: str
    eos_id: int | None

    def encode(self, text: str) -> tuple[int, ...]: ...

    def decode(self, token_ids: Sequence[int]) -> str: ...


class FolderWords:
    """The tokenizer of a checkpoint folder, used as its target uses it. Raises `CrossSpecError` where there is none."""

    def __init__(self, folder: Path) -> None:
        from crossspec_ros.models.loading import load_tokenizer
        self._tokenizer = load_tokenizer(folder)
        self.key, self.eos_id = tokenizer_key(self._tokenizer), self._tokenizer.eos_token_id

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer's text."""
        return tuple(self._tokenizer(text, add_special_tokens=False)['input_ids'])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of an answer's tokens, special tokens left out."""
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def retell(words: Words, text: str, before: str = '', complete: bool = False) -> tuple[int, ...]:
    """Tokens of what ``text`` says after ``before``, with which it begins, and the end token where it is complete.

    Where a token of the whole reaches over that border the rest is tokenised by itself. Empty where ``text`` begins in
    another way.
    """
    if not text.startswith(before):
        return ()
    whole, start = words.encode(text), words.encode(before)
    rest = whole[len(start):] if whole[:len(start)] == start else words.encode(text[len(before):])
    return (*rest, words.eos_id) if complete and words.eos_id is not None else rest


class RetoldDrafter:
    """`speculation.drafter.Drafter` over one that has another vocabulary."""

    def __init__(self, drafter: CaptioningDrafter, words: Words) -> None:
        self.drafter, self.words = drafter, words
        self.tokenizer_key, self.verifier_key = words.key, drafter.verifier_key

    @property
    def view(self) -> View:
        """What it eats."""
        return self.drafter.view

    def draft(self, seen: Any, *, prompt: str, prefix_ids: Sequence[int] = (), max_tokens: int = 64,
              should_stop: Callable[[], bool] | None = None) -> DraftTokens:
        """The caption after ``prefix_ids`` in the verifier's tokens; ``max_tokens`` are the drafter's own."""
        if prefix_ids and prefix_ids[-1] == self.words.eos_id:
            return DraftTokens((), (), (), self.words.decode(prefix_ids), 0.0, False)
        before = self.words.decode(prefix_ids)
        made = self.drafter.draft(seen, prompt=prompt, prefix_ids=self.drafter.target.encode_text(before),
                                  max_tokens=max_tokens, should_stop=should_stop)
        return replace(made, token_ids=retell(self.words, made.text, before, made.complete))
