"""Writing an event drafter as a folder that `models.drafter.load_drafter` reads."""
from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import CONFIG_FILE, WEIGHTS_FILE, EventDrafter
from crossspec_ros.models.tokenizer import TOKENIZER_FILE
from crossspec_ros.models.writing import write_folder_atomic


def save_drafter(drafter: EventDrafter, folder: Path) -> None:
    """Write a checkpoint that ``load_drafter`` reads, whole or not at all."""
    write_folder_atomic(folder, lambda target: write_drafter(drafter, target))


def write_drafter(drafter: EventDrafter, folder: Path) -> None:
    """The files of a checkpoint that ``load_drafter`` reads, into a folder: float16 weights, config, tokenizer."""
    weights = {name: value.detach().half().cpu().contiguous() for name, value in drafter.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={'format': 'pt'})
    (folder / CONFIG_FILE).write_text(json.dumps(asdict(drafter.config), indent=2) + '\n', encoding='utf-8')
    drafter.tokenizer.save(str(folder / TOKENIZER_FILE))


def refuse_other_folder(out: Path) -> None:
    """Raises CrossSpecError where something that is no drafter's folder would be replaced."""
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG_FILE).is_file() or out.is_file():
        raise CrossSpecError(f'{out} is there and is no drafter\'s folder: name another (--out, learn.folder)')
