"""Reading the small files of a checkpoint folder, with errors that name the file and what to do."""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from crossspec_ros.errors import CrossSpecError

_POINTER = b'version https://git-lfs.github.com/spec/'
_COLOURS = re.compile(r'\x1b\[[0-9;]*m')      # escapes with which some libraries print errors in a terminal
_LONGEST_JSON = 256 * 1024 * 1024        # bytes; tokenizer.json of the largest vocabularies are a tenth of it


def is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer: a few lines of text that stand for a file that was not fetched."""
    with path.open('rb') as file:
        return file.read(len(_POINTER)) == _POINTER


def refuse_pointer(path: Path) -> None:
    """Raise `CrossSpecError` where a file is a Git LFS pointer or cannot be opened."""
    try:
        pointer = is_pointer(path)
    except OSError as error:
        raise CrossSpecError(f'{path} must be a file that can be read, got {type(error).__name__}: '
                             f'{error.strerror}') from error
    if pointer:
        raise CrossSpecError(f'{path} must be the file itself, got a Git LFS pointer to it; '
                             'run git lfs pull in the folder it was cloned to')


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `CrossSpecError` for anything else, Git LFS pointers included."""
    refuse_pointer(path)
    size = path.stat().st_size
    if size > _LONGEST_JSON:
        raise CrossSpecError(f'{path} must be at most {_LONGEST_JSON} bytes, got {size}')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:          # a UnicodeDecodeError is a ValueError
        raise CrossSpecError(f'{path} must be a JSON object, got what is no JSON ({one_line(error)}); '
                             'copy it again from where the checkpoint came from') from error
    if not isinstance(content, dict):
        raise CrossSpecError(f'{path} must be a JSON object, got a {type(content).__name__}')
    return content


def one_line(error: BaseException, longest: int = 300) -> str:
    """What an error says, in one line of at most ``longest`` characters; its class where it says nothing."""
    text = _COLOURS.sub('', ' '.join(str(error).split()))
    text = text.partition(' If you were trying to load')[0]      # the rest is talk of the hub, for a folder
    if not text:
        return type(error).__name__
    return text if len(text) <= longest else text[:longest] + ' ...'
