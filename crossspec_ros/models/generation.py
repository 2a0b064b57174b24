"""What a checkpoint's own greedy `generate` does to logits, done to every row of a verified tree.

`generate` takes its settings from generation_config.json and turns them into logits processors that see all tokens so
far, the prompt's included. Here the same objects of transformers, made by the model's own methods, are given each row
of a tree with the row's own path as history, so that a token is accepted exactly where `generate` would have chosen it.
What cannot be done row by row (beams, guidance, watermarks, a clock) is refused by name.

Shape letters: n nodes of a tree, V width of the logits, R rows of one history length, H that length.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import torch

from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import logits_process as processors_of
from transformers.generation.configuration_utils import GenerationMode

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.files import one_line, read_object
from crossspec_ros.models.generation_rules import check_settings, refused_settings
from crossspec_ros.speculation.tree import PREFIX, TokenTree

GENERATION_FILE = 'generation_config.json'
_KEPT_PROMPTS = 8
_TRIAL_PROMPT = 8            # tokens of the made-up prompt with which settings are tried when they are loaded

# Processors that treat every row by itself and keep nothing of a call but tables that depend on the settings alone.
_ROW_BY_ROW = {getattr(processors_of, name) for name in (
    'EncoderNoRepeatNGramLogitsProcessor', 'ExponentialDecayLengthPenalty', 'ForcedBOSTokenLogitsProcessor',
    'ForcedEOSTokenLogitsProcessor', 'InfNanRemoveLogitsProcessor', 'LogitNormalization', 'MinLengthLogitsProcessor',
    'MinNewTokensLengthLogitsProcessor', 'NoBadWordsLogitsProcessor', 'NoRepeatNGramLogitsProcessor',
    'RepetitionPenaltyLogitsProcessor', 'SequenceBiasLogitsProcessor', 'SuppressTokensAtBeginLogitsProcessor',
    'SuppressTokensLogitsProcessor')}
# Those that are right for a batch of one only: its prompt is scattered into the first row of the scores.
_ONE_ROW = {processors_of.EncoderRepetitionPenaltyLogitsProcessor}
_GREEDY_MODES = {GenerationMode.GREEDY_SEARCH, GenerationMode.ASSISTED_GENERATION}


class Scorer:
    """The logits processors of one model, for trees. Made by `make_scorer`; used by one thread at a time."""

    def __init__(self, model: PreTrainedModel, max_new_tokens: int, eos_ids: Sequence[int],
                 banned_ids: Sequence[int] = ()) -> None:
        self._model, self._max_new_tokens, self._eos_ids = model, max_new_tokens, list(eos_ids)
        self._suppressed = suppressed_ids(model, banned_ids) or None
        self._processors = lru_cache(maxsize=_KEPT_PROMPTS)(self._make)

    def _make(self, prompt_ids: tuple[int, ...], device: torch.device) -> LogitsProcessorList:
        """Processors for a prompt, as `generate` makes them for its ``input_ids``."""
        model, count = self._model, len(prompt_ids)
        settings, _ = model._prepare_generation_config(
            None, do_sample=False, max_new_tokens=self._max_new_tokens, eos_token_id=self._eos_ids,
            suppress_tokens=self._suppressed)
        if settings.get_generation_mode() not in _GREEDY_MODES:
            raise CrossSpecError(f'{GENERATION_FILE} must ask for greedy decoding of one sequence, '
                                 f'got {settings.get_generation_mode().value}')
        ids = torch.tensor([prompt_ids], dtype=torch.long, device=device)
        model._prepare_special_tokens(settings, True, device=device, batch_size=1)
        # True, True: only a warning hangs on them where max_new_tokens is given and there are input_ids.
        settings = model._prepare_generated_length(settings, True, True, 'input_ids', count, ids)
        return model._get_logits_processor(settings, input_ids_seq_length=count, encoder_input_ids=ids,
                                           logits_processor=LogitsProcessorList(), device=device, model_kwargs={})

    def names(self) -> tuple[str, ...]:
        """Class names of the processors, in the order in which they are applied."""
        made = self._processors((0,) * _TRIAL_PROMPT, torch.device('cpu'))
        return tuple(type(processor).__name__ for processor in made)

    @torch.inference_mode()
    def __call__(self, logits: torch.Tensor, prompt_ids: Sequence[int], committed: Sequence[int],
                 tree: TokenTree) -> torch.Tensor:
        """Logits (n + 1, V) float32 as `generate` would rank them; those given are left as they are.

        Row 0 follows ``prompt_ids`` and ``committed``, row i + 1 node i of the tree. Raises `CrossSpecError` where the
        logits do not fit the tree.
        """
        if logits.ndim != 2 or len(logits) != len(tree) + 1:
            raise CrossSpecError(f'logits must have a row for the prefix and each of {len(tree)} nodes, '
                                 f'got shape {tuple(logits.shape)}')
        prompt_ids = tuple(prompt_ids)
        made = self._processors(prompt_ids, logits.device)
        prefix = [*prompt_ids, *committed]
        single = any(type(processor) in _ONE_ROW for processor in made)
        scored = torch.empty_like(logits)
        for rows in _levels(tree):
            history = torch.tensor([prefix + tree.tokens_to(row - 1) for row in rows], device=logits.device)   # (R, H)
            for part in range(len(rows)) if single else (slice(None),):
                index = [rows[part]] if single else rows
                # indexing copies, so a processor that writes into its scores writes into the copy
                scored[index] = made(history[part, None] if single else history, logits[index])
        return scored


def make_scorer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, max_new_tokens: int,
                eos_ids: Sequence[int] | None = None, banned_ids: Sequence[int] = ()) -> Scorer | None:
    """What the model's generation settings do to logits in greedy decoding, or None where they do nothing.

    ``max_new_tokens`` is the longest answer, which forced ends hang on; ``eos_ids`` are the end tokens (`end_ids` where
    None), ``banned_ids`` are put to minus infinity with the file's ``suppress_tokens``, as a `generate` given
    `suppressed_ids` would. Sampling settings are left out, as the greedy rule does. Raises `CrossSpecError` for
    settings that cannot be obeyed, have a value of the wrong type, or fail in transformers.
    """
    if max_new_tokens < 1:
        raise CrossSpecError(f'max_new_tokens must be >= 1, got {max_new_tokens}')
    settings = _settings(model)
    check_settings(settings.to_dict(), GENERATION_FILE)
    refused = refused_settings(settings.to_dict())
    if refused:
        raise CrossSpecError(f'{GENERATION_FILE} must hold only what greedy decoding can obey; {"; ".join(refused)}')
    scorer = Scorer(model, max_new_tokens, end_ids(model, tokenizer) if eos_ids is None else eos_ids)
    try:
        made = scorer._processors((0,) * _TRIAL_PROMPT, torch.device('cpu'))
        _try(made, _width(model), max_new_tokens)
    except CrossSpecError:
        raise
    except Exception as error:                     # each processor checks its settings in its own way, and few say how
        raise CrossSpecError(f'{GENERATION_FILE} must hold settings that transformers can apply, got '
                             f'{_named(settings)}: {one_line(error)}; mend the value there') from error
    foreign = [type(processor).__name__ for processor in made if type(processor) not in _ROW_BY_ROW | _ONE_ROW]
    if foreign:
        raise CrossSpecError(f'{GENERATION_FILE} must ask for processors that are known to treat rows by themselves, '
                             f'got {", ".join(foreign)} of {type(model).__name__}')
    return Scorer(model, max_new_tokens, scorer._eos_ids, banned_ids) if made else None


def refusals(model: PreTrainedModel) -> tuple[str, ...]:
    """A sentence for each generation setting of the model that cannot be obeyed; empty where all can."""
    return refused_settings(_settings(model).to_dict())


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> tuple[int, ...]:
    """End tokens: of the generation settings, else of the text model's config, else of the tokenizer.

    Raises `CrossSpecError` where none is named.
    """
    text = model.config.get_text_config()
    for value in (_settings(model).eos_token_id, getattr(text, 'eos_token_id', None),
                  getattr(tokenizer, 'eos_token_id', None)):
        if value is not None:
            check_settings({'eos_token_id': value}, GENERATION_FILE)
            ids = tuple(value) if isinstance(value, (list, tuple)) else (int(value),)
            if ids:
                return ids
    raise CrossSpecError('the checkpoint must name an end token (eos_token_id in generation_config.json or '
                         'config.json), it names none')


def stop_strings(model: PreTrainedModel) -> tuple[str, ...]:
    """Texts after which the model's own `generate` stops. Raises `CrossSpecError` where they are no texts."""
    value = _settings(model).stop_strings
    if value is None:
        return ()
    check_settings({'stop_strings': value}, GENERATION_FILE)
    return (value,) if isinstance(value, str) else tuple(value)


def suppressed_ids(model: PreTrainedModel, banned_ids: Iterable[int]) -> list[int]:
    """``suppress_tokens`` for a `generate` that never says ``banned_ids``; its argument replaces the file's list."""
    return sorted({*(_settings(model).suppress_tokens or ()), *banned_ids})


def check_generation_file(folder: Path) -> None:
    """Raise `CrossSpecError` for a generation_config.json that is no JSON or has values of the wrong type.

    transformers takes a broken file for none, which would decode by other rules than the checkpoint's.
    """
    path = folder / GENERATION_FILE
    if path.is_file():
        content = read_object(path)
        check_settings(content, str(path))
        refused = refused_settings(content)
        if refused:
            raise CrossSpecError(f'{path} must hold only what greedy decoding can obey; {"; ".join(refused)}')


def _settings(model: PreTrainedModel) -> GenerationConfig:
    settings = getattr(model, 'generation_config', None)
    if settings is None:
        raise CrossSpecError(f'class must be one that generates text, got {type(model).__name__}')
    return settings


def _levels(tree: TokenTree) -> list[list[int]]:
    """Rows of the logits by length of their history: the prefix's, then those of depth 0, 1, ..."""
    levels: list[list[int]] = [[PREFIX + 1]]
    for node, depth in enumerate(tree.depths().tolist()):
        if depth + 1 == len(levels):               # a parent stands before its child: depths come without gaps
            levels.append([])
        levels[depth + 1].append(node + 1)
    return levels


def _width(model: PreTrainedModel) -> int:
    head = model.get_output_embeddings()
    weight = getattr(head, 'weight', None)
    return weight.shape[0] if weight is not None else int(model.config.get_text_config().vocab_size)


def _try(made: LogitsProcessorList, width: int, max_new_tokens: int) -> None:
    """Call processors at the first and at the last token, where ids out of the vocabulary come to light."""
    for length in (_TRIAL_PROMPT, _TRIAL_PROMPT + max_new_tokens - 1):
        made(torch.zeros(1, length, dtype=torch.long), torch.zeros(1, width))


def _named(settings: GenerationConfig) -> str:
    """The settings that differ from the defaults, short enough for a line."""
    own = {key: value for key, value in settings.to_diff_dict().items()
           if key not in ('transformers_version', '_from_model_config')}
    text = ', '.join(f'{key}={value!r}' for key, value in own.items())
    return text if len(text) <= 300 else text[:300] + ' ...'
