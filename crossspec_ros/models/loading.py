"""From a folder or a hub id to the parts of a target model, with errors that say which part is wrong and what to do."""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.builtin import BUILTIN, builtin_path
from crossspec_ros.models.files import one_line, read_object
from crossspec_ros.models.folder import check_tokenizer_files, class_names, read_config, weight_files, weight_sizes
from crossspec_ros.models.quantization import NONE, settings_for

_log = logging.getLogger(__name__)
_DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
_OWN = 'auto'
_STORED = {'F32': torch.float32, 'BF16': torch.bfloat16, 'F16': torch.float16}


def find_dtype(dtype: str, device: torch.device) -> torch.dtype | None:
    """The type that weights compute in, by name. 'auto' is float32 on a CPU, and elsewhere the checkpoint's own: None.

    Raises `CrossSpecError` for another name.
    """
    if dtype == _OWN:
        return torch.float32 if device.type == 'cpu' else None
    if dtype not in _DTYPES:
        raise CrossSpecError(f'dtype must be one of {_OWN}, {", ".join(_DTYPES)}, got {dtype!r}')
    return _DTYPES[dtype]


def find_folder(path: str | Path, allow_pickle: bool = False) -> Path:
    """The local folder of a checkpoint; a hub id is fetched to the local store first."""
    if str(path) in ('', BUILTIN):
        return builtin_path('verifier')
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    text = str(path)
    if text.count('/') == 1 and not text.startswith(('.', '/', '~')) and not folder.exists():
        from huggingface_hub import snapshot_download
        try:
            unwanted = ['*.pth', '*.msgpack', '*.h5', *([] if allow_pickle else ['*.bin'])]
            return Path(snapshot_download(text, ignore_patterns=unwanted))
        except (OSError, ValueError) as error:        # the hub's errors are OSErrors, bad names are ValueErrors
            raise CrossSpecError(f'model {text!r} is no folder here and cannot be fetched ({type(error).__name__}); '
                                 'give the path of a local checkpoint folder') from error
    raise CrossSpecError(f'model must be a checkpoint folder, a hub id or {BUILTIN!r}, got {text!r}, '
                         'which is not there')


def architectures(folder: Path) -> tuple[str, ...]:
    """Classes of transformers for a folder: those its config.json names, else those of its model_type.

    Names that transformers does not have are given back where there is no other. Raises `CrossSpecError` for a broken
    config.json.
    """
    config = read_config(folder)
    return class_names(config) or tuple(config.get('architectures') or ()) or ('(none named)',)


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its progress bars and remarks: what matters is raised."""
    import transformers
    verbosity, progress = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if progress:
            transformers.logging.enable_progress_bar()


def load_config(folder: Path, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The folder's config as transformers reads it. Raises `CrossSpecError` for values that it cannot take."""
    try:
        with _quiet():
            return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:                       # each config class checks its values in its own way
        raise CrossSpecError(f'{folder / "config.json"} must be a config that transformers can read, got one that it '
                             f'cannot: {one_line(error)}; mend the value there, or copy the file again') from error


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The folder's tokenizer. Raises `CrossSpecError` where it has none or a broken one."""
    check_tokenizer_files(folder)
    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:                       # the tokenizers library raises bare Exception for a broken file
        raise CrossSpecError(f'the tokenizer in {folder} cannot be read: {one_line(error)}; copy its files again from '
                             'where the checkpoint came from') from error


def load_processor(folder: Path, trust_remote_code: bool = False) -> Any:
    """transformers' own processor of a folder (text and frames). Raises `CrossSpecError` where it cannot be made."""
    from transformers import AutoProcessor
    try:
        with _quiet():
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True,
                                                      trust_remote_code=trust_remote_code)
    except Exception as error:                       # made of parts, each of which raises its own kinds
        raise CrossSpecError(f'the processor in {folder} cannot be read: {one_line(error)}; save it there with '
                             'processor.save_pretrained(folder)') from error
    if not hasattr(processor, 'tokenizer'):
        raise CrossSpecError(f'the processor in {folder} must be one for text and frames, got '
                             f'{type(processor).__name__}; save it there with processor.save_pretrained(folder)')
    return processor


def load_model(folder: Path, architecture: str, dtype: torch.dtype | None, trust_remote_code: bool = False,
               allow_pickle: bool = False, device: torch.device = torch.device('cpu'),
               quantization: str = NONE, ranks: int = 1) -> PreTrainedModel:
    """The folder's model of a class of transformers (or of the folder's own code, where that is trusted) on a device.

    Weights come from safetensors, from pickled files only where ``allow_pickle`` says so and there are no others;
    ``dtype`` None keeps their own type. They go to the device file by file where the library accelerate is installed,
    else by way of the host's memory. ``quantization``: the kind (`models.quantization`) that each is turned into as it
    is read. With several ``ranks`` this process, which is one of as many in torch's default group, gets its part
    (`models.sharding`); weights of its own type only. Raises `CrossSpecError`.
    """
    import transformers
    pickled = weight_files(folder, allow_pickle)[0].suffix == '.bin'
    config = load_config(folder, trust_remote_code)
    known = getattr(transformers, architecture, None)
    options: dict[str, Any] = {} if known is not None else {'trust_remote_code': trust_remote_code}
    if quantization != NONE:
        shapes = empty_model(folder, architecture, trust_remote_code)
        dtype = dtype or own_dtype(folder, config)
        options['quantization_config'] = settings_for(quantization, shapes, dtype)
    if ranks > 1:
        from crossspec_ros.models.sharding import sharded
        options |= sharded(folder, architecture, config, ranks)
    elif (device.type != 'cpu' or quantization != NONE) and find_spec('accelerate') is not None:
        options['device_map'] = {'': device}
    loader = known if known is not None else transformers.AutoModelForImageTextToText
    written_out = known is not None and not getattr(known, '_supports_sdpa', True)
    model, report = read_weights(
        loader, folder, architecture, pickled, config=config, dtype=dtype or 'auto',
        attn_implementation='eager' if written_out else 'sdpa', **options)
    check_report(folder, architecture, report)
    try:
        return model if model.device == device else model.to(device)
    except (RuntimeError, ValueError) as error:        # no room; a quantised model that stays where it was loaded
        raise CrossSpecError(f'the checkpoint in {folder} cannot be moved to {device}: {one_line(error)}') from error


def empty_model(folder: Path, architecture: str, trust_remote_code: bool = False) -> PreTrainedModel:
    """The folder's model on the meta device: all its modules and shapes, no weights. Raises `CrossSpecError`."""
    import transformers
    config, known = load_config(folder, trust_remote_code), getattr(transformers, architecture, None)
    try:
        with _quiet(), torch.device('meta'):
            if known is not None:
                return known(config)
            loader = transformers.AutoModelForImageTextToText
            return loader.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:                       # each class builds itself in its own way
        raise CrossSpecError(f'{architecture} cannot be built from {folder / "config.json"}: '
                             f'{one_line(error)}; mend the value there, or copy the file again') from error


def own_dtype(folder: Path, config: PreTrainedConfig) -> torch.dtype:
    """The type of a checkpoint's weights: what its config says, else that of the first weight that is one of floats;
    float32 for pickled ones. Raises `CrossSpecError` as `weight_sizes` does."""
    for place in (config, config.get_text_config(decoder=True)):
        if isinstance(getattr(place, 'dtype', None), torch.dtype):
            return place.dtype
    found = (_STORED.get(kind) for _, kind, _ in weight_sizes(folder))
    return next((dtype for dtype in found if dtype is not None), torch.float32)


def read_weights(loader: Any, folder: Path, name: str, pickled: bool,
                 **options: object) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model of the class ``loader``, called ``name`` in errors, from the weights of a folder, and what transformers
    reports of it. Raises `CrossSpecError`."""
    try:
        with _quiet():
            return loader.from_pretrained(folder, local_files_only=True, output_loading_info=True,
                                          use_safetensors=not pickled, weights_only=True, **options)
    except UnpicklingError as error:
        raise CrossSpecError(f'weights in {folder} must be tensors alone, got a pickled file that holds more, which '
                             'could run code; save them as safetensors where you trust them') from error
    except Exception as error:         # safetensors, json, torch and transformers each raise their own kinds here
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
            raise CrossSpecError(f'there is no room for the weights in {folder}: {one_line(error)}; free memory, or '
                                 'use a smaller model or quantization (crossspec model check --memory GB says which '
                                 'fits)') from error
        raise CrossSpecError(f'the checkpoint in {folder} cannot be loaded as {name}: {one_line(error)}') from error


def check_report(folder: Path, architecture: str, report: dict[str, Any]) -> None:
    """Raise `CrossSpecError` unless every weight of the model was in the files, in its size."""
    missing, mismatched = sorted(report['missing_keys']), sorted(report.get('mismatched_keys') or ())
    if missing:
        raise CrossSpecError(f'the checkpoint in {folder} must hold all weights of {architecture}, {len(missing)} are '
                             f'missing, first {missing[0]}; its config.json and weights do not belong together')
    if mismatched:
        raise CrossSpecError(f'the checkpoint in {folder} must hold weights of the sizes in config.json, '
                             f'{len(mismatched)} are of another, first {mismatched[0]}')
    if report.get('error_msgs'):
        raise CrossSpecError(f'the checkpoint in {folder} cannot be loaded as {architecture}: '
                             f'{" ".join(str(report["error_msgs"][0]).split())}')
    unused = sorted(report.get('unexpected_keys') or ())
    if unused:
        _log.warning('%d weights in %s are not used by %s, first %s', len(unused), folder, architecture, unused[0])


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, folder: Path) -> None:
    """Raises `CrossSpecError` unless a model with so many ``rows`` of tokens knows all of the tokenizer's."""
    if len(tokenizer) > rows:
        raise CrossSpecError(f'the tokenizer in {folder} has {len(tokenizer)} tokens, the model only {rows}: '
                             'they must belong together')


def check_placeholder(tokenizer: PreTrainedTokenizerBase, placeholder_id: int, folder: Path) -> None:
    """Raises `CrossSpecError` unless the tokenizer has the model's placeholder of videos."""
    placeholder = tokenizer.convert_ids_to_tokens(placeholder_id)
    if placeholder is None or tokenizer.convert_tokens_to_ids(placeholder) == tokenizer.unk_token_id:
        raise CrossSpecError(f'the tokenizer in {folder} must hold the video placeholder, id {placeholder_id}; '
                             'it has none: tokenizer and model do not belong together')
    marked = placeholder_id in tokenizer.added_tokens_decoder or placeholder_id in tokenizer.all_special_ids
    if not marked or tuple(tokenizer(placeholder, add_special_tokens=False)['input_ids']) != (placeholder_id,):
        raise CrossSpecError(f'the tokenizer in {folder} must have the placeholder of the model, id {placeholder_id}, '
                             f'as an added token, got {placeholder!r}, which is a word or several: tokenizer and model '
                             'do not belong together')


def check_processor_fields(folder: Path) -> None:
    """Raise `CrossSpecError` where patches of the processor are not those of the vision tower.

    For classes whose processor counts the tower's own patches; others count several as one, each in its own way.
    """
    vision = read_config(folder).get('vision_config')
    if not isinstance(vision, dict):
        return
    for name in ('processor_config.json', 'video_preprocessor_config.json', 'preprocessor_config.json'):
        path = folder / name
        content = read_object(path) if path.is_file() else {}
        for place in (content, content.get('video_processor'), content.get('image_processor')):
            if isinstance(place, dict):
                _check_patches(place, vision, path)


def _check_patches(place: dict[str, Any], vision: dict[str, Any], path: Path) -> None:
    for field, tower in (('patch_size', 'patch_size'), ('temporal_patch_size', 'temporal_patch_size'),
                         ('merge_size', 'spatial_merge_size')):
        said, built = place.get(field), vision.get(tower)
        if isinstance(said, int) and isinstance(built, int) and said != built:
            raise CrossSpecError(f'{field} in {path} must be that of the vision tower ({tower} {built} in '
                                 f'config.json), got {said}; use the processor files of these weights')


@torch.inference_mode()
def try_black_frame(folder: Path, encode: Callable[[np.ndarray], torch.Tensor], tokens: int) -> None:
    """Encode one black frame, so that a processor that does not fit is found when loading, not at the first picture.

    ``encode`` makes features (F, D) of a frame uint8 (H, W, 3), ``tokens`` is the F that the prompt has room for.
    Raises `CrossSpecError` where it fails, or makes another number.
    """
    frame = np.zeros((480, 640, 3), np.uint8)
    try:
        made = encode(frame)
    except Exception as error:                       # every tower says in its own way what it cannot take
        raise CrossSpecError(f'the processor in {folder} must make pixels that the vision tower takes, got an error '
                             f'for a black frame of 640 x 480: {one_line(error)}; use the processor files of these '
                             'weights (size, crop_size)') from error
    if made.shape[0] != tokens:
        raise CrossSpecError(f'the processor in {folder} must make {tokens} tokens a frame, as config.json has it, got '
                             f'{made.shape[0]} for a black frame of 640 x 480; use the processor files of these '
                             'weights (size, crop_size)')
