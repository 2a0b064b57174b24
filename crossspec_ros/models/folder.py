"""A checkpoint folder looked at before anything is loaded: what is missing, not fetched, or not to be trusted.

transformers finds most of these too, but late, in many words, or by leaving something out without a word.
"""
from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.files import one_line, read_object, refuse_pointer
from crossspec_ros.models.generation import check_generation_file

_OBJECTS = ('config.json', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json',
            'processor_config.json', 'preprocessor_config.json', 'video_preprocessor_config.json', 'chat_template.json')
_TOKENIZERS = ('tokenizer.json', 'tokenizer.model', 'vocab.json', 'vocab.txt')
_OTHERS = ('merges.txt', 'chat_template.jinja')
_MAY_NAME_CODE = ('config.json', 'tokenizer_config.json', 'processor_config.json', 'preprocessor_config.json',
                  'video_preprocessor_config.json')
_SAFE, _PICKLED = 'model.safetensors', 'pytorch_model.bin'
_LONGEST_HEADER = 100_000_000         # bytes, the limit of the safetensors library
# Method of quantisation -> the module that transformers computes with; of methods not named here it says so itself.
_QUANTISERS = {'bitsandbytes': 'bitsandbytes', 'gptq': 'gptqmodel', 'awq': 'gptqmodel', 'auto-round': 'auto_round',
               'aqlm': 'aqlm', 'vptq': 'vptq', 'quanto': 'optimum', 'eetq': 'kernels', 'higgs': 'flute', 'hqq': 'hqq',
               'torchao': 'torchao', 'compressed-tensors': 'compressed_tensors', 'fbgemm_fp8': 'fbgemm_gpu',
               'spqr': 'spqr_quant', 'quark': 'quark', 'fp_quant': 'fp_quant', 'sinq': 'sinq', 'mxfp4': 'kernels'}


def check_folder(folder: Path, trust_remote_code: bool = False, allow_pickle: bool = False) -> None:
    """Raise `CrossSpecError` for the first thing in a checkpoint folder that cannot be loaded or must not be.

    ``trust_remote_code``: code in the folder may run. ``allow_pickle``: weights may be pytorch_model.bin.
    """
    refuse_adapter_weights(folder)
    read_config(folder)
    for name in (*_TOKENIZERS, *_OTHERS):
        if (folder / name).is_file():
            refuse_pointer(folder / name)
    for name in _OBJECTS:
        if (folder / name).is_file():
            read_object(folder / name)
    check_generation_file(folder)
    check_quantisation(folder)
    if not trust_remote_code:
        refuse_own_code(folder)
    check_tokenizer_files(folder)
    weight_files(folder, allow_pickle)


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises `CrossSpecError` where it is missing or no JSON object."""
    path = folder / 'config.json'
    if not path.is_file():
        raise CrossSpecError(f'no config.json in {folder}: it must be a checkpoint saved by save_pretrained')
    return read_object(path)


def refuse_adapter_weights(folder: Path) -> None:
    """Raise `CrossSpecError` where LoRA or other adapter weights stand in the folder, alone or beside the weights.

    The target is the merged model; left out without a word, its captions would be those of the base model.
    """
    for name in ('adapter_config.json', 'adapter_model.safetensors', 'adapter_model.bin'):
        path = folder / name
        if path.is_file():
            alone = '' if any(folder.glob(f'{Path(_SAFE).stem}*.safetensors')) else ' and no weights of a whole model'
            raise CrossSpecError(f'folder must hold one merged model, got {path}{alone}; merge the adapter first '
                                 '(peft: model.merge_and_unload(), then save_pretrained), or remove the file to use '
                                 'the base model without it')


def refuse_own_code(folder: Path) -> None:
    """Raise `CrossSpecError` where a folder asks for code of its own and transformers has no class for its model.

    Where transformers has the class, that one is used and none of the folder's code is run.
    """
    config = read_config(folder)
    builtin = bool(class_names(config))
    for name in _MAY_NAME_CODE:
        path = folder / name
        if not path.is_file():
            continue
        content = read_object(path)
        if not content.get('auto_map'):
            continue
        if not (builtin if name == 'config.json' else builtin and _names_builtin_class(content)):
            raise CrossSpecError(f'{path} must name a class that transformers has, got auto_map, which asks to run '
                                 'code of its own; where you have read and trust that code, set '
                                 'model.trust_remote_code to true')


def _names_builtin_class(content: dict[str, Any]) -> bool:
    """Whether a tokenizer's or processor's file can be read by a class of transformers."""
    import transformers
    named = [content.get(field) for field in ('tokenizer_class', 'processor_class', 'image_processor_type',
                                              'video_processor_type', 'feature_extractor_type')]
    named = [name for name in named if isinstance(name, str)]
    return not named or any(hasattr(transformers, name) for name in named)


def class_names(config: dict[str, Any]) -> tuple[str, ...]:
    """Classes of transformers that can make text, for a config.json: those it names, else those of its model_type.

    Empty where transformers has none. Raises `CrossSpecError` for names of the wrong type.
    """
    import transformers
    from transformers.models.auto import modeling_auto
    named = config.get('architectures') or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise CrossSpecError(f'architectures in config.json must be a list of class names, got {named!r}')
    found = [name for name in named if _generates(getattr(transformers, name, None))]
    kind = config.get('model_type')
    if kind is not None and not isinstance(kind, str):
        raise CrossSpecError(f'model_type in config.json must be a text, got {kind!r}')
    if found:
        return tuple(found)
    for mapping in ('MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES', 'MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES'):
        names = getattr(modeling_auto, mapping, {}).get(kind) or ()
        found += [name for name in ([names] if isinstance(names, str) else names)
                  if _generates(getattr(transformers, name, None))]
    return tuple(dict.fromkeys(found))


def _generates(known: Any) -> bool:
    return isinstance(known, type) and callable(getattr(known, 'can_generate', None)) and bool(known.can_generate())


def quantisation_of(folder: Path) -> str | None:
    """The method by which weights in a folder are quantised, 'bitsandbytes-8bit' for that one's way of 8 bits; None
    where they are not. Raises `CrossSpecError` where the folder's config.json names none."""
    config = read_config(folder)
    for place in (config, config.get('text_config')):
        asked = place.get('quantization_config') if isinstance(place, dict) else None
        if asked is None:
            continue
        method = asked.get('quant_method') if isinstance(asked, dict) else None
        if isinstance(asked, dict) and (asked.get('load_in_4bit') or asked.get('load_in_8bit')):
            method = 'bitsandbytes' if asked.get('load_in_4bit') else 'bitsandbytes-8bit'
        if not isinstance(method, str):
            raise CrossSpecError(f'quantization_config in {folder / "config.json"} must name a quant_method, got '
                                 f'{method!r}; use the weights that are not quantised')
        return method
    return None


def check_quantisation(folder: Path) -> None:
    """Raise `CrossSpecError` where the weights are quantised by a library that is not installed."""
    method = quantisation_of(folder)
    module = _QUANTISERS.get((method or '').removesuffix('-8bit'))
    if module is not None and find_spec(module) is None:
        raise CrossSpecError(f'quantization_config in {folder / "config.json"} must be of a library that is installed, '
                             f'got {method}, and its module {module} is not here; install it, or use the weights that '
                             'are not quantised')


def check_tokenizer_files(folder: Path) -> None:
    """Raise `CrossSpecError` where a folder holds no tokenizer."""
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise CrossSpecError(f'no tokenizer in {folder} (tokenizer.json, tokenizer.model or vocab.json); '
                             'save it there with tokenizer.save_pretrained(folder)')


def weight_files(folder: Path, allow_pickle: bool = False) -> tuple[Path, ...]:
    """The files that hold the weights, complete as far as their names and lengths tell.

    Raises `CrossSpecError` where none is there, some of them are missing, cut short or not fetched, or where they are
    pickled and ``allow_pickle`` does not say that they may be.
    """
    files = _named_weights(folder, _SAFE)
    if not files and any(folder.glob('pytorch_model*.bin*')):
        if not allow_pickle:
            raise CrossSpecError(f'weights in {folder} must be safetensors (*.safetensors), got {_PICKLED}, which can '
                                 'hold code; save it as safetensors with save_pretrained, or set model.allow_pickle to '
                                 'true to read it with weights_only')
        files = _named_weights(folder, _PICKLED)
    if not files:
        others = sorted(path.name for pattern in ('*.safetensors', '*.gguf', '*.pth', '*.h5', '*.msgpack')
                        for path in folder.glob(pattern))
        got = f', got {", ".join(others[:3])}' if others else ''
        raise CrossSpecError(f'no weights in {folder}: it must hold {_SAFE}, or {_SAFE}.index.json and the files that '
                             f'it names{got}; the checkpoint is incomplete, copy it again')
    for path in files:
        refuse_pointer(path)
        if path.suffix == '.safetensors':
            _header(path)
    return files


def _named_weights(folder: Path, name: str) -> tuple[Path, ...]:
    """The one file of this name, or all that its index names; empty where neither is there."""
    whole, index = folder / name, folder / f'{name}.index.json'
    if whole.is_file():
        return (whole,)
    if not index.is_file():
        return ()
    parts = read_object(index).get('weight_map')
    if not isinstance(parts, dict) or not parts or not all(isinstance(part, str) for part in parts.values()):
        raise CrossSpecError(f'weight_map in {index} must be an object from names of weights to files, '
                             f'got {type(parts).__name__}')
    names: Sequence[str] = sorted(set(parts.values()))
    outside = [part for part in names if Path(part).name != part or part in ('.', '..')]
    if outside:
        raise CrossSpecError(f'weight_map in {index} must name files in the folder, got {outside[0]!r}')
    missing = [part for part in names if not (folder / part).is_file()]
    if missing:
        raise CrossSpecError(f'folder {folder} must hold all {len(names)} files that {index.name} names, '
                             f'{len(missing)} are missing, first {missing[0]}; fetch or copy them again')
    return tuple(folder / part for part in names)


def weight_sizes(folder: Path) -> list[tuple[str, str, int]]:
    """Name, type and bytes of each weight in the folder's safetensors files, by their headers alone; empty where
    weights are pickled. Raises `CrossSpecError` for a file that is not whole."""
    files = _named_weights(folder, _SAFE)
    return [(name, entry['dtype'], entry['data_offsets'][1] - entry['data_offsets'][0])
            for path in files for name, entry in _header(path).items()]


def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, by names of weights. Raises `CrossSpecError` unless the file is as long as it
    says."""
    size = path.stat().st_size
    try:
        with path.open('rb') as file:
            (length,) = struct.unpack('<Q', file.read(8))
            if length > min(size, _LONGEST_HEADER):
                raise ValueError('its header is longer than the file')
            header = json.loads(file.read(length))
            weights = {name: entry for name, entry in header.items() if name != '__metadata__'}
            expected = 8 + length + max((entry['data_offsets'][1] for entry in weights.values()), default=0)
    except (ValueError, struct.error, AttributeError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CrossSpecError(f'{path} cannot be loaded, it must be a whole safetensors file ({one_line(error)}); '
                             'fetch or copy it again') from error
    if size != expected:
        raise CrossSpecError(f'{path} cannot be loaded, it must be {expected} bytes by its header, got {size}; fetch '
                             'or copy it again')
    return weights
