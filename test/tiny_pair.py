"""A tiny random pair with one tokenizer, for tests of the graph: it says nonsense, at once."""
from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_models import write_checkpoint

from crossspec_ros.models.drafter import DrafterConfig, EventDrafter
from crossspec_ros.models.tokenizer import load_tokenizer, tokenizer_key


def write_pair(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Folders of a verifier and of a drafter that share a tokenizer."""
    verifier, drafter = write_checkpoint(folder / 'verifier', seed=seed, context=1024), folder / 'drafter'
    drafter.mkdir()
    for path in [*verifier.glob('tokenizer*'), *verifier.glob('special_tokens*')]:
        shutil.copy(path, drafter)
    tokenizer = load_tokenizer(drafter)
    config = DrafterConfig(vocab_size=300, tokenizer_key=tokenizer_key(tokenizer), eos_token_id=1,
                           channels=(8, 8, 8, 8),
                           dim=32, layers=1, heads=2, mlp_dim=64)
    torch.manual_seed(seed)
    model = EventDrafter(config, tokenizer)
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, drafter / 'model.safetensors')
    (drafter / 'config.json').write_text(json.dumps(asdict(config)), encoding='utf-8')
    return verifier, drafter
