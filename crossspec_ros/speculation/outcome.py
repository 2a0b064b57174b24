"""What one target pass gave: the value that answers, sources and statistics are fed with."""
from __future__ import annotations

from dataclasses import dataclass

import torch

from crossspec_ros.speculation.tree import TokenTree


@dataclass(frozen=True, eq=False)
class PassOutcome:
    """Outcome of one target pass.

    ``tree``: n nodes checked; ``nodes``: those accepted, a path; ``emitted``: their tokens and one more. ``read``: the
    token that each row of ``logits`` (n + 1, V) and ``states`` (n + 1, D) has read last (-1: the prompt's end).
    ``topk``: the best next tokens of some first rows, best first, where a source needs them.
    """

    tree: TokenTree
    nodes: tuple[int, ...]
    emitted: tuple[int, ...]
    complete: bool
    lossless: bool
    logits: torch.Tensor
    states: torch.Tensor
    new_tokens: int
    verify_ms: float
    read: tuple[int, ...] = ()
    first: bool = False
    topk: tuple[tuple[int, ...], ...] | None = None
