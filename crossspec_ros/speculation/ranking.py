"""The highest logits of each row. On the CPU numpy finds them in a tenth of torch's time, and a caption waits for it.

Elsewhere they are found on the device, in the model's own type, and packed into one small tensor, so that the host
reads once a pass. Letters: ``m`` rows, ``V`` vocabulary (below 2^24), ``k`` ranks.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

RANKS = 4
"""Best next tokens kept of each row."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The highest logits of each row, on the host: ``values`` float32 (m, k) and ``ids`` int64 (m, k), best first."""

    values: np.ndarray
    ids: np.ndarray

    def rows(self, span: slice) -> Ranking:
        """The same of some rows."""
        return Ranking(self.values[span], self.ids[span])


def _on_cpu(logits: torch.Tensor) -> bool:
    return logits.device.type == 'cpu' and logits.dtype == torch.float32


def likeliest(logits: torch.Tensor) -> tuple[list[int], bool]:
    """The lowest id of the highest logit in each row of (m, V), and whether all those logits are numbers.

    NaN counts as the highest, so one anywhere in a row shows.
    """
    if _on_cpu(logits):
        rows = logits.detach().numpy()
        best = rows.argmax(axis=-1)
        return best.tolist(), not np.isnan(rows[np.arange(len(rows)), best]).any()
    found = logits.max(dim=-1)
    return found.indices.tolist(), not bool(torch.isnan(found.values).any())


def ranked(logits: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Values, float32 (m, k), and ids, int64 (m, k), of the ``count`` highest logits of each row of (m, V), best first;
    fewer where the vocabulary is smaller. ``logits`` hold no NaN and are not changed.
    """
    count = min(count, logits.shape[1])
    if not _on_cpu(logits):
        found = logits.topk(count, dim=-1)
        return found.values.float().cpu().numpy(), found.indices.cpu().numpy()
    left = logits.detach().numpy().copy()
    every = np.arange(len(left))
    values, ids = np.empty((len(left), count), np.float32), np.empty((len(left), count), np.int64)
    for rank in range(count):
        ids[:, rank] = left.argmax(axis=-1)
        values[:, rank] = left[every, ids[:, rank]]
        left[every, ids[:, rank]] = -np.inf
    return values, ids


def packed(logits: torch.Tensor, finite: torch.Tensor, count: int = RANKS) -> torch.Tensor:
    """Float32 (m, 2k + 1) on the device of ``logits`` (m, V), for `unpacked`: values, ids, and ``finite``, bool (m,).

    Of equal logits the one with the lowest id comes first, as in ``generate``; ``topk`` promises no order. Widening 16
    bits changes no order, so ranks in the logits' own type are those in float32. Nothing is read by the host.
    """
    left, values, ids = logits.clone(), [], []
    for _ in range(min(count, logits.shape[1])):
        best = left.max(dim=-1, keepdim=True)
        left.scatter_(1, best.indices, float('-inf'))
        values.append(best.values)
        ids.append(best.indices)
    return torch.cat([torch.cat(values, 1).float(), torch.cat(ids, 1).float(), finite[:, None].float()], 1)


def unpacked(numbers: np.ndarray) -> tuple[Ranking, bool]:
    """What `packed` made, once it is on the host, and whether all rows are finite. Copies."""
    count = numbers.shape[1] // 2
    ranking = Ranking(numbers[:, :count].copy(), numbers[:, count:2 * count].astype(np.int64))
    return ranking, bool(numbers[:, -1].all())
