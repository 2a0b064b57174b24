"""From a folder or a hub id to the parts of a target model, with errors that say which part is wrong and what to do."""
from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.adapters import ADAPTERS, Adapter
from crossspec_ros.models.builtin import BUILTIN, builtin_path
from crossspec_ros.models.preprocessing import FramePreprocessor, load_preprocessor
from crossspec_ros.models.vision_ops import load_vision_ops

_log = logging.getLogger(__name__)
_MAY_NAME_CODE = ('config.json', 'tokenizer_config.json', 'processor_config.json', 'preprocessor_config.json',
                  'video_preprocessor_config.json')
_DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a target model, loaded and checked against each other."""

    name: str
    model: PreTrainedModel
    adapter: Adapter
    tokenizer: PreTrainedTokenizerBase
    preprocessor: FramePreprocessor


def load_checkpoint(path: str | Path, device: str = 'cpu', dtype: str = 'float32') -> Checkpoint:
    """Load a local folder, a hub id (``owner/name``), or ``builtin``.

    Raises `CrossSpecError` when it is not there, its class is not supported, its weights, tokenizer or processor are
    missing or do not fit each other, or ``device`` or ``dtype`` is not available.
    """
    load_vision_ops()
    torch_device, torch_dtype = find_device(device), find_dtype(dtype)
    folder = find_folder(path)
    adapter_class, architecture = _adapter_class(folder)
    tokenizer = load_tokenizer(folder)
    preprocessor = load_preprocessor(folder)
    model = load_model(folder, architecture, torch_dtype).to(torch_device).eval().requires_grad_(False)
    adapter = adapter_class(model)
    check_vocabulary(tokenizer, adapter.head.weight.shape[0], folder)
    check_placeholder(tokenizer, adapter.video_token_id, folder)
    return Checkpoint(Path(folder).name, model, adapter, tokenizer, preprocessor)


def find_device(device: str) -> torch.device:
    """The device of this name. Raises `CrossSpecError` where torch cannot use it here."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise CrossSpecError(f'device must be one that torch can use here (cpu, cuda, ...), got {device!r}: '
                             f'{str(error).splitlines()[0]}') from error
    return found


def find_dtype(dtype: str) -> torch.dtype:
    """The type that weights compute in, by name."""
    if dtype not in _DTYPES:
        raise CrossSpecError(f'dtype must be one of {", ".join(_DTYPES)}, got {dtype!r}')
    return _DTYPES[dtype]


def find_folder(path: str | Path) -> Path:
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
            return Path(snapshot_download(text, ignore_patterns=['*.bin', '*.pth', '*.msgpack', '*.h5']))
        except (OSError, ValueError) as error:        # the hub's errors are OSErrors, bad names are ValueErrors
            raise CrossSpecError(f'model {text!r} is no folder here and cannot be fetched ({type(error).__name__}); '
                                 'give the path of a local checkpoint folder') from error
    raise CrossSpecError(f'model must be a checkpoint folder, a hub id or {BUILTIN!r}, got {text!r}, '
                         'which is not there')


def _adapter_class(folder: Path) -> tuple[type[Adapter], str]:
    for name in architectures(folder):
        if name in ADAPTERS:
            return ADAPTERS[name], name
    raise CrossSpecError(f'class must be one of {", ".join(ADAPTERS)}, got {", ".join(architectures(folder))} in '
                         f'{folder / "config.json"}; another class needs an adapter, see crossspec_ros/models/adapters')


def architectures(folder: Path) -> tuple[str, ...]:
    """Names of the classes that a folder's config.json asks for. Raises `CrossSpecError` where it is no such file."""
    config = folder / 'config.json'
    if not config.is_file():
        raise CrossSpecError(f'no config.json in {folder}: it must be a checkpoint saved by save_pretrained')
    try:
        return tuple(json.loads(config.read_text(encoding='utf-8')).get('architectures') or ['(none named)'])
    except (ValueError, AttributeError, TypeError) as error:
        raise CrossSpecError(f'{config} must be a JSON object: {error}') from error


def refuse_own_code(folder: Path) -> None:
    """Raises `CrossSpecError` where a file of the folder asks for Python code that comes with the checkpoint."""
    for name in _MAY_NAME_CODE:
        path = folder / name
        if path.is_file() and '"auto_map"' in path.read_text(encoding='utf-8', errors='replace'):
            raise CrossSpecError(f'{path} must not ask for code of its own (auto_map), which is not run; if you trust '
                                 'it, set trust_remote_code, else use a checkpoint of a class that transformers has')


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The folder's tokenizer. Raises `CrossSpecError` where it has none or a broken one."""
    if not any((folder / name).is_file() for name in ('tokenizer.json', 'tokenizer.model', 'vocab.json')):
        raise CrossSpecError(f'no tokenizer in {folder} (tokenizer.json, tokenizer.model or vocab.json); '
                             'save it there with tokenizer.save_pretrained(folder)')
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:                       # the tokenizers library raises bare Exception for a broken file
        raise CrossSpecError(f'the tokenizer in {folder} cannot be read: {error}') from error


def load_model(folder: Path, architecture: str, dtype: torch.dtype, trust_remote_code: bool = False,
               pickled: bool = False) -> PreTrainedModel:
    """The folder's model of a class of transformers (or of the folder's own code, where that is trusted).

    Weights come from safetensors, from pickled files only where ``pickled`` says so. Raises `CrossSpecError`.
    """
    import transformers
    weights = 'pytorch_model*.bin' if pickled else '*.safetensors'
    if not any(folder.glob(weights)):
        raise CrossSpecError(f'no weights in {folder} ({weights}): the checkpoint is incomplete'
                             + (' or pickled; save it as safetensors' if any(folder.glob('*.bin')) else ''))
    known = getattr(transformers, architecture, None)
    options = {} if known is not None else {'trust_remote_code': trust_remote_code}
    loader = known if known is not None else transformers.AutoModelForImageTextToText
    verbosity, progress = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    written_out = known is not None and not getattr(known, '_supports_sdpa', True)
    try:
        model, report = loader.from_pretrained(
            folder, dtype=dtype, local_files_only=True, attn_implementation='eager' if written_out else 'sdpa',
            output_loading_info=True, use_safetensors=not pickled, weights_only=True, **options)
    except Exception as error:         # safetensors, json, torch and transformers each raise their own kinds here
        raise CrossSpecError(f'the checkpoint in {folder} cannot be loaded as {architecture}: '
                             f'{(str(error).splitlines() or [type(error).__name__])[0]}') from error
    finally:
        transformers.logging.set_verbosity(verbosity)
        if progress:
            transformers.logging.enable_progress_bar()
    missing = sorted(report['missing_keys'])
    if missing:
        raise CrossSpecError(f'the checkpoint in {folder} must hold all weights of {architecture}, {len(missing)} are '
                             f'missing, first {missing[0]}')
    return model


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
