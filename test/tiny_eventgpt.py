"""EventGPT's published layout with small random weights: decoder, tower, projector and adaptor under its names."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_models import build_tokenizer
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

MARKS = ('<ev_patch>', '<ev_start>', '<ev_end>')
WIDTH, IMAGE, PATCH = 32, 28, 14


@dataclass
class StockParts:
    """Parts of transformers and torch that a test puts together as the paper does."""

    decoder: LlamaForCausalLM
    tower: CLIPVisionModel
    projector: nn.Sequential
    adaptor: nn.Linear

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n + S, D) of pixels (n, 3, h, w): means over places, then means over pictures."""
        seen = torch.stack([self.adaptor(self.projector(self.tower(each[None]).last_hidden_state))[0]
                            for each in pixels])
        return torch.cat([seen.mean(dim=1), seen.mean(dim=0)])


def build_parts(seed: int = 0, rows: int = 320) -> StockParts:
    torch.manual_seed(seed)
    decoder = LlamaForCausalLM(LlamaConfig(
        vocab_size=rows, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=0, eos_token_id=1, pad_token_id=3,
        tie_word_embeddings=False))
    tower = CLIPVisionModel(CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                                             num_attention_heads=2, image_size=IMAGE, patch_size=PATCH))
    projector = nn.Sequential(nn.Linear(16, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
    parts = StockParts(decoder, tower, projector, nn.Linear(WIDTH, WIDTH))
    with torch.no_grad():
        for module in (decoder, tower, projector, parts.adaptor):
            for name, weight in module.named_parameters():
                if weight.ndim >= 2:
                    weight.normal_(0.0, 1.0 if 'lm_head' in name or 'embed_tokens' in name else 0.3)
            module.eval()
    return parts


def write_eventgpt(folder: Path, seed: int = 0, *, prefix: str = '', shards: int = 1, pickled: bool = False,
                   marks: bool = True, tokens: int = 290) -> StockParts:
    """A folder in the published layout; ``prefix`` is what older releases write before the tower's names."""
    parts, tokenizer = build_parts(seed), build_tokenizer(tokens)
    folder.mkdir(parents=True, exist_ok=True)
    if marks:
        tokenizer.add_tokens(list(MARKS), special_tokens=True)
    tokenizer.save_pretrained(folder)
    weights = {name: value.clone() for name, value in parts.decoder.state_dict().items()}
    for start, module in ((f'model.visual_tower.visual_tower.{prefix}', parts.tower),
                          ('model.visual_projector.', parts.projector), ('model.feature_adaptor.', parts.adaptor)):
        weights |= {start + name.removeprefix('vision_model.'): value.clone()
                    for name, value in module.state_dict().items()}
    _write_weights(folder, weights, shards, pickled)
    (folder / 'tower').mkdir()
    (folder / 'tower' / 'config.json').write_text(json.dumps(parts.tower.config.to_dict()), encoding='utf-8')
    config = {**parts.decoder.config.to_dict(), 'model_type': 'EventChat_llama', 'architectures': ['EventChatModel'],
              'mm_visual_tower': 'tower', 'event_feature_adaptor': True, 'mm_use_im_start_end': True,
              'mm_use_im_patch_token': True, 'vocab_size': 7}         # the rows of the weights count
    (folder / 'config.json').write_text(json.dumps(config, default=str), encoding='utf-8')
    return parts


def _write_weights(folder: Path, weights: dict[str, torch.Tensor], shards: int, pickled: bool) -> None:
    if pickled:
        torch.save(weights, folder / 'pytorch_model.bin')
        return
    if shards == 1:
        save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})
        return
    names = sorted(weights)
    placed = {name: f'model-{number % shards + 1:05d}-of-{shards:05d}.safetensors'
              for number, name in enumerate(names)}
    for file in set(placed.values()):
        save_file({name: weights[name] for name in names if placed[name] == file}, folder / file,
                  metadata={'format': 'pt'})
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'metadata': {}, 'weight_map': placed}))
