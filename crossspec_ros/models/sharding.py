"""What each of several processes holds of a model: transformers' plan for the class, or for its decoder's family.

The plan says for each matrix whether its rows or its columns are shared out; transformers does it while it loads.
"""
from __future__ import annotations

import re
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.files import one_line

_HEADS = ('num_attention_heads', 'num_key_value_heads', 'num_heads')
_MEMBER = re.compile(r'(_vl)?(_text)?$')          # a decoder of a class of pictures, in the name of its family


def sharded(folder: Path, name: str, config: PreTrainedConfig, count: int) -> dict[str, Any]:
    """Options of ``from_pretrained`` by which each of ``count`` processes holds its part of the class ``name``.

    Raises `CrossSpecError` where transformers has no plan for its decoder, or its heads cannot be shared out.
    """
    import transformers
    _check_library()
    known = getattr(transformers, name, None)
    if known is None:
        raise CrossSpecError(f'model.tensor_parallel must be 1 for {name}, whose code is its own; got {count}')
    try:
        with torch.device('meta'):
            model = known._from_config(config)
    except Exception as error:                         # each class says in its own way what its config lacks
        raise CrossSpecError(f'{name} cannot be built from {folder / "config.json"}: {one_line(error)}') from error
    extra = _missing_rules(model, name, count)
    _check_heads(model, (model.tp_plan or {}) | extra, name, count)
    return _options(extra, count)


def _check_library() -> None:
    from importlib.util import find_spec
    if find_spec('accelerate') is None:
        raise CrossSpecError('model.tensor_parallel needs the library accelerate, which is not installed: '
                             'pip install accelerate')


def _options(extra: dict[str, str], count: int) -> dict[str, Any]:
    """The same for transformers of several versions: older ones take the plan by itself, and none of one's own."""
    from transformers.distributed import DistributedConfig
    if 'tp_plan' in signature(DistributedConfig).parameters:
        return {'distributed_config': DistributedConfig(tp_plan=extra or 'auto', tp_size=count)}
    if extra:
        raise CrossSpecError('model.tensor_parallel needs a newer transformers for this class, whose own plan leaves '
                             'the layers out: pip install --upgrade transformers')
    return {'tp_plan': 'auto', 'tp_size': count}


def _missing_rules(model: PreTrainedModel, name: str, count: int) -> dict[str, str]:
    """Rules for the decoder's layers where the class's own plan has none for them."""
    decoder = model.get_decoder()
    place = next(place for place, module in model.named_modules() if module is decoder)
    place = f'{place}.' if place else ''
    if any(rule.startswith(f'{place}layers.') for rule in model.tp_plan or {}):
        return {}
    kind = model.config.get_text_config(decoder=True).model_type
    family = _MEMBER.sub('', kind)
    plan = getattr(CONFIG_MAPPING[family], 'base_model_tp_plan', None) if family in CONFIG_MAPPING else None
    plan = {rule: way for rule, way in (plan or {}).items() if rule.startswith('layers.')}
    if not plan or not _fits(decoder, plan):
        raise CrossSpecError(f'model.tensor_parallel must be 1 for {name}: transformers has no plan by which the '
                             f'layers of its decoder ({kind}) can be shared out; got {count}')
    return {f'{place}{rule}': way for rule, way in plan.items()}


def _fits(decoder: nn.Module, plan: dict[str, str]) -> bool:
    """Whether rules name modules of each layer, and leave no matrix of a layer out."""
    found: dict[str, set[str]] = {}
    for place, module in decoder.named_modules():
        if re.match(r'layers\.\d+\.', place):
            rule = re.sub(r'\.\d+\.', '.*.', place, count=1)
            if rule in plan or isinstance(module, nn.Linear):
                found.setdefault(place.split('.')[1], set()).add(rule)
    return bool(found) and all(rules == set(plan) for rules in found.values())


def _check_heads(model: PreTrainedModel, plan: dict[str, str], name: str, count: int) -> None:
    """Raises `CrossSpecError` where the heads of a part that the plan shares out are no multiple of ``count``."""
    decoder = model.get_decoder()
    for place, module in model.named_modules():
        config = getattr(module, 'config', None)
        if not isinstance(module, PreTrainedModel) or module is model or not any(
                rule.startswith(f'{place}.') for rule in plan):
            continue
        if module is not decoder and hasattr(module, 'get_decoder') and any(
                inner is decoder for inner in module.modules()):
            continue                                   # it holds the decoder, whose own config says what counts
        for field in _HEADS:
            heads = getattr(config, field, None)
            if isinstance(heads, int) and heads % count:
                raise CrossSpecError(f'model.tensor_parallel must divide {field} of {name}, {heads}, got {count}')
