"""What checkpoints of all families are made of: a shape, a tokenizer, a chat template, random weights, a folder."""
from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import WORDS


if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

# norms after a block, whose weights say how much the block adds to what it was given
SANDWICH = ('post_attention_layernorm.weight', 'post_feedforward_layernorm.weight')
BOS, EOS, UNK, PAD = '<s>', '</s>', '<unk>', '<pad>'


@dataclass(frozen=True)
class Shape:
    """Sizes and settings of a checkpoint; those that a family's config does not know are refused by `text`.

    ``image`` and ``patch`` are px; families with a patch size of their own ignore them. ``spread`` is the gain of a
    random matrix: about 2 gives answers that vary and depend on the frames. ``text`` holds further settings of the
    decoder's config, as that config names them.
    """

    vocab_size: int = 320
    hidden: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    context: int = 2048
    vision_hidden: int = 16
    vision_layers: int = 2
    image: int = 28
    patch: int = 14
    tie: bool = False
    sliding_window: int | None = None
    rope_scaling: Mapping[str, Any] | None = None
    dtype: str = 'float32'
    spread: float = 2.0
    text: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head_dim(self) -> int:
        """Width of a head of the decoder."""
        return self.hidden // self.heads


@dataclass(frozen=True, eq=False)
class Parts:
    """A config and a processor that fit each other."""

    config: PreTrainedConfig
    processor: ProcessorMixin


Build = Callable[[Shape, 'PreTrainedTokenizerFast'], Parts]


@dataclass(frozen=True)
class Family:
    """A class of transformers, how a tiny checkpoint of it is built, and what an adapter must know of it.

    ``frames_a_group`` frames share rows. ``video``: the processor takes videos, else
    frames are images. ``refused``: no exact way exists of cutting its decoder back, or of caching its frames.
    ``tokens`` are the special tokens by the attribute of the tokenizer that the processor reads (names that start with
    an underscore are special without an attribute). ``defaults`` changes the usual shape.
    """

    name: str
    build: Build
    tokens: Mapping[str, str]
    template: str
    frames_a_group: int
    video: bool
    notes: str
    refused: bool = False
    named: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, seed: int = 0, **shape: Any) -> Path:
        """Config, weights, tokenizer, processor and template in ``folder``, as `from_pretrained` expects them."""
        import torch
        form = Shape(**{**self.defaults, **shape})
        tokenizer = build_tokenizer(form.vocab_size - 8, self.tokens)    # a few padded ids at the vocabulary's end
        tokenizer.chat_template = self.template
        parts = self.build(form, tokenizer)
        parts.processor.chat_template = self.template
        model = build_model(parts.config, seed, form.spread).to(getattr(torch, form.dtype))
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        parts.processor.save_pretrained(folder)
        return folder


def build_tokenizer(vocab_size: int, tokens: Mapping[str, str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most ``vocab_size`` tokens, with the special tokens of a family."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    special = [BOS, EOS, UNK, PAD, *dict.fromkeys(tokens.values())]
    inner = Tokenizer(models.BPE(unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator([' '.join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))], trainer)
    named = {key: token for key, token in tokens.items() if not key.startswith('_')}
    rest = [token for key, token in tokens.items() if key.startswith('_')]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=BOS, eos_token=EOS, unk_token=UNK,
                                        pad_token=PAD, extra_special_tokens=named)
    if rest:
        tokenizer.add_special_tokens({'additional_special_tokens': rest}, replace_extra_special_tokens=False)
    return tokenizer


def build_model(config: PreTrainedConfig, seed: int, spread: float) -> PreTrainedModel:
    """A model of random weights: tables of variance 1, matrices of gain ``spread``.

    Where the words' table is also the head it is smaller, lest each token be followed by itself.
    """
    import torch
    from transformers import AutoModelForImageTextToText
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    words = model.get_input_embeddings().weight
    tied = words is model.get_output_embeddings().weight
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim < 2 or not weight.numel():
                continue
            inputs = weight.shape[-1] if weight.ndim == 3 else weight[0].numel()
            scale = spread / math.sqrt(inputs)
            if weight is words and tied:
                scale = 1 / math.sqrt(inputs)
            elif 'lm_head' in name or 'embed_tokens' in name or 'position' in name:
                scale = 1.0
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
        one_dimensional = {name: weight for name, weight in model.named_parameters() if weight.ndim == 1}
        for name, weight in one_dimensional.items():
            if name.endswith('A_log'):
                weight.fill_(-4.0)                              # recurrent states that do not forget at once
            elif name.endswith(SANDWICH) and name.replace('post_attention', 'post_feedforward') in one_dimensional:
                weight.add_(spread)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 3
    model.generation_config.bos_token_id = 0
    model.generation_config._from_model_config = False          # else loading builds it anew from the config
    return model


def older_files(folder: Path) -> Path:
    """Lay the processor's files out as folders of earlier years do: a file a processor, the template in JSON."""
    path = folder / 'processor_config.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    for part, name in (('image_processor', 'preprocessor_config'), ('video_processor', 'video_preprocessor_config')):
        if part in config:
            (folder / f'{name}.json').write_text(json.dumps(config.pop(part)), encoding='utf-8')
    path.write_text(json.dumps(config), encoding='utf-8')
    template = folder / 'chat_template.jinja'
    (folder / 'chat_template.json').write_text(json.dumps({'chat_template': template.read_text(encoding='utf-8')}),
                                               encoding='utf-8')
    template.unlink()
    return folder


def chat(image: str, video: str, user: str = '<s>user\n', end: str = '\n', answer: str = 'assistant\n') -> str:
    """A chat template: parts of a message in their order, ``image`` and ``video`` in place of pictures."""
    def quoted(text: str) -> str:
        return "'" + text.replace('\n', '\\n') + "'"
    return ('{%- for message in messages -%}{{- ' + quoted(user) + ' -}}'
            '{%- if message["content"] is string -%}{{- message["content"] -}}{%- else -%}'
            '{%- for part in message["content"] -%}'
            '{%- if part["type"] == "image" -%}{{- ' + quoted(image) + ' -}}'
            '{%- elif part["type"] == "video" -%}{{- ' + quoted(video) + ' -}}'
            '{%- elif part["type"] == "text" -%}{{- part["text"] -}}{%- endif -%}{%- endfor -%}{%- endif -%}'
            '{{- ' + quoted(end) + ' -}}{%- endfor -%}'
            '{%- if add_generation_prompt -%}{{- ' + quoted(answer) + ' -}}{%- endif -%}')


def text(shape: Shape, windows: str = '', mrope: bool = False, **more: Any) -> dict[str, Any]:
    """Settings of a decoder's config. ``windows`` says how it names sliding windows: 'qwen2', 'mistral', 'gemma'.

    Raises `ValueError` where the shape asks for windows and the decoder has none.
    """
    rope = {'rope_type': 'default', 'rope_theta': 10000.0, **(shape.rope_scaling or {})}
    if mrope:
        half = shape.head_dim // 2
        rope['mrope_section'] = [half - 2 * (half // 3), half // 3, half // 3]
    settings = dict(vocab_size=shape.vocab_size, hidden_size=shape.hidden, intermediate_size=2 * shape.hidden,
                    num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
                    num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim,
                    max_position_embeddings=shape.context, bos_token_id=0, eos_token_id=1, pad_token_id=3,
                    tie_word_embeddings=shape.tie, rope_parameters=rope)
    if shape.sliding_window is not None:
        ways = dict(qwen2=dict(use_sliding_window=True, max_window_layers=shape.layers // 2), mistral={}, gemma={})
        if windows not in ways:
            raise ValueError(f'sliding_window must be None for this family, got {shape.sliding_window}')
        settings.update(sliding_window=shape.sliding_window, **ways[windows])
    return {**settings, **more, **shape.text}


def vision(shape: Shape, **more: Any) -> dict[str, Any]:
    """Settings of a plain vision tower's config (CLIP, SigLIP and the like)."""
    return dict(hidden_size=shape.vision_hidden, intermediate_size=2 * shape.vision_hidden,
                num_hidden_layers=shape.vision_layers, num_attention_heads=2, image_size=shape.image,
                patch_size=shape.patch, **more)
