"""From a folder, a hub id or ``builtin`` to a target."""
from __future__ import annotations

import logging
from pathlib import Path

from transformers import PreTrainedModel

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import loading
from crossspec_ros.models.builtin import BUILTIN
from crossspec_ros.models.devices import find_device
from crossspec_ros.models.folder import check_folder, quantisation_of, read_config
from crossspec_ros.models.generation import check_generation_file, make_scorer, stop_strings
from crossspec_ros.models.quantization import NONE, check_kind, check_rows, rounds_activations
from crossspec_ros.models.remembered import keep, recall
from crossspec_ros.models.targets.adapters import ADAPTERS, EXACT_PATCHES, Adapter, Parts
from crossspec_ros.models.targets.checking import fault, padded_fault
from crossspec_ros.models.targets.generic import GenericAdapter
from crossspec_ros.models.targets.transformers_target import TransformersTarget

_log = logging.getLogger(__name__)
_SERVED = 'served'


def load_target(path: str | Path = 'builtin', device: str = 'cpu', dtype: str = 'auto', cache: str = 'auto',
                lean: bool = True, fps: float = 8.0, trust_remote_code: bool = False,
                allow_pickle: bool = False, max_new_tokens: int = 96, quantization: str = NONE) -> TransformersTarget:
    """Load a checkpoint folder, a hub id (``owner/name``) or ``builtin`` as a target.

    ``dtype`` 'auto' is float32 on a CPU, elsewhere the type of the checkpoint. ``cache`` is 'dynamic' (cost follows the
    true length), 'static' (whole buffers at fixed addresses), 'padded' (those, and passes filled up to a few sizes:
    `models.targets.padded`), or 'auto': padded on a CUDA device, else dynamic. Where a model does not say the same in
    padded passes they are refused: a warning, and a count in ``forwards``. ``lean``: use `models.lean` where it serves.
    ``fps``: frames a second, where the prompt tells the model when frames were taken.
    ``trust_remote_code`` runs Python code of the checkpoint, ``allow_pickle`` reads weights that are not safetensors.
    ``max_new_tokens`` is the longest answer that will be asked for: some generation settings hang on it.
    ``quantization``: how weights are kept, a kind of `models.quantization`; exact then means equal to the quantised
    model's own ``generate``.
    Raises `CrossSpecError` when it is not there, parts of it are missing or do not fit each other, its class cannot be
    served exactly, or ``device`` or ``dtype`` is not available.
    """
    if not fps > 0:
        raise CrossSpecError(f'fps must be > 0, got {fps}')
    adapter = load_adapter(path, device, dtype, fps, trust_remote_code, allow_pickle, quantization)
    kind, refused = _kind_of(adapter, cache)
    target = TransformersTarget(adapter, kind, lean, stop_strings=stop_strings(adapter.model))
    if refused:
        target.forwards['padded_refused'] = 1
    target.scorer = make_scorer(adapter.model, adapter.tokenizer, max_new_tokens, target.eos_ids, target.banned_ids)
    return target


def _kind_of(adapter: Adapter, cache: str) -> tuple[str, bool]:
    """The kind of cache that is asked for and served, and whether padded passes were refused."""
    if cache == 'auto':
        cache = 'padded' if adapter.model.device.type == 'cuda' else 'dynamic'
    wrong = padded_fault(adapter) if cache == 'padded' else None
    if wrong is None:
        return cache, False
    _log.warning('%s in %s cannot be served in passes filled up to a size, and is served without: %s',
                 type(adapter.model).__name__, adapter.parts.folder, wrong)
    return 'dynamic', True


def load_adapter(path: str | Path, device: str = 'cpu', dtype: str = 'auto', fps: float = 8.0,
                 trust_remote_code: bool = False, allow_pickle: bool = False, quantization: str = NONE) -> Adapter:
    """The adapter over a loaded model. Raises as `load_target` does."""
    torch_device = find_device(device)
    torch_dtype = loading.find_dtype(dtype, torch_device)
    folder = loading.find_folder(path, allow_pickle)
    check_folder(folder, trust_remote_code, allow_pickle)
    check_kind(quantization, folder, torch_device)
    architectures = loading.architectures(folder)
    name = next((one for one in architectures if one in ADAPTERS), architectures[0])
    _check_class(name, folder, trust_remote_code)
    if name in EXACT_PATCHES:
        loading.check_processor_fields(folder)
    check_generation_file(folder)
    tokenizer = loading.load_tokenizer(folder, trust_remote_code)
    model = loading.load_model(folder, name, torch_dtype, trust_remote_code, allow_pickle, torch_device,
                               quantization)
    model = model.eval().requires_grad_(False)
    loading.check_vocabulary(tokenizer, _vocabulary(model), folder)
    coarse = False
    if quantisation_of(folder) is not None or quantization != NONE:
        coarse = rounds_activations(quantization, folder, read_config(folder).get('quantization_config'))
        check_rows(model, folder)
    parts = Parts(folder, model, tokenizer, float(fps), trust_remote_code, quantization, coarse)
    return _adapter(parts, ADAPTERS.get(name), trusted=str(path) in ('', BUILTIN))


def _check_class(name: str, folder: Path, trust_remote_code: bool) -> None:
    """Raises `CrossSpecError` for a class that is none of pictures and text."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if name not in {*MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values(), *ADAPTERS} and not trust_remote_code:
        raise CrossSpecError('class must be one of pictures and text in transformers (AutoModelForImageTextToText), '
                             f'got {name} in {folder / "config.json"}')


def _vocabulary(model: PreTrainedModel) -> int:
    """Rows of the embeddings, or of the logits where these are more."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    return max((module.weight.shape[0] for module in modules if module is not None), default=0)


def _adapter(parts: Parts, named: type[Adapter] | None, trusted: bool) -> Adapter:
    """The named adapter where there is one and it does what the model does, else one that learns.

    ``trusted`` skips the trial. Raises `CrossSpecError` where neither serves.
    """
    if named is not None:
        adapter, unfit = _tried(named, parts, trusted)
        if adapter is not None:
            return adapter
    adapter, wrong = _tried(GenericAdapter, parts)
    if adapter is None:                                # what a class's own adapter misses says more
        raise CrossSpecError(f'{type(parts.model).__name__} in {parts.folder} cannot be served exactly: '
                             f'{wrong if named is None else unfit}')
    if named is not None:
        _log.warning('%s does not fit the checkpoint in %s (%s); its layout was learned instead, which costs more for '
                     'each frame', named.__name__, parts.folder, unfit)
    return adapter


def _tried(kind: type[Adapter], parts: Parts, trusted: bool = False) -> tuple[Adapter | None, str]:
    """An adapter, or None and what is wrong with it."""
    try:
        adapter = kind(parts)
    except CrossSpecError as error:
        return None, str(error)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return None, f'it is built in another way than expected ({type(error).__name__}: {error})'
    settings = {'adapter': kind.__name__, 'dtype': str(parts.model.dtype), 'device': str(parts.model.device.type),
                'fps': parts.fps, 'quantization': parts.quantization}
    if (trusted and parts.quantization == NONE) or recall(parts.folder, 'trial', **settings) == _SERVED:
        return adapter, ''
    wrong = fault(adapter)
    if wrong is not None:
        return None, wrong
    keep(parts.folder, 'trial', _SERVED, **settings)
    return adapter, ''
