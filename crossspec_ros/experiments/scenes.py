"""What the verifier has seen of a window, for heads that look at it: visual rows, its last layer's keys and values.

Made of the frames once and kept beside the records. Letters: S visual tokens, D width, H heads of keys, W their width,
P tokens of the prompt, T of the answer.
"""
from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crossspec_ros.bench.decode import make_windows
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.lab import Lab, Seen
from crossspec_ros.models.heads.recording import as_stored
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.speculation.target import Text
from crossspec_ros.speculation.tree import TokenTree


@dataclass(frozen=True, eq=False)
class Scene:
    """``visual`` float16 (S, D), oldest frame first, of which the newest frame has ``newest``; ``keys``, ``values``
    float16 (H, P + T - 1, W) of the verifier's last layer along its answer, ``prompt`` = P."""

    visual: Tensor
    newest: int
    keys: Tensor
    values: Tensor
    prompt: int


def scenes_of(lab: Lab, seen: Sequence[Seen]) -> list[Scene]:
    """Of these windows, which stand drive by drive, each from the start of its drive."""
    return [scene for drive, group in groupby(seen, lambda each: each.window.drive)
            for scene in _drive(lab, drive, list(group))]


def _drive(lab: Lab, drive: str, seen: Sequence[Seen]) -> list[Scene]:
    pace, seed = drive.split('_')[:2]
    key = zlib.crc32(f'{lab.target.model_key} {lab.settings.prompt}'.encode())
    path = lab.records / f'{pace}_{seed}_{len(seen)}_{key:08x}.scenes.npz'
    if not path.is_file():
        windows = make_windows(len(seen), int(seed), 1, lab.settings.prompt, None, pace)
        made = [_scene(lab, window.frames, each.window.token_ids) for window, each in zip(windows, seen, strict=True)]
        write_atomic(path, lambda part: _save(part, made))
    return _load(path, len(seen))


@torch.inference_mode()
def _scene(lab: Lab, frames: Sequence[np.ndarray], token_ids: Sequence[int]) -> Scene:
    """Raises CrossSpecError where the verifier does not say these tokens of these frames."""
    target = lab.target
    layout = target.layout(lab.settings.prompt, len(frames), *frames[0].shape[:2])
    visual = target.encode_all(layout, frames)
    groups = iter(visual)
    rows = torch.cat([segment.rows if isinstance(segment, Text) else next(groups) for segment in layout.segments])
    before = tuple(token_ids[:-1])
    cache = target.new_cache(layout, len(rows) + len(before))
    judged = target.verify(cache, torch.cat((rows, target.embed(before))), TokenTree.chain(before), ())
    said = tuple(judged.logits.argmax(-1).tolist())
    if said != tuple(token_ids):
        raise CrossSpecError('the recorded answers are not what the verifier says of these frames: name another folder '
                             'with --out')
    layer = cache.layers[-1]
    keys, values = (torch.from_numpy(as_stored(part[0, :, :cache.length]))
                    for part in (layer.key_buffer, layer.value_buffer))
    target.release(cache)
    return Scene(torch.from_numpy(as_stored(torch.cat(visual))), len(visual[-1]), keys, values, len(rows))


def _save(path: Path, scenes: Sequence[Scene]) -> None:
    with path.open('wb') as handle:
        np.savez(handle, shapes=[(scene.newest, scene.prompt) for scene in scenes],
                 **{f'{name}_{number}': getattr(scene, name).numpy() for number, scene in enumerate(scenes)
                    for name in ('visual', 'keys', 'values')})


def _load(path: Path, count: int) -> list[Scene]:
    try:
        with np.load(path) as stored:
            parts = [{name: torch.from_numpy(stored[f'{name}_{number}']) for name in ('visual', 'keys', 'values')}
                     for number in range(count)]
            return [Scene(newest=int(newest), prompt=int(prompt), **part)
                    for (newest, prompt), part in zip(stored['shapes'], parts, strict=True)]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise CrossSpecError(f'cannot read {path} ({error}): delete it') from error
