"""torchvision for transformers' processors, also where its compiled half does not load.

transformers imports torchvision wherever it is installed, and its processors use nothing of it but the resizing that is
written in Python. A torchvision built for another torch (a CUDA one beside a CPU torch) fails on import since it wants
to describe compiled operators that are not there; descriptions of absent operators are left out here.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import torch

from crossspec_ros.errors import CrossSpecError

_PREFIX = 'torchvision::'


@lru_cache(maxsize=1)
def load_vision_ops() -> bool:
    """Import torchvision if it is installed; False where it is not. Call this before transformers' classes are used."""
    if find_spec('torchvision') is None:
        return False
    real = torch.library.register_fake

    def tolerant(name: object, *arguments: object, **options: object) -> Callable:
        if not isinstance(name, str) or not name.startswith(_PREFIX):
            return real(name, *arguments, **options)

        def register(function: Callable) -> Callable:
            try:
                return real(name, *arguments, **options)(function)
            except RuntimeError:                      # the operator is in the compiled half, which did not load
                return function
        return register

    torch.library.register_fake = tolerant
    try:
        import torchvision  # noqa: F401
    finally:
        torch.library.register_fake = real
    return True


def require_vision_ops(folder: object) -> None:
    """Raises `CrossSpecError` where torchvision is not installed: the processor of ``folder`` needs it."""
    if not load_vision_ops():
        raise CrossSpecError(f'the processor in {folder} needs torchvision, which is not installed; install the '
                             f'torchvision that fits torch {torch.__version__}')
