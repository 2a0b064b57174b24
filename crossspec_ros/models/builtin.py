"""Where the pair that comes with the package lies."""
from __future__ import annotations

from pathlib import Path

from crossspec_ros.errors import CrossSpecError

BUILTIN = 'builtin'
PARTS = ('verifier', 'drafter')


def builtin_path(part: str) -> Path:
    """Folder of the built-in ``verifier`` or ``drafter``.

    Raises CrossSpecError for another name, and where the folder has no weights (a source tree without its data).
    """
    if part not in PARTS:
        raise CrossSpecError(f'built-in part must be one of {", ".join(PARTS)}, got {part!r}')
    folder = Path(__file__).resolve().parent / 'builtin' / part
    if not (folder / 'model.safetensors').is_file():
        raise CrossSpecError(f'the built-in {part} has no weights at {folder}: reinstall the package, '
                             f'or train a pair with `crossspec train pair --out DIR` and name its folder')
    return folder


def model_path(name: str | Path, part: str) -> Path:
    """The folder meant by ``builtin`` (or empty) or by a checkpoint's path; raises CrossSpecError if there is none."""
    if str(name) in ('', BUILTIN):
        return builtin_path(part)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise CrossSpecError(f'{part} must be {BUILTIN!r} or a checkpoint folder, got {str(name)!r}, '
                             f'which is not there')
    return folder
