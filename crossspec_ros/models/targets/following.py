"""A process that holds a share of a model and does what rank 0 says.

``python -m crossspec_ros.models.targets.following``, started by rank 0 (`models.ranks`) or by torchrun.
Nothing is decided here, and nothing is kept that rank 0 has let go.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.models.ranks import Ranks, join
from crossspec_ros.models.targets.load import load_shared
from crossspec_ros.models.targets.transformers_target import TransformersTarget
from crossspec_ros.speculation.target import Layout
from crossspec_ros.speculation.tree import TokenTree


class Follower:
    """The target of one of the other ranks, with layouts and caches by the numbers that rank 0 gives them."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._target: TransformersTarget | None = None
        self._layouts: dict[int, Layout] = {}
        self._caches: dict[int, SequenceCache] = {}

    def obey(self, order: str, tensors: Sequence[torch.Tensor], gone: Sequence[int] = (), **header: Any) -> None:
        """Do one thing that rank 0 does at this moment; raises what that raises there."""
        for number in gone:
            self._layouts.pop(number, None)
            self._caches.pop(number, None)
        getattr(self, f'_do_{order}')(tensors, **header)

    def _do_load(self, tensors: Sequence[torch.Tensor], threads: int, settings: dict[str, Any]) -> None:
        torch.set_num_threads(threads)
        self._do_free(tensors)
        self._target = load_shared(self._ranks, **settings)

    def _do_free(self, tensors: Sequence[torch.Tensor]) -> None:
        self._target = None
        self._layouts.clear()
        self._caches.clear()

    def _do_layout(self, tensors: Sequence[torch.Tensor], number: int, prompt: str, frames: int,
                   size: Sequence[int]) -> None:
        self._layouts[number] = self._target.layout(prompt, frames, *size)

    def _do_embed(self, tensors: Sequence[torch.Tensor], ids: list[int]) -> None:
        self._target.embed(ids)

    def _do_encode(self, frames: Sequence[torch.Tensor], layout: int, group: int) -> None:
        self._target.encode(self._layouts[layout], group, [frame.numpy() for frame in frames])

    def _do_encode_all(self, frames: Sequence[torch.Tensor], layout: int) -> None:
        self._target.encode_all(self._layouts[layout], [frame.numpy() for frame in frames])

    def _do_generate(self, frames: Sequence[torch.Tensor], prompt: str, tokens: int, options: dict[str, Any]) -> None:
        self._target.generate([frame.numpy() for frame in frames], prompt, tokens, **options)

    def _do_extend(self, rows: Sequence[torch.Tensor], **cache: Any) -> None:
        self._target.extend(self._cache(**cache), rows[0])

    @torch.inference_mode()
    def _do_verify(self, rows: Sequence[torch.Tensor], parents: Sequence[int], **cache: Any) -> None:
        count = len(parents)                           # which tokens, and where they come from, only rank 0 need know
        tree = TokenTree((0,) * count, tuple(parents), (1,) * count, (1.0,) * count)
        self._target.adapter.head(self._target.states(self._cache(**cache), rows[0], tree))

    def _cache(self, cache: int, capacity: int, layout: int, edits: Sequence[tuple[int, Sequence[int]]]
               ) -> SequenceCache:
        """The cache of this number, as rank 0 has it now."""
        held = self._caches.get(cache)
        if held is None:
            held = self._caches[cache] = SequenceCache(self._target.adapter.text_config.num_hidden_layers, capacity,
                                                       self._target.cache_kind)
        held.layout = self._layouts[layout]
        for base, rows in edits:
            held.keep(base, rows)
        return held


def main() -> int:
    """Follow until rank 0 says that it is over, or is gone; the exit code."""
    ranks = join()
    follower = Follower(ranks)
    while (heard := ranks.hear()) is not None:
        header, tensors = heard
        order = header.pop('do')
        if order == 'end':
            break
        try:
            follower.obey(order, tensors, **header)
        except CrossSpecError:                         # rank 0 raises it too, and says it
            continue
        except Exception as error:                     # what goes wrong here alone ends the model: rank 0 says it
            ranks.tell(error)
            return 1
    return 0


if __name__ == '__main__':
    code = main()
    sys.stderr.flush()
    os._exit(code)                                     # libraries take seconds to take themselves apart
