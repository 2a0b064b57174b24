"""From a question to the text that a model is asked: by the processor's chat template, the tokenizer's, the adapter's.

Templates differ in what they take for the content of a message: a list of parts ({'type': 'video'}, {'type': 'image'},
{'type': 'text'}), or plain text with the placeholder in it. Each way is tried until one gives a text that holds the
placeholder and the question.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from transformers import PreTrainedTokenizerBase

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.files import one_line, read_object, refuse_pointer

_log = logging.getLogger(__name__)
LONGEST_PROMPT = 100_000        # characters; a longer one is refused before the tokenizer spends time on it
_CLASS_TEMPLATE = "template of the processor's class"
_FOLDER_FILES = ('chat_template.json', 'processor_config.json')

Content = str | list[dict[str, str]]
Fill = Callable[[Content], str]


def check_text(name: str, text: object) -> None:
    """Raise `CrossSpecError` unless what is called ``name`` is text that UTF-8 can hold."""
    if not isinstance(text, str):
        raise CrossSpecError(f'{name} must be a text, got {type(text).__name__}')
    try:
        text.encode('utf-8')
    except UnicodeEncodeError as error:
        raise CrossSpecError(f'{name} must be text that UTF-8 can hold, got a lone surrogate '
                             f'({ascii(text[error.start])}) at character {error.start}; leave it out') from error


def check_question(question: object) -> None:
    """Raise `CrossSpecError` unless a prompt is text that a tokenizer can take."""
    check_text('prompt', question)
    if not question.strip():
        raise CrossSpecError(f'prompt must not be empty, got {question[:20]!r}')
    if len(question) > LONGEST_PROMPT:
        raise CrossSpecError(f'prompt must be at most {LONGEST_PROMPT} characters, got {len(question)}')


def render(processor: Any | None, tokenizer: PreTrainedTokenizerBase, folder: Path, question: str, frames: int,
           fallback_template: str | None, placeholder: str, each_frame: bool = False) -> str:
    """The text of a prompt for so many frames, the placeholder not yet repeated for every embedding.

    A ``question`` that holds ``placeholder`` is taken as the whole prompt. ``fallback_template`` is the adapter's, with
    {video} and {question} in it; ``each_frame``: the placeholder stands for one frame instead of for the clip.
    Raises `CrossSpecError` for a question that is no text, and where no way gives a text that holds both.
    """
    check_question(question)
    if frames < 1:
        raise CrossSpecError(f'window_frames must be >= 1, got {frames}')
    if placeholder in question:
        return question
    marks = placeholder * (frames if each_frame else 1)
    failures: list[str] = []
    for name, fill in _templates(processor, tokenizer, folder):
        for content in _contents(question, frames, marks, each_frame):
            try:
                text = fill(content)
            except Exception as error:              # jinja's errors and those a template raises have no common base
                if name != _CLASS_TEMPLATE:         # most classes have none, which is no failure
                    failures.append(f'the {name} says {type(error).__name__}: {one_line(error, 120)}')
                continue
            if _holds(text, content, question, placeholder):
                return text
            failures.append(f'the {name} leaves out the frames or the question')
    if fallback_template is not None:
        if failures:
            _log.warning('the chat templates in %s cannot be used for a question with frames (%s); that of the model '
                         'class is', folder, failures[0])
        return fallback_template.replace('{video}', marks).replace('{question}', question)
    reason = failures[0] if failures else 'it has none'
    raise CrossSpecError(f'chat template of {folder} must take a question with frames, but {reason}; '
                         f'give a whole prompt that holds {placeholder}')


def starts_itself(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a rendered text has the first special token in it, so that the tokenizer is not to add another."""
    first = tokenizer.bos_token
    return bool(first) and text.startswith(first)


def _contents(question: str, frames: int, marks: str, each_frame: bool) -> Iterator[Content]:
    """What a message may hold, the likeliest first; text last, since a template that takes parts knows its marks."""
    text = {'type': 'text', 'text': question}
    video, images = [{'type': 'video'}, text], [*({'type': 'image'} for _ in range(frames)), text]
    yield from (images, video) if each_frame else (video, images)
    yield f'{marks}\n{question}'


def _holds(text: object, content: Content, question: str, placeholder: str) -> bool:
    """Whether a template took the content: one that wants text may print a list as Python would."""
    return (isinstance(text, str) and placeholder in text and question.strip() in text
            and (isinstance(content, str) or str(content) not in text))


def _templates(processor: Any | None, tokenizer: PreTrainedTokenizerBase,
               folder: Path) -> Iterator[tuple[str, Fill]]:
    """Names of the chat templates, first to last, and what fills each; the same text is tried once."""
    seen: list[str] = []
    if processor is not None and not getattr(processor, 'chat_template', None):
        # some classes bring a template of their own, which no file shows
        yield _CLASS_TEMPLATE, lambda content: processor.apply_chat_template(
            [{'role': 'user', 'content': content}], tokenize=False, add_generation_prompt=True)
    for name, template in _sources(processor, tokenizer, folder):
        if template is None or template in seen:
            continue
        seen.append(template)
        # A processor's own method may change the template for clips, so it is asked where it is there.
        owner = processor if name.startswith('processor') and processor is not None else tokenizer

        def fill(content: Content, owner: Any = owner, template: str = template) -> str:
            return owner.apply_chat_template([{'role': 'user', 'content': content}], chat_template=template,
                                             tokenize=False, add_generation_prompt=True)
        yield name, fill


def _sources(processor: Any | None, tokenizer: PreTrainedTokenizerBase,
             folder: Path) -> Iterator[tuple[str, str | None]]:
    if processor is not None:
        yield "processor's chat template", _default(getattr(processor, 'chat_template', None), folder)
    jinja = folder / 'chat_template.jinja'
    if jinja.is_file():
        refuse_pointer(jinja)
        try:
            yield jinja.name, jinja.read_text(encoding='utf-8')
        except UnicodeDecodeError as error:
            raise CrossSpecError(f'{jinja} must be text in UTF-8, got other bytes at {error.start}; copy it again'
                                 ) from error
    for name in _FOLDER_FILES:
        path = folder / name
        if path.is_file():
            yield name, _default(read_object(path).get('chat_template'), path)
    yield "tokenizer's chat template", _default(tokenizer.chat_template, folder)


def _default(template: Any, where: Path) -> str | None:
    """The template of this name among several. Raises `CrossSpecError` for what is no template."""
    if isinstance(template, list):                   # the older form: [{'name': ..., 'template': ...}, ...]
        named = [one for one in template if isinstance(one, Mapping)]
        template = {one.get('name'): one.get('template') for one in named}
    if isinstance(template, Mapping):
        template = template.get('default')
    if template is not None and not isinstance(template, str):
        raise CrossSpecError(f'chat_template in {where} must be a text, got {type(template).__name__}')
    return template
