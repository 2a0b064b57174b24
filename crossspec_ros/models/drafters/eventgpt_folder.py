"""EventGPT's published folder: which of its weights go where, and what its config.json leaves unsaid."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
from safetensors import SafetensorError, safe_open
from transformers import (BitsAndBytesConfig, CLIPVisionConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel,
                          PreTrainedTokenizerBase)

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import loading
from crossspec_ros.models.devices import find_device
from crossspec_ros.models.drafters.eventgpt import END, PATCH, START, EventGPTAdapter, EventVision
from crossspec_ros.models.files import one_line, read_object
from crossspec_ros.models.folder import check_tokenizer_files, read_config, refuse_adapter_weights, weight_files
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.models.targets.adapters import Parts

FOUR_BIT = '4bit'
_NAME, _VISUAL = 'EventGPT', ('model.visual_', 'model.feature_adaptor.')
_EMBEDDING, _ADAPTOR = 'model.embed_tokens.weight', 'model.feature_adaptor.'
_TOWER, _PROJECTOR = 'model.visual_tower.visual_tower.', 'model.visual_projector.'
_PUBLISHED_TOWER = 'clip-vit-large-patch14-336'
_PUBLISHED = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
                              image_size=336, patch_size=14, projection_dim=768)


def load_eventgpt(folder: Path, device: str = 'cpu', dtype: str = 'float32',
                  allow_pickle: bool = False) -> TransformersTarget:
    """EventGPT from a folder in its published layout, as a target that takes five pictures of events.

    ``dtype`` '4bit' computes in bfloat16 from weights in NF4, where bitsandbytes is installed. Raises `CrossSpecError`
    where parts are missing, do not fit each other, or cannot be computed here.
    """
    torch_device = find_device(device)
    refuse_adapter_weights(folder)
    config, files = read_config(folder), weight_files(folder, allow_pickle)
    check_tokenizer_files(folder)
    if config.get('quantization_config') is not None:
        raise CrossSpecError(f'EventGPT in {folder} must have weights that are not quantised, got a '
                             'quantization_config; use the published weights with model.dtype 4bit')
    visual, vocabulary = _weights(files, folder)
    tokenizer = _with_marks(loading.load_tokenizer(folder), config)
    loading.check_vocabulary(tokenizer, vocabulary, folder)
    model = _decoder(folder, config, vocabulary, files[0].suffix == '.bin', torch_device, dtype)
    tower = _tower_config(folder, config.get('mm_visual_tower'))
    vision = EventVision(tower, model.config.hidden_size, _adapted(visual, config, folder))
    _fill(vision, visual, folder)
    try:
        vision = vision.to(torch_device, model.dtype).eval().requires_grad_(False)
        model = model if dtype == FOUR_BIT else model.to(torch_device)      # what is quantised is there already
    except RuntimeError as error:
        raise CrossSpecError(f'EventGPT in {folder} cannot be moved to {device}: {one_line(error)}') from error
    parts = Parts(folder, model.eval().requires_grad_(False), tokenizer)
    return TransformersTarget(EventGPTAdapter(parts, vision))


def _decoder(folder: Path, config: Mapping[str, Any], vocabulary: int, pickled: bool, device: torch.device,
             dtype: str) -> PreTrainedModel:
    """The language model. Raises `CrossSpecError`."""
    fields = {name: value for name, value in config.items() if name not in ('model_type', 'architectures', 'auto_map')}
    try:
        llama = LlamaConfig.from_dict(fields | {'vocab_size': vocabulary})
    except Exception as error:                       # checks of transformers, each of its own kind
        raise CrossSpecError(f'{folder / "config.json"} must hold the fields of a Llama: {one_line(error)}') from error
    if dtype == FOUR_BIT:
        options = {'dtype': torch.bfloat16} | _four_bit(device)
    else:
        options = {'dtype': loading.find_dtype(dtype, device)}
    model, report = loading.read_weights(LlamaForCausalLM, folder, _NAME, pickled, config=llama,
                                         attn_implementation='sdpa', **options)
    unexpected = [name for name in report['unexpected_keys'] if not name.startswith(_VISUAL)]
    loading.check_report(folder, _NAME, {**report, 'unexpected_keys': unexpected})
    return model


def _four_bit(device: torch.device) -> dict[str, Any]:
    """How transformers is asked for weights in NF4. Raises `CrossSpecError` where nothing here computes with them."""
    if find_spec('bitsandbytes') is None:
        raise CrossSpecError(f'model.dtype {FOUR_BIT} must be computed by bitsandbytes, which is not installed; '
                             'install it, or use bfloat16')
    return {'device_map': {'': device}, 'quantization_config': BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type='nf4', bnb_4bit_compute_dtype=torch.bfloat16)}


def _weights(files: Sequence[Path], folder: Path) -> tuple[dict[str, torch.Tensor], int]:
    """The weights that see, by their names in the files, and the rows of the decoder's embeddings."""
    visual: dict[str, torch.Tensor] = {}
    rows = 0
    try:
        for path in files:
            if path.suffix == '.bin':
                weights = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
                visual.update((name, value) for name, value in weights.items() if name.startswith(_VISUAL))
                rows = weights[_EMBEDDING].shape[0] if _EMBEDDING in weights else rows
                continue
            with safe_open(path, 'pt') as file:
                names = set(file.keys())
                visual.update((name, file.get_tensor(name)) for name in names if name.startswith(_VISUAL))
                rows = file.get_slice(_EMBEDDING).get_shape()[0] if _EMBEDDING in names else rows
    except (OSError, RuntimeError, ValueError, SafetensorError, AttributeError) as error:
        raise CrossSpecError(f'the weights in {folder} cannot be read: {one_line(error)}; copy them again') from error
    if not rows:
        raise CrossSpecError(f'the checkpoint in {folder} must hold {_EMBEDDING} as EventGPT does, it does not; copy '
                             'it again')
    return visual, rows


def _with_marks(tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer with the marks around pictures that the config says were trained."""
    if config.get('mm_use_im_patch_token', True):
        tokenizer.add_tokens([PATCH], special_tokens=True)
    if config.get('mm_use_im_start_end', False):
        tokenizer.add_tokens([START, END], special_tokens=True)
    return tokenizer


def _tower_config(folder: Path, named: Any) -> CLIPVisionConfig:
    """Shapes of the tower that the config names: a folder with a config.json, or the published one's name."""
    if isinstance(named, str):
        for place in (folder / named, Path(named).expanduser()):
            if (place / 'config.json').is_file():
                fields = read_object(place / 'config.json')
                return CLIPVisionConfig.from_dict(fields.get('vision_config') or fields)
        if named.rstrip('/').endswith(_PUBLISHED_TOWER):
            return _PUBLISHED
    raise CrossSpecError(f'mm_visual_tower in {folder / "config.json"} must be {_PUBLISHED_TOWER} or a folder with its '
                         f'config.json, got {named!r}')


def _adapted(visual: Mapping[str, torch.Tensor], config: Mapping[str, Any], folder: Path) -> bool:
    """Whether there is an adaptor. Raises `CrossSpecError` where it is asked for and not there."""
    there = any(name.startswith(_ADAPTOR) for name in visual)
    if config.get('event_feature_adaptor') and not there:
        raise CrossSpecError(f'the checkpoint in {folder} must hold {_ADAPTOR}*, as event_feature_adaptor in its '
                             'config.json says, it does not; copy it again')
    return there


def _fill(vision: EventVision, visual: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Put the weights into the modules. Raises `CrossSpecError` where they do not fit."""
    named = {}
    for name, value in visual.items():
        if name.startswith(_TOWER):
            named['tower.' + name.removeprefix(_TOWER).removeprefix('vision_model.')] = value
        else:
            named[name.replace(_PROJECTOR, 'projector.').replace(_ADAPTOR, 'adaptor.')] = value
    tower = {name.removeprefix('vision_model.'): name for name in vision.tower.state_dict()}
    named = {f'tower.{tower.get(name.removeprefix("tower."), "")}' if name.startswith('tower.') else name: value
             for name, value in named.items()}
    wanted = vision.state_dict()
    absent = sorted(name for name in wanted if name not in named)
    other = sorted(name for name, value in wanted.items() if name in named and named[name].shape != value.shape)
    if absent or other:
        what = f'{len(absent)} are missing, first {absent[0]}' if absent else f'{other[0]} is of another size'
        raise CrossSpecError(f'the checkpoint in {folder} must hold the weights of EventGPT\'s tower, projector and '
                             f'adaptor: {what}; its config.json and weights do not belong together')
    vision.load_state_dict({name: named[name] for name in wanted})
