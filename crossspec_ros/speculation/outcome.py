"""What one target pass gave: the value that answers, sources and statistics are fed with."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crossspec_ros.speculation.tree import TokenTree

if TYPE_CHECKING:
    import torch

    from crossspec_ros.speculation.ranking import Ranking


@dataclass(frozen=True, eq=False)
class PassOutcome:
    """Outcome of one target pass.

    ``tree``: n nodes checked; ``nodes``: those accepted, a path; ``emitted``: their tokens and one more. ``read``: the
    token that each row of ``logits`` (n + 1, V) and ``states`` (n + 1, D) has read last (-1: the prompt's end).
    ``topk``: the best next tokens of some first rows, best first, where a source needs them; ``layers``: states of the
    same rows after each tapped layer; ``best`` the highest logits of each row where the target ranks them itself.
    """

    tree: TokenTree
    nodes: tuple[int, ...]
    emitted: tuple[int, ...]
    complete: bool = False
    lossless: bool = True
    logits: torch.Tensor | None = None
    states: torch.Tensor | None = None
    new_tokens: int = 1
    verify_ms: float = 0.0
    read: tuple[int, ...] = ()
    first: bool = False
    topk: tuple[tuple[int, ...], ...] | None = None
    layers: Mapping[int, torch.Tensor] = field(default_factory=dict)
    best: Ranking | None = None

    def alone(self, name: str) -> int:
        """Accepted nodes that only the source of this name proposed."""
        names = self.tree.source_names
        if name not in names:
            return 0
        bits = 1 << names.index(name)
        return sum(self.tree.sources[node] == bits for node in self.nodes)
