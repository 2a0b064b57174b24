"""Who sees whom and who stands where: masks and positions of new tokens, some of them the nodes of a tree.

Shape letters: T new tokens, L keys (cached and new), A rows of positions.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch

from crossspec_ros.speculation.tree import TokenTree

NO_TREE = TokenTree()
ONE_KIND = ''
"""Name of the only mask of a decoder whose layers all see alike: it is handed over as it is, not by name."""


@dataclass(frozen=True)
class MaskKind:
    """How some layers see: ``window`` tokens back (0: all), ``blocks``: rows of a block also see each other forward."""

    window: int = 0
    blocks: bool = False


@dataclass(frozen=True)
class DecoderStyle:
    """What a decoder is handed: masks by the type of its layers, and so many rows of positions (0: a single one).

    ``kinds`` names the types; `ONE_KIND` alone means one mask for all layers.
    """

    kinds: Mapping[str, MaskKind] = field(default_factory=lambda: MappingProxyType({ONE_KIND: MaskKind()}))
    axes: int = 0

    @property
    def plain(self) -> bool:
        """True where one causal mask and one row of positions are all there is."""
        return not self.axes and dict(self.kinds) == {ONE_KIND: MaskKind()}

    def masks(self, mask: torch.Tensor, index: torch.Tensor, cached: int,
              blocks: torch.Tensor | None) -> torch.Tensor | dict[str, torch.Tensor]:
        """Masks (1, 1, T, L) as the decoder takes them, from who sees whom, bool (T, L), where new tokens stand,
        ``index`` (T,), and the new tokens' flags of blocks (T,)."""
        made = {name: self._mask(kind, mask, index, cached, blocks)[None, None] for name, kind in self.kinds.items()}
        return made[ONE_KIND] if ONE_KIND in made else made

    @staticmethod
    def _mask(kind: MaskKind, mask: torch.Tensor, index: torch.Tensor, cached: int,
              blocks: torch.Tensor | None) -> torch.Tensor:
        if kind.window:
            keys = torch.arange(mask.shape[1])
            keys[cached:cached + len(index)] = index                  # a node of a tree stands at its depth
            mask = mask & (index[:, None] - keys[None] < kind.window)
        if kind.blocks and blocks is not None:
            mask = mask.clone()
            run = torch.cumsum(blocks.diff(prepend=~blocks[:1]).int(), 0)        # runs of flagged and unflagged rows
            same = blocks[:, None] & blocks[None] & (run[:, None] == run[None])
            mask[:, cached:cached + len(index)] |= same
        return mask


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the rows of a prompt stand: ``table`` (A, prompt), and by how much answers are moved, ``shift`` (A, 1)."""

    table: torch.Tensor
    shift: torch.Tensor

    def positions(self, index: torch.Tensor) -> torch.Tensor:
        """Positions (A, T) of the tokens that stand at ``index`` (T,) in the sequence."""
        length = self.table.shape[1]
        return torch.where(index[None] < length, self.table[:, index.clamp(max=length - 1)], index[None] + self.shift)


def tree_mask(cached: int, count: int, tree: TokenTree, keys: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Who sees whom, bool (count, keys), and where they stand, (count,), for ``count`` tokens after ``cached`` ones.

    The last ``len(tree)`` tokens are the tree: each sees the chunk before the tree and its own ancestors, and stands at
    its depth. ``keys`` are those cached and the new ones, or the whole of a fixed buffer.
    """
    nodes = len(tree)
    chunk = count - nodes
    first = cached + chunk
    mask = np.zeros((count, keys), dtype=bool)
    mask[:, :cached] = True
    mask[:chunk, cached:first] = np.tri(chunk, dtype=bool)
    index = np.arange(cached, cached + count)
    if nodes:
        mask[chunk:, cached:first] = True
        mask[chunk:, first:first + nodes] = tree.ancestor_mask()
        index[chunk:] = first + tree.depths()
    return torch.from_numpy(mask), torch.from_numpy(index)
