"""What the engine asks of a target: the prompt cut into segments, groups of frames as rows, and verified trees.

Rows are opaque to the engine: a target packs into a row whatever its decoder takes for one token (the embedding, extra
features for some layers, flags), and the engine cuts, keeps and joins rows along the first axis. Nothing here names a
model class; `crossspec_ros.models` implements it with transformers.

Shape letters: T new tokens, W width of a row, n nodes of a tree, V width of the logits, D width of the states.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.ranking import Ranking
from crossspec_ros.speculation.tree import TokenTree


@dataclass(frozen=True, eq=False)
class Text:
    """A segment whose rows (T, W) are known when the prompt is: words, separators, time marks, newlines."""

    rows: torch.Tensor


@dataclass(frozen=True)
class FrameGroup:
    """A segment of ``tokens`` rows that ``frames`` frames, from slot ``first`` on, are encoded to together."""

    first: int
    frames: int
    tokens: int


@dataclass(frozen=True, eq=False)
class Layout:
    """A prompt for so many frames of one size, cut into segments in the order in which the decoder reads them.

    ``ids`` is the whole prompt as the model's own ``generate`` is given it, one id a row, placeholders included: the
    history of logits processors. ``question_ids`` are the text tokens after the last frame, for prompt lookup.
    ``private`` is the target's own (tables of positions, masks); the engine does not look at it.
    """

    segments: tuple[Text | FrameGroup, ...]
    ids: tuple[int, ...]
    question_ids: tuple[int, ...] = ()
    private: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.groups:
            raise CrossSpecError('a prompt must hold a place for frames, got none')
        if not isinstance(self.segments[-1], Text) or not len(self.segments[-1].rows):
            raise CrossSpecError('a prompt must go on after the frames with a question, got nothing there')
        if len(self.ids) != self.length:
            raise CrossSpecError(f'a prompt must have one id a row, got {len(self.ids)} ids and {self.length} rows')

    @cached_property
    def groups(self) -> tuple[FrameGroup, ...]:
        """The groups of frames, oldest first."""
        return tuple(segment for segment in self.segments if isinstance(segment, FrameGroup))

    @cached_property
    def length(self) -> int:
        """Rows of the whole prompt."""
        return sum(segment.tokens if isinstance(segment, FrameGroup) else len(segment.rows)
                   for segment in self.segments)

    @property
    def tail(self) -> torch.Tensor:
        """Rows after the last frame: closing marks and the question."""
        return self.segments[-1].rows

    @cached_property
    def last_tokens(self) -> int:
        """Rows that are left once all but the newest group are in the cache, the tail included."""
        before = self.segments[-3:-2]
        between = len(before[0].rows) if before and isinstance(before[0], Text) and len(self.groups) > 1 else 0
        return between + self.groups[-1].tokens + len(self.tail)


@dataclass(frozen=True)
class Abilities:
    """What of the engine's ways is exact for a target; the rest is left out, and said.

    ``frame_cache``: a group's rows depend on its frames alone, so windows that overlap may share them.
    ``anticipatory``: rows of a group, and what the decoder makes of them, depend on no later frame, so that groups may
    be encoded and prefilled as they come. ``trees``: rows may attend to the path of a tree; else drafts are chains.
    ``coarse``: activations are rounded inside a forward, so that in float32 too one of another shape may decide a token
    otherwise, as in 16 bits. ``notes`` say in a sentence each why something is left out.
    """

    frame_cache: bool = True
    anticipatory: bool = True
    trees: bool = True
    coarse: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Judged:
    """What a forward said: ``logits`` (n + 1, V) as ``generate`` would rank them, row 0 after the committed prefix, row
    i + 1 after node i; ``states`` (n + 1, D) of the decoder behind them, final norm included; ``layers`` the states
    (n + 1, D) of the same rows after each layer that is tapped.

    ``best`` is what the target has ranked itself, where it has: then nothing else need be read from its device, and
    ``logits`` are of the model's own type; else they are float32. Tensors hold until the target's next forward.
    """

    logits: torch.Tensor
    states: torch.Tensor
    layers: Mapping[int, torch.Tensor] = field(default_factory=dict)
    best: Ranking | None = None

    def rows(self, span: slice) -> Judged:
        """The same of some rows."""
        return Judged(self.logits[span], self.states[span],
                      {layer: states[span] for layer, states in self.layers.items()},
                      None if self.best is None else self.best.rows(span))


class KeyValues(Protocol):
    """Keys and values of one sequence: grows by forwards, shrinks by `truncate`, drops rejected rows by `keep`."""

    length: int
    capacity: int

    def truncate(self, length: int) -> None:
        """Forget everything after the first ``length`` tokens."""
        ...

    def keep(self, base: int, rows: Sequence[int]) -> None:
        """Keep the first ``base`` tokens and, of what follows, only ``rows`` (rising, counted from ``base``)."""
        ...


class Target(Protocol):
    """The model whose words are published. Used by one thread at a time.

    ``model_key`` names the checkpoint, whatever it computes in: drafters say by it which verifier they learned from.
    ``sizes``, rising, are those that forwards of new tokens are filled up to: a tree may be as large as that for
    nothing. Empty where a forward costs what its tokens cost.
    """

    model_key: str
    tokenizer_key: str
    vocab_size: int
    context_length: int
    eos_ids: tuple[int, ...]
    banned_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    device: torch.device
    dtype: torch.dtype
    abilities: Abilities
    sizes: tuple[int, ...]

    def close(self) -> None:
        """Let go what lives outside this process; the target is not used again."""
        ...

    def layout(self, prompt: str, frames: int, height: int, width: int) -> Layout:
        """The prompt for so many frames of this size, px; the same object when asked again.

        Raises `CrossSpecError` for a prompt that is no text, empty, longer than the context, or holds the placeholder
        of frames in another way than the model takes, and for frames that do not make whole groups.
        """
        ...

    def encode(self, layout: Layout, group: int, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Rows (tokens, W) of group ``group`` of the layout, from its frames, uint8 (H, W, 3) RGB.

        Raises `CrossSpecError` for frames of another shape, type or number, and for those the model cannot take.
        Called only where ``abilities.anticipatory``.
        """
        ...

    def encode_all(self, layout: Layout, frames: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Rows of every group at once, for all of the window's frames, oldest first. Raises as `encode` does."""
        ...

    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Rows (T, W) of answer tokens."""
        ...

    def new_cache(self, layout: Layout, capacity: int) -> KeyValues:
        """An empty cache of a window with this layout, for up to ``capacity`` tokens; `release` hands it back."""
        ...

    def release(self, cache: KeyValues) -> None:
        """Hand a cache back that is no longer needed."""
        ...

    def extend(self, cache: KeyValues, rows: torch.Tensor) -> None:
        """Prefill: append (T, W) rows causally; no logits are computed."""
        ...

    def verify(self, cache: KeyValues, rows: torch.Tensor, tree: TokenTree, committed: Sequence[int]) -> Judged:
        """Append (T, W) rows, the last ``len(tree)`` of which are the tree's nodes; what the target says after the row
        before the tree and after each node.

        ``committed`` are the answer's tokens up to that row: with the layout's ids and a node's path they are the
        history that logits processors see. Banned ids are at minus infinity. Raises `CrossSpecError` where logits are
        not finite; the caller cuts the cache back.
        """
        ...

    def tap(self, layers: Sequence[int]) -> None:
        """From now on what `verify` returns holds the states after these layers of the decoder too, counted from 0;
        those that were tapped before stay. Where nothing is tapped, nothing is kept.

        Raises `CrossSpecError` for layers that the decoder does not have.
        """
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of answer tokens, special tokens left out."""
        ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer text, no special tokens added."""
        ...
