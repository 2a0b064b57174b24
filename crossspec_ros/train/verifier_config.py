"""The built-in verifier's shapes: a Video-LLaVA, small enough for two CPU cores, prefill-heavy like the real one."""
from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, LlamaConfig, VideoLlavaConfig, VideoLlavaForConditionalGeneration

from crossspec_ros.models.writing import write_folder_atomic
from crossspec_ros.train.tokenizer_training import EOS, IMAGE, PAD, VIDEO, as_transformers, save_processor_files

IMAGE_SIZE, PATCH_SIZE, FRAMES = 112, 14, 8
TOKENS_PER_FRAME = (IMAGE_SIZE // PATCH_SIZE) ** 2 + 1
PIXEL_MEAN = PIXEL_STD = 0.5


def verifier_config(tokenizer: Tokenizer, *, vision_dim: int = 192, vision_layers: int = 6, dim: int = 256,
                    layers: int = 8) -> VideoLlavaConfig:
    """About 10M parameters in use: ViT 192x6 on 112 px, Llama 256x8; the vocabulary is the tokenizer's."""
    vision = CLIPVisionConfig(
        hidden_size=vision_dim, intermediate_size=4 * vision_dim, num_hidden_layers=vision_layers,
        num_attention_heads=max(1, vision_dim // 64), image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, hidden_act='gelu',
        projection_dim=vision_dim)
    end, pad = tokenizer.token_to_id(EOS), tokenizer.token_to_id(PAD)
    text = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=dim, intermediate_size=8 * dim // 3 // 8 * 8,
        num_hidden_layers=layers, num_attention_heads=max(1, dim // 64), num_key_value_heads=max(1, dim // 128),
        max_position_embeddings=2048, bos_token_id=None, eos_token_id=end, pad_token_id=pad,
        tie_word_embeddings=True)
    return VideoLlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.token_to_id(IMAGE),
        video_token_index=tokenizer.token_to_id(VIDEO), vision_feature_layer=-1,
        image_seq_length=TOKENS_PER_FRAME - 1, video_seq_length=TOKENS_PER_FRAME * FRAMES,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=end, pad_token_id=pad)


def build_verifier(tokenizer: Tokenizer, seed: int, **shapes: int) -> VideoLlavaForConditionalGeneration:
    """A verifier with random weights from ``seed`` (global generators are left as they were), float32, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VideoLlavaForConditionalGeneration(verifier_config(tokenizer, **shapes))
    model.generation_config.update(
        bos_token_id=None, eos_token_id=tokenizer.token_to_id(EOS), pad_token_id=tokenizer.token_to_id(PAD),
        do_sample=False, max_new_tokens=96)
    return model.float().eval()


def save_verifier(model: VideoLlavaForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a checkpoint that ``from_pretrained`` loads offline: float16 weights, tokenizer, processor files.

    Both towers get the video tower's weights, which is the one that is trained. Raises CrossSpecError when the disk
    is full.
    """
    def write(target: Path) -> None:
        model.model.image_tower.load_state_dict(model.model.video_tower.state_dict())
        half = {name: weight.detach().to(torch.float16).clone() for name, weight in model.state_dict().items()
                if name != 'lm_head.weight'}
        model.save_pretrained(target, state_dict=half)
        as_transformers(tokenizer).save_pretrained(target)
        save_processor_files(target, IMAGE_SIZE, PATCH_SIZE)
    write_folder_atomic(folder, write)
