"""What the decode loop asks of a target model; `models.verifier` implements it with transformers.

Shape letters: F tokens a frame, D embedding width, T new tokens, L cached tokens, V logits width.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError


@dataclass(frozen=True)
class PromptSegments:
    """A prompt cut where the frames go: ``prefix_ids``, then the frames, then ``tail_ids`` (question, answer mark).

    ``closing`` are embeddings (C, D) that the model puts behind the last frame and before the tail (C may be 0).
    """

    prefix_ids: tuple[int, ...]
    tail_ids: tuple[int, ...]
    frame_tokens: int
    closing: torch.Tensor


class KeyValues(Protocol):
    """Keys and values of one sequence: grows by forwards, shrinks by `truncate`, drops rejected rows by `keep`."""

    length: int
    capacity: int

    def truncate(self, length: int) -> None:
        """Forget everything behind the first ``length`` tokens."""
        ...

    def keep(self, base: int, rows: Sequence[int]) -> None:
        """Keep the first ``base`` tokens and, of what follows, only ``rows`` (rising, counted from ``base``)."""
        ...


class Verifier(Protocol):
    """The target model in four steps: encode a frame, extend the sequence, verify a tree, commit (by `KeyValues`)."""

    model_key: str
    tokenizer_key: str
    vocab_size: int
    context_length: int
    eos_ids: tuple[int, ...]
    banned_ids: tuple[int, ...]
    device: torch.device

    def segments(self, prompt: str, frames: int) -> PromptSegments:
        """The prompt for so many frames. Raises `CrossSpecError` for an empty prompt or a broken placeholder."""
        ...

    def encode_frame(self, rgb: np.ndarray) -> torch.Tensor:
        """Features (F, D) of one frame, uint8 (H, W, 3) RGB. Raises `CrossSpecError` for another shape or type."""
        ...

    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Embeddings (T, D) of tokens."""
        ...

    def new_cache(self, capacity: int) -> KeyValues:
        """An empty cache for up to ``capacity`` tokens. Caches are reused: hand it back by `release`."""
        ...

    def release(self, cache: KeyValues) -> None:
        """Hand a cache back that is no longer needed."""
        ...

    def extend(self, cache: KeyValues, embeds: torch.Tensor) -> None:
        """Prefill: append (T, D) embeddings causally; no logits are computed."""
        ...

    def verify(self, cache: KeyValues, embeds: torch.Tensor, parents: Sequence[int],
               keep_logits: int) -> torch.Tensor:
        """Append (T, D) embeddings, the last ``len(parents)`` of which are a tree whose nodes' ``parents`` count from
        the first node (-1: the token before the tree); logits (keep_logits, V) float32 of the last tokens.
        """
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of answer tokens, special tokens left out."""
        ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer text, no special tokens added."""
        ...


def check_frame(rgb: object) -> None:
    """Raises `CrossSpecError` unless ``rgb`` is uint8 (H, W, 3), not empty, H and W from 2 to 16384."""
    if not isinstance(rgb, np.ndarray):
        raise CrossSpecError(f'rgb must be a numpy array, got {type(rgb).__name__}')
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise CrossSpecError(f'rgb must be uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}')
    if not all(2 <= side <= 16384 for side in rgb.shape[:2]):
        raise CrossSpecError(f'rgb must be 2 to 16384 pixels high and wide, got {rgb.shape[0]} x {rgb.shape[1]}')
