"""Tiny random checkpoints of the supported classes, written with no network: model, tokenizer, processor."""
from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = ('a car ahead brakes at the red light left right van truck bus cyclist pedestrian crosses road is wet night '
         'day we slow stop turn behind oncoming parked street').split()
SPECIAL = ['<s>', '</s>', '<unk>', '<pad>', '<image>', '<video>']


def build_tokenizer(vocab_size: int):
    """A byte-level BPE tokenizer of at most ``vocab_size`` tokens, trained on a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    inner = Tokenizer(models.BPE(unk_token='<unk>'))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator([' '.join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token='<s>', eos_token='</s>', unk_token='<unk>',
                                   pad_token='<pad>', additional_special_tokens=['<image>', '<video>'])


def _text(vocab_size: int, hidden: int, layers: int, heads: int, kv_heads: int, context: int) -> dict:
    return dict(vocab_size=vocab_size, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=context,
                bos_token_id=0, eos_token_id=1, pad_token_id=3, tie_word_embeddings=False)


def _vision(hidden: int, layers: int, image: int, patch: int) -> dict:
    return dict(hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers, num_attention_heads=2,
                image_size=image, patch_size=patch)


def build_model(kind: str, seed: int, vocab_size: int = 300, hidden: int = 32, layers: int = 2, heads: int = 4,
                kv_heads: int = 2, context: int = 512, vision_hidden: int = 16, vision_layers: int = 2,
                image: int = 28, patch: int = 14, spread: float = 0.35):
    """A random model: ``kind`` 'video_llava' or 'llava_onevision'; ``spread`` is the standard deviation of weights."""
    from transformers import (CLIPVisionConfig, LlamaConfig, LlavaOnevisionConfig,
                              LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig,
                              VideoLlavaConfig, VideoLlavaForConditionalGeneration)
    text, vision = _text(vocab_size, hidden, layers, heads, kv_heads, context), _vision(vision_hidden, vision_layers,
                                                                                       image, patch)
    torch.manual_seed(seed)
    if kind == 'video_llava':
        config = VideoLlavaConfig(vision_config=CLIPVisionConfig(**vision).to_dict(),
                                  text_config=LlamaConfig(**text).to_dict(), image_token_id=4, video_token_id=5,
                                  video_seq_length=(image // patch) ** 2 + 1,
                                  image_seq_length=(image // patch) ** 2)
        model = VideoLlavaForConditionalGeneration(config)
    else:
        config = LlavaOnevisionConfig(vision_config=SiglipVisionConfig(**vision).to_dict(),
                                      text_config=Qwen2Config(**text).to_dict(), image_token_id=4, video_token_id=5,
                                      vision_feature_select_strategy='full', vision_feature_layer=-1)
        model = LlavaOnevisionForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                scale = 1.0 if 'lm_head' in name or 'embed' in name else spread
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 3
    return model.eval()


def write_checkpoint(folder: Path, kind: str = 'video_llava', seed: int = 0, vocab_size: int = 300, image: int = 28,
                     **shape) -> Path:
    """Model, tokenizer and preprocessing files in ``folder``, as `from_pretrained` expects them."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer(vocab_size - 8).save_pretrained(folder)      # a few ids of padding after the vocabulary
    build_model(kind, seed, vocab_size=vocab_size, image=image, **shape).save_pretrained(folder)
    size = {'shortest_edge': image} if kind == 'video_llava' else {'height': image, 'width': image}
    video = dict(video_processor_type='VideoLlavaVideoProcessor' if kind == 'video_llava' else
                 'LlavaOnevisionVideoProcessor', do_resize=True, size=size, resample=3, do_rescale=True,
                 rescale_factor=1 / 255, do_normalize=True, image_mean=[0.48145466, 0.4578275, 0.40821073],
                 image_std=[0.26862954, 0.26130258, 0.27577711], do_convert_rgb=True,
                 do_center_crop=kind == 'video_llava',
                 crop_size={'height': image, 'width': image} if kind == 'video_llava' else None)
    (folder / 'video_preprocessor_config.json').write_text(json.dumps(video), encoding='utf-8')
    return folder
