"""Tokenizers of the built-in pair and the key by which two processes know that they mean the same tokens."""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from crossspec_ros.errors import CrossSpecError

TOKENIZER_FILE = 'tokenizer.json'
PROMPT_BEGIN, PROMPT_END = 'USER: <video>\n', ' ASSISTANT:'


class HasVocabulary(Protocol):
    """Any tokenizer that can list its vocabulary, added tokens included (``tokenizers`` and ``transformers`` both
    do)."""

    def get_vocab(self) -> dict[str, int]: ...


def tokenizer_key(tokenizer: HasVocabulary) -> str:
    """16 hex digits that name the vocabulary: sha256 over the sorted pairs of id and token.

    Two tokenizers with the same key turn every token id into the same text, so that draft tokens of one may be
    verified under the other.
    """
    digest = hashlib.sha256()
    for token, token_id in sorted(tokenizer.get_vocab().items(), key=lambda pair: (pair[1], pair[0])):
        digest.update(f'{token_id}\t{token}\n'.encode('utf-8', 'surrogatepass'))
    return digest.hexdigest()[:16]


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The fast tokenizer of a checkpoint folder, without ``transformers``.

    Raises CrossSpecError where ``tokenizer.json`` is missing or unreadable.
    """
    path = Path(folder) / TOKENIZER_FILE
    if not path.is_file():
        raise CrossSpecError(f'no {TOKENIZER_FILE} in {folder}: the checkpoint is incomplete, copy or train it again')
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:                       # the library raises plain Exception for every fault of the file
        raise CrossSpecError(f'{path} is no tokenizer file ({error}): copy or train the checkpoint again') from error


def question_of(prompt: str) -> str:
    """The question inside a Video-LLaVA prompt; a bare question is returned as it is."""
    text = prompt.strip()
    text = text.removeprefix(PROMPT_BEGIN.rstrip('\n')).strip()
    return text.removesuffix(PROMPT_END.strip()).strip()
