"""Models of real shapes, as their checkpoints' config.json has them: without weights, to count what they take, or fewer
layers of them, for measurements."""
from __future__ import annotations

from math import gcd
from typing import Any

import torch
from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
import transformers

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.fit import Shapes

_QWEN3_TOWER = dict(depth=24, hidden_size=1024, intermediate_size=4096, out_hidden_size=2048,
                    deepstack_visual_indexes=[5, 11, 17])
_CLIP = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224,
             patch_size=14)
_SIGLIP = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=26, num_attention_heads=16, image_size=384,
               patch_size=14, vision_use_head=False)


def _text(kind: str, hidden: int, inner: int, layers: int, heads: int, shared: int, vocabulary: int) -> dict[str, Any]:
    return dict(model_type=kind, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=shared, vocab_size=vocabulary)


# Name -> class, its config, tokens of eight frames, type of its weights.
MODELS: dict[str, tuple[str, dict[str, Any], int, torch.dtype]] = {
    'Video-LLaVA 7B': ('VideoLlava', dict(
        text_config=_text('llama', 4096, 11008, 32, 32, 32, 32064) | {'max_position_embeddings': 4096},
        vision_config=_CLIP), 2056, torch.float16),
    'LLaVA-OneVision 0.5B': ('LlavaOnevision', dict(
        text_config=_text('qwen2', 896, 4864, 24, 14, 2, 152000) | {'tie_word_embeddings': True},
        vision_config=_SIGLIP | {'model_type': 'siglip_vision_model'}, tie_word_embeddings=True), 1569, torch.float16),
    'LLaVA-OneVision 7B': ('LlavaOnevision', dict(
        text_config=_text('qwen2', 3584, 18944, 28, 28, 4, 152064),
        vision_config=_SIGLIP | {'model_type': 'siglip_vision_model'}), 1569, torch.float16),
    'Qwen3-VL 2B': ('Qwen3VL', dict(
        text_config=_text('qwen3_vl_text', 2048, 6144, 28, 16, 8, 151936) | {'tie_word_embeddings': True},
        vision_config=_QWEN3_TOWER, tie_word_embeddings=True), 1200, torch.bfloat16),
    'Qwen3-VL 8B': ('Qwen3VL', dict(
        text_config=_text('qwen3_vl_text', 4096, 12288, 36, 32, 8, 151936),
        vision_config=dict(out_hidden_size=4096)), 1200, torch.bfloat16),
    'Cosmos3-Edge 2B': ('Cosmos3Edge', {}, 2400, torch.bfloat16)}


SHORT = {'videollava': 'Video-LLaVA 7B', 'onevision': 'LLaVA-OneVision 7B', 'qwen3vl-2b': 'Qwen3-VL 2B',
         'qwen3vl-8b': 'Qwen3-VL 8B', 'cosmos3': 'Cosmos3-Edge 2B'}
"""Names of models by which a command line calls them."""

_SEEN_IN = {'Cosmos3Edge': '5.20.2'}                     # a version of transformers that has a class which older lack


def empty_shapes(name: str, layers: int = 0, width: int = 0) -> Shapes:
    """One of `MODELS` on the meta device; ``layers`` and ``width`` and errors as for `config_of`."""
    config = config_of(name, layers, width)
    kind, _, _, dtype = MODELS[name]
    with torch.device('meta'):
        return Shapes(class_of(kind)(config), dtype)


def class_of(kind: str) -> type | None:
    """The class of transformers for a kind of model, None where its version has none."""
    return getattr(transformers, f'{kind}ForConditionalGeneration', None)


def config_of(name: str, layers: int = 0, width: int = 0) -> transformers.PreTrainedConfig:
    """The config of one of `MODELS`, or one cut down: to ``layers`` layers at most of the decoder and as many of the
    vision tower, and to a decoder that is ``width`` wide at most and a tower that is narrower by the same share, both
    in heads as wide as they were. 0: as it is.

    Raises `CrossSpecError` where this version of transformers does not have the class.
    """
    kind, fields, _, _ = MODELS[name]
    if class_of(kind) is None:
        where = f'; {_SEEN_IN[kind]} has it' if kind in _SEEN_IN else ''
        raise CrossSpecError(f'{name} needs {kind}ForConditionalGeneration, which transformers '
                             f'{transformers.__version__} does not have{where}')
    cls = getattr(transformers, f'{kind}Config')
    config = cls(**fields).to_dict()
    if layers:
        _cut_depth(config['text_config'], layers)
        _cut_depth(config['vision_config'], layers)
    if width:
        _cut_width(config, width)
    return cls.from_dict(config)


def _cut_depth(part: dict[str, Any], layers: int) -> None:
    depth = 'depth' if 'depth' in part else 'num_hidden_layers'
    part[depth] = min(part[depth], layers)
    if part.get('layer_types'):
        part['layer_types'] = part['layer_types'][:part[depth]]
    taken = part.get('deepstack_visual_indexes')
    if taken:                                            # layers of the tower that the decoder is shown, spread evenly
        count = min(len(taken), part[depth])
        part['deepstack_visual_indexes'] = [(place + 1) * part[depth] // count - 1 for place in range(count)]


def _cut_width(config: dict[str, Any], width: int) -> None:
    text, vision = config['text_config'], config['vision_config']
    share = min(1.0, width / text['hidden_size'])
    for part in (text, vision):
        heads = 'num_heads' if 'num_heads' in part else 'num_attention_heads'
        before, kept = part[heads], max(1, int(part[heads] * share))
        shared = part.get('num_key_value_heads')
        if shared:
            part['num_key_value_heads'] = gcd(kept, max(1, kept * shared // before))
        part[heads] = kept
        for size in ('hidden_size', 'intermediate_size'):
            part[size] = part[size] * kept // before
    if 'out_hidden_size' in vision:
        vision['out_hidden_size'] = text['hidden_size']
    if 'projector_hidden_size' in config:
        config['projector_hidden_size'] = max(1, int(config['projector_hidden_size'] * share))
