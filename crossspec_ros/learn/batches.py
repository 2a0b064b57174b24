"""Questions, answers and looks as the arrays that a drafter learns from.

Letters: B windows, C, H, W the voxel grid, T tokens, K likely tokens of a place.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossspec_ros.models.drafter import EventDrafter

_SHIFT, _GAIN = 4, 0.25          # cells; spread of the logarithm of the number of events


class Said(NamedTuple):
    """An answer: its token ids (T,), the likely tokens of each place (T, K), best first, and their probabilities."""

    token_ids: NDArray[np.int32]
    likely: NDArray[np.int32]
    probs: NDArray[np.float32]


def word_arrays(drafter: EventDrafter, questions: Sequence[Sequence[int]], answers: Sequence[Said]
                ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Rows of the words to read (B, T), of those likely to come next (B, T, K) and their probabilities (B, T, K).

    ``questions`` are token ids. Probabilities are 0 at places that do not count; an answer is cut to the drafter's
    longest caption.
    """
    room, batch, width = drafter.config.max_caption_tokens, len(answers), answers[0].likely.shape[1]
    length = max(len(question) + min(len(answer.token_ids), room)
                 for question, answer in zip(questions, answers, strict=True)) - 1
    tokens = np.zeros((batch, length), np.int64)
    likely, probs = np.zeros((batch, length, width), np.int64), np.zeros((batch, length, width), np.float32)
    for index, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        said = answer.token_ids[:room].tolist()
        ids, places = drafter.rows_of([*question, *said]), slice(len(question) - 1, len(question) + len(said) - 1)
        tokens[index, :len(ids) - 1] = ids[:-1]
        likely[index, places] = np.array(drafter.rows_of(answer.likely[:room].reshape(-1).tolist())).reshape(-1, width)
        probs[index, places] = answer.probs[:room]
    return tokens, likely, probs


def moved(voxels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grids (B, C, H, W), each shifted by up to a few cells and with a few more or fewer events: new arrays."""
    out = np.zeros_like(voxels)
    height, width = voxels.shape[2:]
    for index, voxel in enumerate(voxels):
        down, right = (int(shift) for shift in rng.integers(-_SHIFT, _SHIFT + 1, 2))
        gain = np.float32(np.exp(rng.normal(0.0, _GAIN)))
        ys, xs = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
        ys_from = slice(max(0, -down), height + min(0, -down))
        xs_from = slice(max(0, -right), width + min(0, -right))
        out[index, :, ys, xs] = gain * voxel[:, ys_from, xs_from]
    return out
