"""Heads made for a verifier: from its shapes, bound to its words."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads.config import HeadConfig, usual_layers
from crossspec_ros.models.heads.eagle import EagleHead
from crossspec_ros.models.heads.network import StateHead, Words
from crossspec_ros.models.heads.parallel import BlockHead, MedusaHead
from crossspec_ros.models.targets import TransformersTarget

_CLASSES: dict[str, type[StateHead]] = {'eagle1': EagleHead, 'eagle3': EagleHead, 'medusa': MedusaHead,
                                        'block': BlockHead}


def build_head(config: HeadConfig) -> StateHead:
    """A head of these shapes, not yet bound; its weights are torch's own random ones."""
    return _CLASSES[config.kind](config)


def bound_head(head: StateHead, target: TransformersTarget, dtype: torch.dtype | None = None) -> StateHead:
    """The head on the verifier's device, with its words; in float32 on a CPU, in the verifier's type elsewhere, where
    ``dtype`` does not say otherwise.

    Raises `CrossSpecError` where the verifier's states or words are not those that the head was made for.
    """
    config, adapter = head.config, target.adapter
    weight, bias = adapter.head.weight, getattr(adapter.head, 'bias', None)
    if not weight.is_floating_point() or weight.ndim != 2:
        raise CrossSpecError('the verifier must have its output matrix in floating point for heads to use it, got '
                             f'{weight.dtype}; load it without quantisation of that matrix, or without heads')
    width = adapter.embedding(torch.zeros(1, dtype=torch.long, device=target.device)).shape[-1]
    if (weight.shape[1], width) != (config.dim, config.dim):
        raise CrossSpecError(f'the head {config.kind} must be of the width of the verifier\'s states and words, '
                             f'{weight.shape[1]} and {width}, got {config.dim}; train it for this verifier')
    if not bool(((head.kept >= 0) & (head.kept < target.vocab_size)).all()):
        raise CrossSpecError(f'the head {config.kind} must say tokens below {target.vocab_size}, got '
                             f'{int(head.kept.max())}; train it for this verifier')
    dtype = dtype or (torch.float32 if target.device.type == 'cpu' else target.dtype)
    head = head.to(target.device, dtype)
    with torch.no_grad():
        out = weight.detach()[head.kept].to(dtype).clone()
        bias = None if bias is None else bias.detach()[head.kept].to(dtype).clone()
    head.bind(Words(adapter.embedding, out, bias))
    return head


def new_head(kind: str, target: TransformersTarget, kept_ids: Sequence[int], seed: int = 0,
             build: Callable[[HeadConfig], StateHead] = build_head, **shapes: int) -> StateHead:
    """A head with random weights from ``seed`` for a verifier, which may say ``kept_ids``.

    ``build``: another network of the kind's shapes; ``shapes``: fields of `HeadConfig` other than the usual ones. A
    head is some percent of a large verifier: its MLP is no wider than twice the states. Raises `CrossSpecError` for
    shapes that do not fit.
    """
    dim = int(target.adapter.head.weight.shape[1])
    layers = usual_layers(kind, int(target.adapter.text_config.num_hidden_layers))
    usual = dict(layers=layers, dim=dim, words=len(kept_ids), mlp_dim=dim if kind == 'block' else 2 * dim,
                 attention_heads=max(1, dim // 64), depth=8 if kind == 'block' else 4)
    config = HeadConfig(kind, target.model_key, **(usual | shapes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = build(config)
    head.kept.copy_(torch.tensor(sorted(kept_ids)))
    return bound_head(head, target)
