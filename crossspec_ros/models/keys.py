"""The key of a checkpoint: by it a drafter says which verifier it learned from. Nothing is loaded to know it."""
from __future__ import annotations

import hashlib
from pathlib import Path

from crossspec_ros.errors import CrossSpecError

_SAMPLES, _SAMPLE_BYTES = 64, 4096
_WEIGHTS = ('*.safetensors', 'pytorch_model*.bin')


def checkpoint_key(folder: str | Path) -> str:
    """16 hex digits that name the weights in a folder: sha256 over the lengths of its files and samples of each.

    The same on every machine, device and type to compute in; weights that were trained on have another, as have those
    that were saved in another type. Empty where the folder has no weights. Raises CrossSpecError where they cannot be
    read.
    """
    folder = Path(folder)
    paths = next((found for pattern in _WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    if not paths:
        return ''
    digest = hashlib.sha256()
    try:
        for path in paths:
            size = path.stat().st_size
            digest.update(size.to_bytes(8, 'little'))
            with path.open('rb') as file:
                for place in range(_SAMPLES):
                    file.seek(place * max(0, size - _SAMPLE_BYTES) // max(1, _SAMPLES - 1))
                    digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise CrossSpecError(f'the weights in {folder} cannot be read: {error.strerror or error}') from error
    return digest.hexdigest()[:16]
