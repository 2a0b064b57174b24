"""From a folder, a hub id or ``builtin`` to a target."""
from __future__ import annotations

from pathlib import Path

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import loading
from crossspec_ros.models.targets.adapters import ADAPTERS, Adapter, Parts
from crossspec_ros.models.targets.transformers_target import Scorer, TransformersTarget
from crossspec_ros.models.vision_ops import load_vision_ops


def load_target(path: str | Path = 'builtin', device: str = 'cpu', dtype: str = 'float32', cache: str = 'dynamic',
                lean: bool = True, fps: float = 8.0, trust_remote_code: bool = False,
                scorer: Scorer | None = None) -> TransformersTarget:
    """Load a checkpoint folder, a hub id (``owner/name``) or ``builtin`` as a target.

    ``cache`` is 'dynamic' (cost follows the true length) or 'static' (fixed addresses). ``lean``: use `models.lean`
    where it serves. ``fps``: frames a second, where the prompt tells the model when frames were taken.
    Raises `CrossSpecError` when it is not there, parts of it are missing or do not fit each other, its class cannot be
    served exactly, or ``device`` or ``dtype`` is not available.
    """
    load_vision_ops()
    if not fps > 0:
        raise CrossSpecError(f'fps must be > 0, got {fps}')
    return TransformersTarget(load_adapter(path, device, dtype, fps, trust_remote_code), cache, lean, scorer)


def load_adapter(path: str | Path, device: str, dtype: str, fps: float, trust_remote_code: bool) -> Adapter:
    """The adapter over a loaded model. Raises as `load_target` does."""
    torch_device, torch_dtype = loading.find_device(device), loading.find_dtype(dtype)
    folder = loading.find_folder(path)
    architectures = loading.architectures(folder)
    if not trust_remote_code:
        loading.refuse_own_code(folder)
    named = next((name for name in architectures if name in ADAPTERS), None)
    if named is None:
        raise CrossSpecError(f'class must be one of {", ".join(ADAPTERS)}, got {", ".join(architectures)} in {folder}')
    tokenizer = loading.load_tokenizer(folder)
    model = loading.load_model(folder, named, torch_dtype).to(torch_device).eval().requires_grad_(False)
    adapter = ADAPTERS[named](Parts(folder, model, tokenizer, float(fps)))
    loading.check_vocabulary(tokenizer, adapter.head.weight.shape[0], adapter.placeholder_ids[-1], folder)
    return adapter
