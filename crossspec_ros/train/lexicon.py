"""The words of ``lexicon.txt``: what people say of roads beyond the captions of the driving world."""
from __future__ import annotations

from importlib.resources import files


def lexicon() -> list[str]:
    """Words with their endings, without doubles, in the order of the file."""
    text = files(__package__).joinpath('lexicon.txt').read_text(encoding='utf-8')
    words: dict[str, None] = {}
    for line in text.splitlines():
        if line.startswith('#'):
            continue
        for entry in line.split():
            stem, *endings = entry.split('/')
            words.update(dict.fromkeys([stem, *(stem + ending for ending in endings)]))
    return list(words)
