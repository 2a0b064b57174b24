"""Quantised weights, by the libraries that make them: which kinds there are, where they run, and what is refused.

The linear layers of the decoder are quantised while they are loaded; embeddings, head, norms and the vision tower keep
their type. What matters for a target is that a row's result hangs on that row alone: scales of activations over a whole
forward, or columns that are chosen by all of its rows, would let a wrong draft change the words beside it. A kind that
only rounds weights has no such scales. One that rounds activations row by row is safe too, but a sum that another order
of adding puts over the edge between two whole numbers is rounded otherwise: `Kind.coarse`, to be judged as 16 bits are.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.files import one_line
from crossspec_ros.models.folder import quantisation_of

NONE = 'none'
_GROUP, _BLOCK = 128, 64           # weights that share a scale: int4, nf4
_MOST = 0.9                        # of a decoder's layers that must be linear, or quantising them gains nothing
_ROWS, _LOUD = 8, 100.0
_OWN_ROWS = 1e-3                   # how far a row's result may be off beside louder rows, of its norm
_WEIGHTS_ALONE = {'gptq', 'awq', 'auto-round', 'aqlm', 'vptq', 'hqq', 'eetq', 'higgs', 'spqr', 'sinq', 'bitsandbytes'}


@dataclass(frozen=True)
class Kind:
    """One way to keep weights. ``make`` gives torchao's settings, or transformers' fields for bitsandbytes, for a type
    to compute in; ``devices`` are those that it runs on; ``coarse``: activations are rounded, see above.

    A weight takes ``bits``, and each ``group`` of a row (0: the row) ``scale`` bytes, or as many numbers of the type
    that is computed in where that is negative.
    """

    library: str
    devices: tuple[str, ...]
    bits: int
    group: int
    scale: int
    make: Callable[[torch.dtype], Any]
    coarse: bool = False

    def bytes_of(self, rows: int, columns: int, element: int) -> int:
        """Bytes of a weight (rows, columns) where a number of the computing type takes ``element``."""
        groups = rows * (-(-columns // self.group) if self.group else 1)
        return rows * columns * self.bits // 8 + groups * (self.scale if self.scale > 0 else -self.scale * element)


def _int8(dtype: torch.dtype) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig
    return Int8WeightOnlyConfig()


def _int4(dtype: torch.dtype) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig
    return Int4WeightOnlyConfig(group_size=_GROUP, int4_packing_format='tile_packed_to_4d', set_inductor_config=False)


def _dynamic(dtype: torch.dtype) -> Any:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, PerRow
    return Int8DynamicActivationInt8WeightConfig(granularity=PerRow(), set_inductor_config=False)


def _nf4(dtype: torch.dtype) -> Any:
    return dict(load_in_4bit=True, bnb_4bit_quant_type='nf4', bnb_4bit_compute_dtype=dtype)


KINDS: dict[str, Kind] = {
    'int8': Kind('torchao', ('cpu', 'cuda'), 8, 0, -1, _int8),
    'int4': Kind('torchao', ('cuda',), 4, _GROUP, -2, _int4),
    'nf4': Kind('bitsandbytes', ('cpu', 'cuda'), 4, _BLOCK, 4, _nf4),
    'dynamic': Kind('torchao', ('cpu',), 8, 0, -1, _dynamic, coarse=True)}
KIND_NAMES = (NONE, *KINDS)


def find_kind(name: str) -> Kind | None:
    """The kind of this name, None for 'none'. Raises `CrossSpecError` for another name."""
    if name not in KIND_NAMES:
        raise CrossSpecError(f'quantization must be one of {", ".join(KIND_NAMES)}, got {name!r}')
    return KINDS.get(name)


def check_kind(name: str, folder: Path, device: torch.device) -> None:
    """Raise `CrossSpecError` where weights in a folder cannot be quantised so on a device: it does not run there, its
    library is not installed, or the weights are quantised already."""
    kind = find_kind(name)
    method = quantisation_of(folder)
    if method == 'bitsandbytes-8bit':
        raise CrossSpecError(f'quantization_config in {folder / "config.json"} must round rows one by one, got '
                             'load_in_8bit of bitsandbytes, which picks columns by all rows of a forward, so that a '
                             'draft could change the words beside it; use the weights that are not quantised, with '
                             'quantization int8')
    if kind is None:
        return
    if method is not None:
        raise CrossSpecError(f'quantization must be none for weights that are quantised already, got {name} for '
                             f'{method} in {folder / "config.json"}; leave it out, or use the weights that are not '
                             'quantised')
    if device.type not in kind.devices:
        others = [other for other, one in KINDS.items() if device.type in one.devices]
        raise CrossSpecError(f'quantization {name} runs on {" and ".join(kind.devices)} devices, got {device}; '
                             f'use one of {", ".join([*others, NONE])} there')
    for library in (kind.library, *(('accelerate',) if _spreads(kind, device) else ())):
        if find_spec(library) is None:
            raise CrossSpecError(f'quantization {name} on {device.type} needs the library {library}, which is not '
                                 f'installed; run pip install {library}, or use another of {", ".join(KIND_NAMES)}')


def _spreads(kind: Kind, device: torch.device) -> bool:
    """Whether transformers puts weights on the device itself, for which it takes accelerate."""
    return device.type != 'cpu' or kind.library == 'bitsandbytes'


def settings_for(name: str, shapes: nn.Module, dtype: torch.dtype) -> Any:
    """How transformers is told to quantise a model while loading it; ``shapes`` is the model without weights.

    Raises `CrossSpecError` for layers that cannot be, and for a type to compute in that the kind does not have.
    """
    from transformers import BitsAndBytesConfig, TorchAoConfig
    kind = KINDS[name]
    if name == 'int4' and dtype != torch.bfloat16:
        raise CrossSpecError(f'quantization int4 must compute in bfloat16, got {str(dtype).removeprefix("torch.")}; '
                             'set model.dtype to bfloat16')
    check_layers(name, shapes)
    kept = list(outside(shapes))
    if kind.library == 'bitsandbytes':
        return BitsAndBytesConfig(**kind.make(dtype), llm_int8_skip_modules=kept)
    return TorchAoConfig(kind.make(dtype), modules_to_not_convert=kept)


def layers_of(model: nn.Module) -> nn.Module:
    """The list of the decoder's layers. Raises `CrossSpecError` where a decoder has none."""
    layers = getattr(model.get_decoder(), 'layers', None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise CrossSpecError(f'the decoder {type(model.get_decoder()).__name__} must have its layers in a row to be '
                             'quantised; use quantization none')
    return layers


def linear_shapes(model: nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and shape (rows, columns) of each weight that is quantised."""
    for name, module in layers_of(model).named_modules():
        if isinstance(module, nn.Linear):
            yield name, tuple(module.weight.shape)


def check_layers(name: str, shapes: nn.Module) -> None:
    """Raise `CrossSpecError` where a decoder's layers are not what a kind quantises."""
    layers, found = layers_of(shapes), dict(linear_shapes(shapes))
    linear = sum(rows * columns for rows, columns in found.values())
    whole = sum(weight.numel() for weight in layers.parameters())
    if linear < _MOST * whole:
        inside = {module for module in layers.modules() if isinstance(module, nn.Linear)}
        _, largest = max((sum(weight.numel() for weight in module.parameters(recurse=False)), type(module).__name__)
                         for module in layers.modules() if module not in inside)
        raise CrossSpecError(f'quantization {name} is for weights in linear layers, got {100 * linear // whole}% of '
                             f'the decoder\'s there and the rest in {largest}; use quantization none')
    group = KINDS[name].group
    for place, (_, columns) in found.items():
        if group and columns % group:
            raise CrossSpecError(f'quantization {name} needs layers of widths divisible by {group}, got {columns} in '
                                 f'{place}; use int8')


def outside(model: nn.Module) -> Iterator[str]:
    """Names of the largest modules that do not hold the decoder's layers."""
    layers = layers_of(model)

    def walk(module: nn.Module, prefix: str) -> Iterator[str]:
        for name, child in module.named_children():
            if child is layers:
                continue
            if any(inner is layers for inner in child.modules()):
                yield from walk(child, f'{prefix}{name}.')
            else:
                yield prefix + name
    return walk(model, '')


def stored_bytes(model: nn.Module) -> int:
    """Bytes that a model's weights take, scales of quantised ones included."""
    total = sum(_stored(weight) for weight in model.parameters())
    if getattr(model, 'is_quantized', False):                       # some libraries keep theirs as buffers
        total += sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    return total


def _stored(weight: torch.Tensor) -> int:
    if hasattr(weight, '__tensor_flatten__'):
        parts = (getattr(weight, name) for name in weight.__tensor_flatten__()[0])
        return sum(_stored(part) for part in parts if isinstance(part, torch.Tensor))
    scales = getattr(getattr(weight, 'quant_state', None), 'absmax', None)
    return weight.numel() * weight.element_size() + (0 if scales is None else _stored(scales))


def rounds_activations(name: str, folder: Path, config: Mapping[str, Any] | None) -> bool:
    """Whether activations are rounded, for a kind asked for or a ``quantization_config`` of a checkpoint."""
    kind = find_kind(name)
    if kind is not None:
        return kind.coarse
    method = quantisation_of(folder)
    if method is None or method in _WEIGHTS_ALONE:
        return False
    groups = (config or {}).get('config_groups')
    if method == 'compressed-tensors' and isinstance(groups, dict):
        return any(isinstance(group, dict) and group.get('input_activations') for group in groups.values())
    return not (method == 'torchao' and 'WeightOnly' in str(config))


@torch.inference_mode()
def check_rows(model: nn.Module, folder: Path) -> None:
    """Raise `CrossSpecError` where what a quantised layer makes of a row depends on the rows beside it.

    The same rows go through each layer of one decoder layer alone among quiet ones, and beside much louder ones.
    """
    generator = torch.Generator().manual_seed(0)
    for name, module in layers_of(model)[0].named_modules():
        width = getattr(module, 'in_features', None)
        if not isinstance(width, int):
            continue
        rows = torch.randn(2 * _ROWS, width, generator=generator)
        loud = torch.cat([rows[:_ROWS], rows[_ROWS:] * _LOUD])
        try:
            quiet, beside = (module(each.to(model.device, model.dtype))[:_ROWS].float() for each in (rows, loud))
        except (RuntimeError, ValueError, TypeError, NotImplementedError, ImportError) as error:
            raise CrossSpecError(f'the quantised layer {name} in {folder} cannot be computed on {model.device}: '
                                 f'{one_line(error)}; use another quantization or device') from error
        away = (beside - quiet).norm(dim=1)
        off = float(torch.where(away == 0, 0.0, away / quiet.norm(dim=1)).nan_to_num(nan=float('inf')).max())
        if off > _OWN_ROWS:
            raise CrossSpecError(f'the quantised layer {name} in {folder} must round rows one by one, got a row that '
                                 f'is off by {off:.2g} of its norm beside louder ones: a draft could change the words '
                                 'beside it; use other weights')
