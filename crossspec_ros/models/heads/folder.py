"""A head's folder: ``config.json`` and ``model.safetensors``, and the verifier that both belong to."""
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.files import one_line, read_object, refuse_pointer
from crossspec_ros.models.heads.config import HeadConfig
from crossspec_ros.models.heads.making import bound_head, build_head
from crossspec_ros.models.heads.network import StateHead
from crossspec_ros.models.targets import TransformersTarget

CONFIG_FILE, WEIGHTS_FILE = 'config.json', 'model.safetensors'


def save_head(head: StateHead, folder: Path) -> None:
    """Write the two files into ``folder``, which is there: float16 weights, ids as they are."""
    weights = {name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
               for name, value in head.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={'format': 'pt'})
    (folder / CONFIG_FILE).write_text(json.dumps(asdict(head.config), indent=2) + '\n', encoding='utf-8')


def read_head_config(folder: Path) -> HeadConfig:
    """The folder's config. Raises `CrossSpecError` where it is missing or not of a head of this version."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CrossSpecError(f'a head must be a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, {folder} has no '
                             f'{CONFIG_FILE}')
    content, known = read_object(path), {field.name for field in fields(HeadConfig)}
    if set(content) != known or not isinstance(content['layers'], list):
        raise CrossSpecError(f'{path} must hold the fields {", ".join(sorted(known))} of a head, got '
                             f'{", ".join(sorted(content))}; it is of another version or no head: train it again')
    return HeadConfig(**content)


def load_head(folder: str | Path, target: TransformersTarget) -> StateHead:
    """A head for the verifier it was trained for, ready to draft.

    Raises `CrossSpecError` where files are missing or broken, and beside another verifier.
    """
    folder = Path(folder).expanduser()
    config = read_head_config(folder)
    if config.verifier_key != target.model_key:
        raise CrossSpecError(f'the head in {folder} was trained on the states of the verifier {config.verifier_key}, '
                             f'got {target.model_key}: load that verifier, or train a head for this one')
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise CrossSpecError(f'a head must be a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, {folder} has no '
                             f'{WEIGHTS_FILE}')
    refuse_pointer(path)
    head = build_head(config)
    try:
        weights = load_file(path)
        head.load_state_dict({name: value.to(head.state_dict()[name].dtype) for name, value in weights.items()})
    except (SafetensorError, OSError, RuntimeError, KeyError) as error:
        raise CrossSpecError(f'{path} must hold the weights of the head that {CONFIG_FILE} describes, it does not '
                             f'({one_line(error)}); copy or train it again') from error
    return bound_head(head.eval().requires_grad_(False), target)


def load_heads(folders: Sequence[str | Path], target: TransformersTarget) -> list[StateHead]:
    """Heads of different kinds. Raises `CrossSpecError` as `load_head` does, and for two of one kind."""
    heads = [load_head(folder, target) for folder in folders if str(folder)]
    kinds = [head.config.kind for head in heads]
    if len(set(kinds)) < len(kinds):
        raise CrossSpecError(f'heads must be of different kinds, got {", ".join(kinds)}; name one folder a kind')
    return heads
