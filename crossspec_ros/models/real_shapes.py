"""Models of real shapes without weights, as their checkpoints' config.json has them: to count what they take."""
from __future__ import annotations

from typing import Any

import torch
from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
import transformers

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
        text_config=_text('llama', 4096, 11008, 32, 32, 32, 32064), vision_config=_CLIP), 2056, torch.float16),
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


def empty_shapes(name: str) -> Shapes:
    """One of `MODELS` on the meta device."""
    kind, fields, _, dtype = MODELS[name]
    config = getattr(transformers, f'{kind}Config')(**fields)
    with torch.device('meta'):
        return Shapes(class_of(kind)(config), dtype)


def class_of(kind: str) -> type | None:
    """The class of transformers for a kind of model, None where its version has none."""
    return getattr(transformers, f'{kind}ForConditionalGeneration', None)
