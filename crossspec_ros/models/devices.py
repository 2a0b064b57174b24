"""From the name of a device to the device, for every model alike; no transformers needed."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from crossspec_ros.errors import CrossSpecError


def find_device(device: str) -> torch.device:
    """The device of this name. Raises `CrossSpecError` where torch cannot use it here."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()                               # `meta` makes tensors, and computes nothing
    except (RuntimeError, AssertionError, ValueError, TypeError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition('. ')[0]
        raise CrossSpecError(f'device must be one that torch can use here ({", ".join(_usable())}), got {device!r}: '
                             f'{reason}') from error
    return found


def is_sharded(module: nn.Module) -> bool:
    """Whether a module holds only a part of its weights."""
    return any(type(weight) is not nn.Parameter for weight in module.parameters(recurse=False))


def sent(numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    """Whole numbers on a device, int64 (n,). Nobody waits for a CUDA device: torch keeps the pinned copy until it has
    arrived."""
    if device.type != 'cuda':
        return torch.tensor(numbers, dtype=torch.int64, device=device)
    return torch.tensor(numbers, dtype=torch.int64, pin_memory=True).to(device, non_blocking=True)


def _usable() -> list[str]:
    """Names of the devices that are here."""
    names = ['cpu']
    if torch.cuda.is_available():
        names += [f'cuda:{index}' for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append('mps')
    return names
