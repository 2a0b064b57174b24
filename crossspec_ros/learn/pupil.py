"""The drafter that is to learn: the base's eyes, words of the verifier's own."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.lessons import Lessons
from crossspec_ros.learn.settings import SCRATCH, LearnConfig
from crossspec_ros.models.drafter import FORMAT, EventDrafter, load_drafter
from crossspec_ros.models.tokenizer import question_of, tokenizer_key
from crossspec_ros.speculation.target import Target

_MOST_QUESTION, _MOST_CAPTION, _SPARE = 128, 512, 16


def load_base(config: LearnConfig) -> EventDrafter:
    """The drafter to begin with; for ``none`` the built-in one's shapes with random weights."""
    if config.base != SCRATCH:
        return load_drafter(config.base)
    shapes = load_drafter('builtin')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return EventDrafter(replace(shapes.config, tokenizer_key='', verifier_key='', verifier=''), shapes.tokenizer)


def words_of(target: Target) -> Tokenizer:
    """The verifier's tokenizer as a drafter carries it. Raises CrossSpecError where it has none of that kind."""
    inner = getattr(target.tokenizer, 'backend_tokenizer', None)
    if not isinstance(inner, Tokenizer):
        raise CrossSpecError('the verifier must have a fast tokenizer (tokenizer.json) for a drafter to learn its '
                             f'tokens, got {type(target.tokenizer).__name__}; save it with save_pretrained')
    words = Tokenizer.from_str(inner.to_str())           # settings of truncation and padding are not the drafter's
    words.no_truncation()
    words.no_padding()
    if tokenizer_key(words) != target.tokenizer_key:
        raise CrossSpecError('the verifier\'s tokenizer must be the same once it is saved, got another vocabulary')
    return words


def question_rows(words: Tokenizer, prompt: str) -> list[int]:
    """Tokens of a question as a drafter is asked it."""
    return words.encode(f'{question_of(prompt)} ASSISTANT:', add_special_tokens=False).ids


def make_pupil(base: EventDrafter, target: Target, lessons: Lessons, config: LearnConfig, key: str) -> EventDrafter:
    """A drafter with the base's weights where they fit, and the words that the verifier said.

    The encoder and the decoder's layers are the base's; a word begins as the base's own where the vocabulary is the
    same, else as the mean of the base's words for its text.
    ``key`` is that of the verifier's checkpoint.
    """
    words = words_of(target)
    questions = [question_rows(words, prompt) for prompt in config.prompts]
    eos_id = target.eos_ids[0]
    longest = max(map(len, questions))
    shape = replace(
        base.config, vocab_size=target.vocab_size, tokenizer_key=target.tokenizer_key, eos_token_id=eos_id,
        kept_ids=lessons.kept_ids(questions, eos_id), verifier_key=key, verifier=Path(config.model).name,
        max_question_tokens=min(_MOST_QUESTION, max(base.config.max_question_tokens, longest)),
        max_caption_tokens=min(_MOST_CAPTION, max(base.config.max_caption_tokens, lessons.longest() + _SPARE)),
        format=FORMAT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        pupil = EventDrafter(shape, words)
    with torch.no_grad():
        for part in ('encoder', 'layers', 'norm'):
            getattr(pupil, part).load_state_dict(getattr(base, part).state_dict())
        same = base.tokenizer_key == target.tokenizer_key
        for row, token in enumerate(shape.kept_ids, start=1):
            ids = [token] if same else base.tokenizer.encode(words.decode([token], skip_special_tokens=False),
                                                             add_special_tokens=False).ids
            if ids:
                pupil.embed.weight[row] = base.embed.weight[base.rows_of(ids)].mean(0)
    return pupil
