"""From a folder, a hub id or ``builtin`` to a target."""
from __future__ import annotations

import logging
from pathlib import Path

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import loading
from crossspec_ros.models.builtin import BUILTIN
from crossspec_ros.models.targets.adapters import ADAPTERS, Adapter, Parts
from crossspec_ros.models.targets.checking import fault
from crossspec_ros.models.targets.generic import GenericAdapter
from crossspec_ros.models.targets.transformers_target import Scorer, TransformersTarget

_log = logging.getLogger(__name__)


def load_target(path: str | Path = 'builtin', device: str = 'cpu', dtype: str = 'float32', cache: str = 'dynamic',
                lean: bool = True, fps: float = 8.0, trust_remote_code: bool = False, pickled: bool = False,
                scorer: Scorer | None = None) -> TransformersTarget:
    """Load a checkpoint folder, a hub id (``owner/name``) or ``builtin`` as a target.

    ``cache`` is 'dynamic' (cost follows the true length) or 'static' (fixed addresses). ``lean``: use `models.lean`
    where it serves. ``fps``: frames a second, where the prompt tells the model when frames were taken.
    ``trust_remote_code`` runs Python code of the checkpoint, ``pickled`` reads weights that are not safetensors.
    Raises `CrossSpecError` when it is not there, parts of it are missing or do not fit each other, its class cannot be
    served exactly, or ``device`` or ``dtype`` is not available.
    """
    if not fps > 0:
        raise CrossSpecError(f'fps must be > 0, got {fps}')
    return TransformersTarget(load_adapter(path, device, dtype, fps, trust_remote_code, pickled), cache, lean, scorer)


def load_adapter(path: str | Path, device: str = 'cpu', dtype: str = 'float32', fps: float = 8.0, trust_remote_code: bool = False,
                 pickled: bool = False) -> Adapter:
    """The adapter over a loaded model. Raises as `load_target` does."""
    torch_device, torch_dtype = loading.find_device(device), loading.find_dtype(dtype)
    folder = loading.find_folder(path)
    architectures = loading.architectures(folder)
    if not trust_remote_code:
        loading.refuse_own_code(folder)
    tokenizer = loading.load_tokenizer(folder, trust_remote_code)
    name = next((one for one in architectures if one in ADAPTERS), architectures[0])
    model = loading.load_model(folder, name, torch_dtype, trust_remote_code, pickled)
    parts = Parts(folder, model.to(torch_device).eval().requires_grad_(False), tokenizer, float(fps), trust_remote_code)
    adapter = _adapter(parts, ADAPTERS.get(name), trusted=str(path) in ('', BUILTIN))
    loading.check_vocabulary(tokenizer, adapter.head.weight.shape[0], adapter.placeholder_ids[-1], folder)
    return adapter


def _adapter(parts: Parts, named: type[Adapter] | None, trusted: bool) -> Adapter:
    """The named adapter where there is one and it does what the model does, else one that learns.

    ``trusted`` skips the trial. Raises `CrossSpecError` where neither serves.
    """
    if named is not None:
        try:
            adapter = named(parts)
            wrong = None if trusted else fault(adapter)
        except CrossSpecError as error:
            adapter, wrong = None, str(error)
        if wrong is None:
            return adapter
        _log.warning('%s does not fit the checkpoint in %s (%s); its layout is learned instead', named.__name__,
                     parts.folder, wrong)
    adapter = GenericAdapter(parts)
    wrong = fault(adapter)
    if wrong is not None:
        raise CrossSpecError(f'{type(parts.model).__name__} in {parts.folder} cannot be served exactly: {wrong}')
    return adapter
