"""The forward of a Llama-type decoder without the framework around it: the same arithmetic, a fraction of the overhead.

A small target spends most of a forward in Python. This runs the same operations on the same weights in the same order
as transformers' Llama and Qwen2 do (pre-norm, rotary positions, grouped keys, gated MLP) and writes keys and values
straight into the cache's buffers. It serves where `supports` says so; everything else goes through transformers.

Shape letters: T new tokens, L keys, H heads, K heads of keys, W head width, D embedding width.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.models.devices import is_sharded

_SUPPORTED = ('LlamaModel', 'Qwen2Model')


def supports(decoder: nn.Module) -> bool:
    """True for decoders whose arithmetic is the one below: Llama and Qwen2, default rotary positions, float32, CPU."""
    config = getattr(decoder, 'config', None)
    if type(decoder).__name__ not in _SUPPORTED or getattr(config, 'hidden_act', '') != 'silu':
        return False
    layer_types = getattr(config, 'layer_types', None) or ()
    weight = decoder.embed_tokens.weight
    plain = all(type(module) in (nn.Linear,) and not is_sharded(module) for layer in decoder.layers for module in
                (layer.self_attn.q_proj, layer.self_attn.o_proj, layer.mlp.gate_proj, layer.mlp.down_proj))
    return (plain and set(layer_types) <= {'full_attention'} and decoder.rotary_emb.rope_type == 'default'
            and weight.device.type == 'cpu' and weight.dtype == torch.float32)


class LeanDecoder:
    """A Llama or Qwen2 decoder of which only the arithmetic is left. Shares the weights; nothing is copied."""

    def __init__(self, decoder: nn.Module) -> None:
        self._norm, self._eps = decoder.norm.weight, decoder.norm.variance_epsilon
        self._layers = [_Layer(layer) for layer in decoder.layers]
        self._inverse_frequencies = decoder.rotary_emb.inv_freq.float()

    def forward(self, cache: SequenceCache, embeds: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor,
                keep: int, tapped: dict[int, torch.Tensor] | None = None) -> torch.Tensor:
        """States (keep, D) of the last tokens of ``embeds`` (T, D); keys and values of all T enter the cache.

        ``mask`` is bool (T, L), ``positions`` int64 (T,). ``tapped`` takes what the layers say that it has as keys.
        """
        angles = positions[:, None].float() * self._inverse_frequencies                        # (T, W / 2)
        cosine, sine = angles.cos(), angles.sin()
        rotation = torch.cat([cosine, cosine], -1), torch.cat([-sine, sine], -1)
        additive = torch.zeros(mask.shape).masked_fill_(~mask, float('-inf'))
        states, last = embeds, len(self._layers) - 1
        for index, layer in enumerate(self._layers):
            states = layer(states, cache, index, rotation, additive, keep if index == last else 0)
            if tapped and index in tapped:
                tapped[index] = states[-keep:]
        return _rms_norm(states, self._norm, self._eps)


class _Layer:
    def __init__(self, layer: nn.Module) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norms = (layer.input_layernorm.weight, layer.post_attention_layernorm.weight)
        self.eps = layer.input_layernorm.variance_epsilon
        self.width, self.scaling = attention.head_dim, attention.scaling
        self.query, self.key, self.value, self.out = (attention.q_proj, attention.k_proj, attention.v_proj,
                                                      attention.o_proj)
        self.gate, self.up, self.down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.groups = attention.num_key_value_groups

    def __call__(self, states: torch.Tensor, cache: SequenceCache, index: int,
                 rotation: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor, keep: int) -> torch.Tensor:
        """States (T, D) after this layer; with ``keep`` only those of the last tokens (the others are not needed)."""
        normed = _rms_norm(states, self.norms[0], self.eps)
        keys = _rotate(_heads(_linear(normed, self.key), self.width), *rotation)
        values = _heads(_linear(normed, self.value), self.width)
        keys, values = cache.inner.update(keys[None], values[None], index)                    # (1, K, L, W)
        if keep:
            normed, states, mask = normed[-keep:], states[-keep:], mask[-keep:]
            rotation = (rotation[0][-keep:], rotation[1][-keep:])
        queries = _rotate(_heads(_linear(normed, self.query), self.width), *rotation)[None]      # (1, H, T, W)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=self.scaling,
                                                  enable_gqa=self.groups > 1)
        states = states + _linear(attended[0].transpose(0, 1).flatten(1), self.out)
        normed = _rms_norm(states, self.norms[1], self.eps)
        return states + _linear(F.silu(_linear(normed, self.gate)) * _linear(normed, self.up), self.down)


def _linear(states: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return F.linear(states, layer.weight, layer.bias)


def _heads(states: torch.Tensor, width: int) -> torch.Tensor:
    """(T, H * W) as (H, T, W)."""
    return states.unflatten(-1, (-1, width)).transpose(0, 1)


def _rotate(states: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary positions (2104.09864): the halves of a head turn against each other; ``sine`` carries the sign."""
    return states * cosine + states.roll(states.shape[-1] // 2, -1) * sine


def _rms_norm(states: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return weight * (states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + eps))
