"""Rules for the values in generation_config.json: their types, and what greedy decoding of a tree cannot obey."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossspec_ros.errors import CrossSpecError

_Rule = tuple[Callable[[Any], bool], str]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _ids(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(_whole(item) for item in value)


def _pairs(value: Any) -> bool:
    """``[[ids, bias], ...]``; a mapping of id tuples is what a program may set instead."""
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, (list, tuple)) and bool(value) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and _ids(pair[0]) and pair[0] and isinstance(pair[1], float)
        for pair in value)


def _texts(value: Any) -> bool:
    texts = [value] if isinstance(value, str) else value
    return isinstance(texts, (list, tuple)) and bool(texts) and all(isinstance(text, str) and text for text in texts)


_SWITCH: _Rule = (lambda value: isinstance(value, bool), 'true or false')
_COUNT: _Rule = (lambda value: _whole(value) and value >= 0, 'a whole number >= 0')
_POSITIVE: _Rule = (lambda value: _whole(value) and value >= 1, 'a whole number >= 1')
_NUMBER: _Rule = (_number, 'a number')
_PENALTY: _Rule = (lambda value: isinstance(value, float) and value > 0 or _whole(value) and value == 1,
                   'a number > 0 with a decimal point')
_ID_OR_IDS: _Rule = (lambda value: _whole(value) or _ids(value), 'a token id or a list of token ids')
_TYPES: dict[str, _Rule] = {
    'max_length': _COUNT, 'max_new_tokens': _POSITIVE, 'min_length': _COUNT, 'min_new_tokens': _COUNT,
    'max_time': _NUMBER, 'stop_strings': (_texts, 'a text or a list of texts, none empty'),
    'do_sample': _SWITCH, 'num_beams': _POSITIVE, 'num_return_sequences': _POSITIVE, 'num_beam_groups': _POSITIVE,
    'temperature': _NUMBER, 'top_k': (_whole, 'a whole number'), 'top_p': _NUMBER, 'penalty_alpha': _NUMBER,
    'repetition_penalty': _PENALTY, 'encoder_repetition_penalty': _PENALTY,
    'no_repeat_ngram_size': _COUNT, 'encoder_no_repeat_ngram_size': _COUNT,
    'bad_words_ids': (lambda value: isinstance(value, list) and bool(value) and all(
        isinstance(word, list) and word and _ids(word) for word in value), 'a list of lists of token ids, none empty'),
    'sequence_bias': (_pairs, 'a list of pairs [token ids, bias with a decimal point], not empty'),
    'exponential_decay_length_penalty': (
        lambda value: isinstance(value, (list, tuple)) and len(value) == 2 and _number(value[0]) and _number(value[1]),
        'a pair [start, factor]'),
    'suppress_tokens': (_ids, 'a list of token ids'), 'begin_suppress_tokens': (_ids, 'a list of token ids'),
    'forced_bos_token_id': (lambda value: _whole(value) and value >= 0, 'a token id'),
    'forced_eos_token_id': _ID_OR_IDS, 'eos_token_id': _ID_OR_IDS,
    'pad_token_id': (_whole, 'a token id'), 'bos_token_id': (_whole, 'a token id'),
    'remove_invalid_values': _SWITCH, 'renormalize_logits': _SWITCH, 'use_cache': _SWITCH, 'token_healing': _SWITCH,
    'guidance_scale': _NUMBER,
}
_ELSEWHERE = ('logits_processor', 'stopping_criteria', 'prefix_allowed_tokens_fn', 'assistant_model', 'streamer',
              'negative_prompt_ids', 'negative_prompt_attention_mask')


def check_settings(settings: Mapping[str, Any], source: str) -> None:
    """Raise `CrossSpecError` for the first value of the wrong type; ``source`` names where the settings stand."""
    for field, value in settings.items():
        if value is None or field not in _TYPES:
            continue
        fits, words = _TYPES[field]
        if not fits(value):
            raise CrossSpecError(f'{field} in {source} must be {words}, got {_short(value)}; mend the value there')


def refused_settings(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each setting that greedy decoding, token for token equal to `generate`, cannot obey."""
    def value(field: str, default: Any = None) -> Any:
        found = settings.get(field)
        return default if found is None else found

    contrastive = value('penalty_alpha', 0) > 0 and value('top_k', 50) > 1 and value('do_sample') is not True
    cases: Sequence[tuple[bool, str, str]] = (
        (value('num_beams', 1) > 1, 'num_beams', 'must be 1 (beams follow several answers at once)'),
        (value('num_return_sequences', 1) > 1, 'num_return_sequences', 'must be 1 (one caption a window)'),
        (bool(value('constraints')), 'constraints', 'must be left out (they need beams)'),
        (settings.get('force_words_ids') is not None, 'force_words_ids', 'must be left out (it needs beams)'),
        (value('guidance_scale', 1) != 1, 'guidance_scale', 'must be 1 (guidance runs the model a second time)'),
        (bool(value('watermarking_config')), 'watermarking_config', 'must be left out (a watermark keeps state)'),
        (contrastive, 'penalty_alpha', 'must be 0 (contrastive search ranks by hidden states)'),
        (settings.get('dola_layers') is not None, 'dola_layers', 'must be left out (it mixes logits of many layers)'),
        (settings.get('max_time') is not None, 'max_time', 'must be left out (the same tokens at any speed)'),
        (value('token_healing') is True, 'token_healing', 'must be false (it changes the prompt)'),
        (value('is_assistant') is True, 'is_assistant', 'must be false (it stops where the model is unsure)'),
        (settings.get('assistant_ensemble_weight') is not None, 'assistant_ensemble_weight',
         'must be left out (it accepts tokens by a mixture with the draft)'),
        (value('cache_implementation') == 'quantized', 'cache_implementation',
         'must not be quantized (it changes keys and values)'),
        *((settings.get(field) is not None, field, 'must be left out (it is an argument of generate)')
          for field in _ELSEWHERE))
    return tuple(f'{field} {rule}, got {_short(settings.get(field))}' for broken, field, rule in cases if broken)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + ' ...'
