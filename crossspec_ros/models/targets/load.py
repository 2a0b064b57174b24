"""From a folder, a hub id or ``builtin`` to a target."""
from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import loading
from crossspec_ros.models.builtin import BUILTIN
from crossspec_ros.models.devices import find_device
from crossspec_ros.models.folder import check_folder, quantisation_of, read_config
from crossspec_ros.models.generation import check_generation_file, make_scorer, stop_strings
from crossspec_ros.models.quantization import NONE, check_kind, check_rows, rounds_activations
from crossspec_ros.models.ranks import Ranks, lead
from crossspec_ros.models.remembered import keep, recall
from crossspec_ros.models.targets.adapters import ADAPTERS, EXACT_PATCHES, Adapter, Parts
from crossspec_ros.models.targets.checking import fault, padded_fault
from crossspec_ros.models.targets.generic import GenericAdapter
from crossspec_ros.models.targets.transformers_target import TransformersTarget

_log = logging.getLogger(__name__)
_SERVED = 'served'


def load_target(path: str | Path = 'builtin', device: str = 'cpu', dtype: str = 'auto', cache: str = 'auto',
                lean: bool = True, fps: float = 8.0, trust_remote_code: bool = False,
                allow_pickle: bool = False, max_new_tokens: int = 96, quantization: str = NONE,
                ranks: int = 1) -> TransformersTarget:
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
    ``ranks``: processes, each with a device of its own, that share the model, this one among them;
    `TransformersTarget.close` lets them go.
    Raises `CrossSpecError` when it is not there, parts of it are missing or do not fit each other, its class cannot be
    served exactly, or ``device`` or ``dtype`` is not available.
    """
    if not fps > 0:
        raise CrossSpecError(f'fps must be > 0, got {fps}')
    if ranks > 1:
        return _load_together(ranks, max_new_tokens, quantization, path=str(path), device=device, dtype=dtype,
                              cache=cache, fps=fps, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
    adapter = load_adapter(path, device, dtype, fps, trust_remote_code, allow_pickle, quantization)
    kind, refused = _kind_of(adapter, cache)
    target = TransformersTarget(adapter, kind, lean, stop_strings=stop_strings(adapter.model))
    if refused:
        target.forwards['padded_refused'] = 1
    target.scorer = make_scorer(adapter.model, adapter.tokenizer, max_new_tokens, target.eos_ids, target.banned_ids)
    return target


def load_leading(ranks: Ranks, max_new_tokens: int = 96, **settings: Any) -> TransformersTarget:
    """A target whose model is shared by processes that have come together, as their rank 0.

    ``settings`` are the other arguments of `load_target`, all of them. Raises as that.
    """
    from crossspec_ros.models.targets.leading import LeadingTarget
    with ranks.together('load', threads=torch.get_num_threads(), settings=settings):
        shared = load_shared(ranks, **settings)
    adapter = shared.adapter
    target = LeadingTarget(adapter, ranks, shared.cache_kind, shared.stop_strings)
    target.scorer = make_scorer(adapter.model, adapter.tokenizer, max_new_tokens, target.eos_ids, target.banned_ids)
    return target


def _load_together(count: int, max_new_tokens: int, quantization: str, **settings: Any) -> TransformersTarget:
    if quantization != NONE:
        raise CrossSpecError(f'model.quantization must be none for a model that several processes share, got '
                             f'{quantization}: their parts are rounded apart, in another way than the whole')
    if settings['cache'] == 'padded':
        raise CrossSpecError('model.cache must be auto or dynamic for a model that several processes share, got '
                             'padded: what one of them captures the others would have to capture at the same moment')
    check_shared(count, settings['path'], settings['trust_remote_code'], settings['allow_pickle'])
    ranks = lead(count, find_device(settings['device']))
    try:
        return load_leading(ranks, max_new_tokens, **settings)
    except BaseException:
        ranks.close()
        raise


def check_shared(count: int, path: str, trust_remote_code: bool = False, allow_pickle: bool = False) -> None:
    """Raises `CrossSpecError` where a checkpoint cannot be shared by so many processes, before any is started."""
    from crossspec_ros.models.sharding import sharded
    folder = loading.find_folder(path, allow_pickle)
    check_folder(folder, trust_remote_code, allow_pickle)
    name = loading.architectures(folder)[0]
    _check_class(name, folder, trust_remote_code)
    if quantisation_of(folder) is not None:
        raise CrossSpecError(f'{folder}: weights that are quantised already cannot be shared by several processes; '
                             'use the checkpoint that they were made from')
    sharded(folder, name, loading.load_config(folder, trust_remote_code), count)


def load_shared(ranks: Ranks, path: str, device: str, dtype: str, cache: str, fps: float, trust_remote_code: bool,
                allow_pickle: bool) -> TransformersTarget:
    """This process's share of a model, while the others load theirs. Raises `CrossSpecError` in all of them alike."""
    adapter = load_adapter(path, str(ranks.device), dtype, fps, trust_remote_code, allow_pickle, ranks=ranks)
    return TransformersTarget(adapter, 'dynamic' if cache == 'auto' else cache, lean=False,
                              stop_strings=stop_strings(adapter.model))


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
                 trust_remote_code: bool = False, allow_pickle: bool = False, quantization: str = NONE,
                 ranks: Ranks | None = None) -> Adapter:
    """The adapter over a loaded model, or over this process's share of it. Raises as `load_target` does."""
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
    model = _model(ranks, folder, name, torch_dtype, trust_remote_code, allow_pickle, torch_device, quantization)
    model = model.eval().requires_grad_(False)
    loading.check_vocabulary(tokenizer, _vocabulary(model), folder)
    coarse = False
    if quantisation_of(folder) is not None or quantization != NONE:
        coarse = rounds_activations(quantization, folder, read_config(folder).get('quantization_config'))
        check_rows(model, folder)
    parts = Parts(folder, model, tokenizer, float(fps), trust_remote_code, quantization, coarse)
    return _adapter(parts, ADAPTERS.get(name), trusted=str(path) in ('', BUILTIN), recalled=ranks is None)


def _model(ranks: Ranks | None, *wanted: Any) -> PreTrainedModel:
    """The model; with ``ranks`` this process's share, once all have theirs."""
    if ranks is None:
        return loading.load_model(*wanted)
    try:
        model = loading.load_model(*wanted, ranks.count)
    except Exception as error:
        ranks.meet(str(error) if isinstance(error, CrossSpecError) else f'{type(error).__name__}: {error}')
        raise
    ranks.meet()
    return model


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


def _adapter(parts: Parts, named: type[Adapter] | None, trusted: bool, recalled: bool = True) -> Adapter:
    """The named adapter where there is one and it does what the model does, else one that learns.

    ``trusted`` skips the trial, ``recalled`` takes the word of an earlier one. Raises `CrossSpecError` where neither
    serves.
    """
    if named is not None:
        adapter, unfit = _tried(named, parts, trusted, recalled)
        if adapter is not None:
            return adapter
    adapter, wrong = _tried(GenericAdapter, parts, recalled=recalled)
    if adapter is None:                                # what a class's own adapter misses says more
        raise CrossSpecError(f'{type(parts.model).__name__} in {parts.folder} cannot be served exactly: '
                             f'{wrong if named is None else unfit}')
    if named is not None:
        _log.warning('%s does not fit the checkpoint in %s (%s); its layout was learned instead, which costs more for '
                     'each frame', named.__name__, parts.folder, unfit)
    return adapter


def _tried(kind: type[Adapter], parts: Parts, trusted: bool = False,
           recalled: bool = True) -> tuple[Adapter | None, str]:
    """An adapter, or None and what is wrong with it."""
    try:
        adapter = kind(parts)
    except CrossSpecError as error:
        return None, str(error)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return None, f'it is built in another way than expected ({type(error).__name__}: {error})'
    settings = {'adapter': kind.__name__, 'dtype': str(parts.model.dtype), 'device': str(parts.model.device.type),
                'fps': parts.fps, 'quantization': parts.quantization}
    trusted = trusted and parts.quantization == NONE
    if trusted or (recalled and recall(parts.folder, 'trial', **settings) == _SERVED):
        return adapter, ''
    wrong = fault(adapter)
    if wrong is not None:
        return None, wrong
    if recalled:
        keep(parts.folder, 'trial', _SERVED, **settings)
    return adapter, ''
