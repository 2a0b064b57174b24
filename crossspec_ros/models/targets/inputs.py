"""From a question to the text that a model is asked: the processor's chat template, the tokenizer's, or the adapter's."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from crossspec_ros.errors import CrossSpecError

LONGEST_PROMPT = 100_000        # characters; a longer one is refused before the tokenizer spends time on it


def check_prompt(prompt: object) -> None:
    """Raises `CrossSpecError` unless ``prompt`` is a text that a tokenizer can take."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise CrossSpecError(f'prompt must not be empty, got {prompt!r}' if isinstance(prompt, str) else
                             f'prompt must be a text, got {type(prompt).__name__}')
    if len(prompt) > LONGEST_PROMPT:
        raise CrossSpecError(f'prompt must be at most {LONGEST_PROMPT} characters, got {len(prompt)}')
    try:
        prompt.encode('utf-8')
    except UnicodeEncodeError as error:
        raise CrossSpecError(f'prompt must be text that UTF-8 can hold, got a lone surrogate at character '
                             f'{error.start}; leave it out') from error


def chat_template(folder: Path) -> str | None:
    """The processor's own chat template: ``chat_template.jinja``, then ``chat_template.json``; None without."""
    jinja, older = folder / 'chat_template.jinja', folder / 'chat_template.json'
    if jinja.is_file():
        return jinja.read_text(encoding='utf-8')
    if not older.is_file():
        return None
    try:
        return json.loads(older.read_text(encoding='utf-8'))['chat_template']
    except (ValueError, KeyError, TypeError) as error:
        raise CrossSpecError(f'{older} must be a JSON object with a chat_template: {error}') from error


def render(prompt: str, tokenizer: PreTrainedTokenizerBase, templates: Sequence[str | None], pictures: Sequence[str],
           placeholders: Sequence[str], fallback: str | None) -> str:
    """The text with its placeholders: a bare question is put into the first chat template that there is.

    ``pictures`` are the types of what is shown ('video', or 'image' for every frame), ``placeholders`` what stands for
    them in a text: a prompt that holds one is taken as it is. ``fallback`` has {video} and {question} in it.
    """
    if any(mark in prompt for mark in placeholders):
        return prompt
    content = [{'type': kind} for kind in pictures] + [{'type': 'text', 'text': prompt}]
    for template in filter(None, templates):
        try:
            filled = tokenizer.apply_chat_template([{'role': 'user', 'content': content}], chat_template=template,
                                                   tokenize=False, add_generation_prompt=True)
        except Exception as error:              # jinja's errors have no common base with those a template raises
            raise CrossSpecError(f'the chat template cannot take a question: {error}; '
                                 f'give a whole prompt that holds {placeholders[0]}') from error
        if any(mark in filled for mark in placeholders):
            return filled
    if fallback is None:
        raise CrossSpecError(f'prompt must hold {placeholders[0]}, since the checkpoint has no chat template that takes '
                             f'frames, got {prompt[:60]!r}')
    return fallback.format(video=placeholders[0] * len(pictures), question=prompt)
