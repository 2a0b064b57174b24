"""Video-LLaVA with random weights, for measurements: the speed of a forward does not depend on its values."""
from __future__ import annotations

import torch
from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from transformers import CLIPVisionConfig, LlamaConfig, VideoLlavaConfig, VideoLlavaForConditionalGeneration

_VOCABULARY, VIDEO_ID, IMAGE_ID, PAD_ID, EOS_ID = 32064, 32001, 32000, 32002, 2


def build_model(device: str, dtype: str, image: int = 224, layers: int = 0) -> VideoLlavaForConditionalGeneration:
    """Random weights: the real shapes on a GPU, cut-down ones on a CPU. The image tower is the video tower; ``layers``:
    so many of the decoder.

    A frame is resized to ``image`` x ``image`` pixels, of which 14 x 14 are a token.
    """
    big = device.startswith('cuda')
    vision = CLIPVisionConfig(hidden_size=1024 if big else 128, intermediate_size=4096 if big else 256,
                              num_hidden_layers=24 if big else 4, num_attention_heads=16 if big else 4,
                              image_size=image, patch_size=14)
    text = LlamaConfig(vocab_size=_VOCABULARY, hidden_size=4096 if big else 256,
                       intermediate_size=11008 if big else 512,
                       num_hidden_layers=layers or (32 if big else 4), num_attention_heads=32 if big else 8,
                       max_position_embeddings=8192, pad_token_id=PAD_ID, eos_token_id=EOS_ID)
    config = VideoLlavaConfig(vision_config=vision.to_dict(), text_config=text.to_dict(), video_token_id=VIDEO_ID,
                              image_token_id=IMAGE_ID)
    with torch.device('meta'):
        model = VideoLlavaForConditionalGeneration(config)
    model.model.image_tower = model.model.video_tower
    model = model.to(getattr(torch, dtype)).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for weight in model.parameters():
        weight.normal_(0.0, 0.02, generator=generator)
    _refill_buffers(model)
    model.generation_config.pad_token_id = PAD_ID
    return model


def _refill_buffers(model: VideoLlavaForConditionalGeneration) -> None:
    """Buffers that no checkpoint holds: positions of the tower, frequencies of the rotary embedding."""
    rotary = model.model.language_model.rotary_emb
    frequencies, _ = rotary.compute_default_rope_parameters(rotary.config)
    rotary.inv_freq.copy_(frequencies)
    for name, buffer in model.named_buffers():
        if name.endswith('position_ids'):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
