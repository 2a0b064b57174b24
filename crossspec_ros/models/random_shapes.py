"""A model of a real shape with random weights, and what else an adapter needs, made without any file of a checkpoint.

The tokenizer is the built-in pair's with the marks of the class: prompts are about as long as the real tokenizer makes
them. Processors are those of the class with the settings that its checkpoints have.
"""
from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
import transformers

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.builtin import builtin_path
from crossspec_ros.models.files import one_line
from crossspec_ros.models.real_shapes import MODELS, class_of, config_of
from crossspec_ros.models.targets.adapters import ADAPTERS, EXACT_PATCHES, Adapter, Parts
from crossspec_ros.models.tokenizer import TOKENIZER_FILE

_TURNS = {'turn_token': '<|im_start|>', 'end_token': '<|im_end|>'}
_LLAVA = {'image_token': '<image>', 'video_token': '<video>', **_TURNS}
_QWEN = {'image_token': '<|image_pad|>', 'video_token': '<|video_pad|>', 'vision_bos_token': '<|vision_start|>',
         'vision_eos_token': '<|vision_end|>', **_TURNS}
_CONFIGURED = {'image_token': 'image_token_id', 'video_token': 'video_token_id',
               'vision_bos_token': 'vision_start_token_id', 'vision_eos_token': 'vision_end_token_id'}
_TOKEN_FROM, _TOKEN_TO = 4096, 24 * 1024 * 1024          # pixels of a clip, as the files of Qwen3-VL and Cosmos3 say


def random_adapter(name: str, folder: Path, layers: int = 0, width: int = 0, device: str = 'cpu',
                   dtype: str = 'float32') -> Adapter:
    """The adapter of one of `real_shapes.MODELS` over random weights on a device; ``layers`` and ``width`` as for
    `config_of`. Tokenizer and processor are written to ``folder``, which is to stay as long as the adapter is used.

    Raises `CrossSpecError` where transformers or torchvision lack what the class needs, or the device has no room.
    """
    config = config_of(name, layers, width)
    tokenizer = _write_tokenizer(folder, config)
    _write_processor(folder, config, tokenizer)
    model = _random_model(class_of(MODELS[name][0]), config, device, getattr(torch, dtype))
    return ADAPTERS[type(model).__name__](Parts(folder, model, tokenizer))


def _write_tokenizer(folder: Path, config: transformers.PreTrainedConfig) -> transformers.PreTrainedTokenizerFast:
    """The built-in pair's tokenizer with the marks of a class, whose ids are the last of its vocabulary."""
    content = json.loads((builtin_path('verifier') / TOKENIZER_FILE).read_text(encoding='utf-8'))
    marks = _LLAVA if _own_pixels(config) else _QWEN
    vocabulary, added = content['model']['vocab'], content['added_tokens']
    for token in _LLAVA.values():
        vocabulary.pop(token, None)
    added[:] = [one for one in added if one['content'] not in _LLAVA.values()]
    first = config.get_text_config(decoder=True).vocab_size - len(marks)
    for number, (kind, token) in enumerate(marks.items(), first):
        vocabulary[token] = number
        added.append({**added[0], 'id': number, 'content': token})
        if kind in _CONFIGURED:
            setattr(config, _CONFIGURED[kind], number)
    path = folder / TOKENIZER_FILE
    path.write_text(json.dumps(content), encoding='utf-8')
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(path), eos_token='</s>', unk_token='<unk>', pad_token='<pad>', extra_special_tokens=marks)


def _write_processor(folder: Path, config: transformers.PreTrainedConfig,
                     tokenizer: transformers.PreTrainedTokenizerFast) -> None:
    config.save_pretrained(folder)
    kind = type(config).__name__.removesuffix('Config')
    if _own_pixels(config):
        named = {'video_processor_type': f'{kind}VideoProcessor'}
        (folder / 'video_preprocessor_config.json').write_text(json.dumps(named), encoding='utf-8')
        return
    sizes = dict(size=dict(shortest_edge=_TOKEN_FROM, longest_edge=_TOKEN_TO), patch_size=16, merge_size=2)
    image, more = ('Qwen2VL', {'cap_pixels_per_frame': False}) if kind == 'Qwen3VL' else (kind, {})
    try:
        find = lambda end, of=kind: getattr(transformers, f'{of}{end}')
        find('Processor')(find('ImageProcessor', image)(**sizes), tokenizer,
                          find('VideoProcessor')(**sizes, **more)).save_pretrained(folder)
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        raise CrossSpecError(f'the processor of {kind} cannot be made ({one_line(error)}); install torchvision'
                             ) from error


def _own_pixels(config: transformers.PreTrainedConfig) -> bool:
    """Whether frames of a class are prepared here, so that it needs no processor of transformers."""
    return type(config).__name__.replace('Config', 'ForConditionalGeneration') in EXACT_PATCHES


def _random_model(cls: type, config: transformers.PreTrainedConfig, device: str,
                  dtype: torch.dtype) -> transformers.PreTrainedModel:
    """Weights such that what is said depends on the frames: tables of variance 1, matrices of gain 2."""
    try:
        with torch.device(device):
            model = cls._from_config(config, dtype=dtype, attn_implementation='sdpa')
    except (MemoryError, RuntimeError) as error:
        raise CrossSpecError(f'there is no room for random weights of {cls.__name__}: {one_line(error)}; ask for fewer '
                             '--layers or a smaller --width') from error
    model = model.eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    head, words = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            continue
        spread = 1 / math.sqrt(weight[0].numel())
        if weight is not words or weight is not head:      # a table that is the head too keeps words from repeating
            spread = 1.0 if weight is words or weight is head or 'position' in name else 2 * spread
        weight.normal_(0.0, spread, generator=generator)
    return model
