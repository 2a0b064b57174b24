"""`crossspec bench fit`: what models of real shapes take on a GPU, by how their weights are kept; nothing is loaded.

Shapes are written down here as the checkpoints' own config.json has them, and built without memory. Tokens are those of
a window of eight frames of 640 x 480 px.
"""
from __future__ import annotations

import argparse
import json
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.fit import GB, Need, Serving, Shapes, survey

_TEXT = 60                                    # tokens of question, template and marks between frames, from above
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


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the options of `crossspec bench fit`."""
    parser = subparsers.add_parser('fit', help='memory that models of real shapes take, by how weights are kept')
    parser.add_argument('--memory', default='8,24', metavar='GB,GB', help='memory of the devices, 10^9 bytes '
                        '(%(default)s)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Count and print."""
    try:
        memories = [float(one) for one in args.memory.split(',')]
    except ValueError as error:
        raise CrossSpecError(f'--memory must be numbers with commas between them, got {args.memory!r}') from error
    found = {name: count(name) for name in MODELS if _class_of(MODELS[name][0]) is not None}
    if args.json:
        print(json.dumps({name: {way: vars(one) | {'total': one.total} for way, one in ways.items()}
                          for name, ways in found.items()}, indent=2))
        return 0
    table = Table(title='GB of memory for windows of 8 frames, and the smallest device that it fits')
    for head in ('model', 'weights as', 'weights', 'all', 'fits'):
        table.add_column(head, justify='left' if head in ('model', 'weights as') else 'right')
    for name, ways in found.items():
        for way, one in ways.items():
            fits = [memory for memory in memories if one.total <= memory * GB]
            table.add_row(name, way, f'{one.weights / GB:.1f}', f'{one.total / GB:.1f}',
                          f'{min(fits):g} GB' if fits else '-')
    Console().print(table)
    return 0


def count(name: str) -> dict[str, Need]:
    """What a model takes in each way, on a GPU. Raises `CrossSpecError` where it cannot be told."""
    kind, fields, tokens, dtype = MODELS[name]
    model_class = _class_of(kind)
    config = getattr(transformers, f'{kind}Config')(**fields)
    with torch.device('meta'):
        shapes = Shapes(model_class(config), dtype)
    found = survey(shapes, Serving(padded=True), 'cuda', tokens + _TEXT)
    return {way: one for way, one in found.items() if isinstance(one, Need) and way != 'float32'}


def _class_of(kind: str) -> type | None:
    """The class of transformers for a kind of model, None where its version has none."""
    return getattr(transformers, f'{kind}ForConditionalGeneration', None)
