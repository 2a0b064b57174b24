"""Rows: what a decoder takes for one token, side by side, so that an engine may cut, keep and join them unseen.

A row is [embedding | features for the first layers | flag of a block]; a model that needs no more has rows that are the
embeddings themselves, and nothing is copied. Shape letters: T tokens, D embedding width, W row width, S layers that are
given features, P rows of pictures among the T.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RowFormat:
    """What stands in a row: ``width`` D, ``layers`` S of features, and whether there is a flag of a block."""

    width: int
    layers: int = 0
    flags: bool = False

    @property
    def plain(self) -> bool:
        """True where a row is the embedding and no more."""
        return not self.layers and not self.flags

    @property
    def size(self) -> int:
        """W, how wide a row is."""
        return self.width * (self.layers + 1) + self.flags

    def text(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Rows (T, W) of tokens with embeddings (T, D), which have no features and are in no block."""
        if self.plain:
            return embeddings
        more = self.width * self.layers + self.flags
        return torch.cat([embeddings, embeddings.new_zeros(len(embeddings), more)], 1)

    def pictures(self, embeddings: torch.Tensor, layers: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """Rows (T, W) of tokens that are all of pictures, with features (T, D) for each of S layers."""
        if self.plain:
            return embeddings
        flag = [embeddings.new_ones(len(embeddings), 1)] if self.flags else []
        return torch.cat([embeddings, *(part.to(embeddings.dtype) for part in layers), *flag], 1)

    def prompt(self, embeddings: torch.Tensor, features: tuple[torch.Tensor, Sequence[torch.Tensor]] | None,
               flags: torch.Tensor | None) -> torch.Tensor:
        """Rows (T, W) of a whole prompt: which rows are given features, bool (T,), and these (P, D) for each layer;
        which stand in blocks, bool (T,)."""
        rows = self.text(embeddings).clone()
        if self.layers and features is not None:
            where, layers = features
            rows[where, self.width:self.width * (self.layers + 1)] = torch.cat(list(layers), 1).to(rows.dtype)
        if self.flags and flags is not None:
            rows[:, -1] = flags.to(rows.dtype)
        return rows

    def embeddings(self, rows: torch.Tensor) -> torch.Tensor:
        """The embeddings (T, D) of rows."""
        return rows if self.plain else rows[:, :self.width]

    def features(self, rows: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]] | None:
        """Which rows are given features, bool (T,), and these (P, D) for each layer; None where no row is."""
        if not self.layers:
            return None
        deep = rows[:, self.width:self.width * (self.layers + 1)]
        where = (deep != 0).any(1)
        if not bool(where.any()):
            return None
        return where, list(deep[where].split(self.width, 1))

    def blocks(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Flags bool (T,) of rows that stand in a block; None where the format has none or no row does."""
        if not self.flags:
            return None
        flags = rows[:, -1] > 0
        return flags if bool(flags.any()) else None
