"""Passes for accelerators: filled up to a few sizes, decided on the device, read once by the host.

A forward of few tokens costs a GPU the same as one of many, and its operations cost the host more to launch than the
device to do. So new tokens are filled up to one of `SIZES`, keys and values stand in buffers of one length, and all of
a pass is a *step* of fixed shape from fixed buffers: parents in, masks and positions from them, the decoder, logits in
the model's own type, bans, the highest of each row. A recorder (`models.targets.graphs`) makes one launch of it. The
same code runs on a CPU, where it costs more than `models.targets.forwards` and is there to be tested.

Rows that only fill up are copies of the last one that nobody sees; what they leave in the buffers is written over by
the next pass. Prefill, and forwards that no size fits, go free.

Shape letters: S size of a step, T new tokens, W row width, D embedding width, V logits width, L length of the buffers,
A rows of positions, n nodes of a tree, k ranks.
"""
from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import Protocol

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.caches import SequenceCache
from crossspec_ros.models.devices import sent
from crossspec_ros.models.targets.decoding import NO_TREE, sight
from crossspec_ros.models.targets.forwards import DecoderForwards
from crossspec_ros.models.targets.graphs import Reader, Recorder, Step, again, check_room, free_bytes, recorder_for
from crossspec_ros.speculation.ranking import packed, unpacked
from crossspec_ros.speculation.target import Judged
from crossspec_ros.speculation.tree import PREFIX, TokenTree

SIZES = (1, 8, 16, 32, 64, 128, 320)
"""New tokens of a step: decoding, small and large trees, and a frame with the question and a tree."""
NOT_FINITE = ('logits must be finite, got NaN or infinity from the target: its weights, its type or the frames are '
              'broken')

_log = logging.getLogger(__name__)
_ROUND = 256                      # between lengths of buffers
_GAP = max(larger - smaller - 1 for smaller, larger in zip(SIZES, SIZES[1:]))
_WHY = {
    'free_long': f'a forward of more than {SIZES[-1]} new tokens is not filled up to a size',
    'free_pictures': 'forwards with rows of pictures are not filled up for this class: such rows carry more than '
                     'embeddings',
}


def step_bytes(size: int, length: int, vocabulary: int, dim: int, element: int) -> int:
    """Bytes that a step of ``size`` tokens over buffers of a length takes at one time, from above: logits and what
    ranks them, a layer's own, masks; numbers of ``element`` bytes."""
    return element * (size * (3 * vocabulary + 64 * dim + 4 * length) + 8 * dim * length)


class Scorer(Protocol):
    """What the checkpoint's generation settings do to logits before the largest is taken."""

    def __call__(self, logits: torch.Tensor, prompt_ids: Sequence[int], committed: Sequence[int],
                 tree: TokenTree) -> torch.Tensor:
        """Logits (n + 1, V) float32 as ``generate`` would rank them, row 0 after ``committed``."""
        ...


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Buffers that a step of one size reads: ``rows`` (S, W), and ``plan`` (S + 3): tokens in the cache, the row before
    the tree, the last row, the parent of each row."""

    rows: torch.Tensor
    plan: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Said:
    """What a step gives, from the row before the tree on: states (S, D), logits (S, V), whether each row's are numbers,
    (S,), states after tapped layers; ``ranking`` (S, 2k + 1) where the step ranks, as `ranking.packed` makes it."""

    states: torch.Tensor
    logits: torch.Tensor
    finite: torch.Tensor
    layers: Mapping[int, torch.Tensor]
    ranking: torch.Tensor | None


@dataclass(eq=False)
class _Lane:
    """What belongs to one cache: ``table`` (A, L), where its tokens stand, and its steps by size, made in ``epoch``."""

    table: torch.Tensor
    epoch: int
    steps: dict[int, Step | None] = field(default_factory=dict)


class PaddedForwards:
    """Passes over caches of the static kind. ``counts`` says how forwards went: ``filled`` up to a size, ``replayed``
    from a capture, ``free_long``, ``free_pictures`` and ``free_room`` as long as they are (why, is in the log once),
    ``not_captured`` steps that run eagerly though the device could record them.
    """

    def __init__(self, forwards: DecoderForwards, recorder: Recorder | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.banned: torch.Tensor | None = None
        self._forwards, self._style = forwards, replace(forwards.style, additive=True)
        self._recorder = recorder or recorder_for(forwards.device)
        self._read = Reader(forwards.device)
        self._inputs: dict[int, _Inputs] = {}
        self._ranks, self._epoch, self._token_bytes = True, 0, 0
        self._told: set[str] = set()

    # -- caches -------------------------------------------------------------------------------------------------------

    @staticmethod
    def length(capacity: int) -> int:
        """L, rows of the buffers for a sequence of so many tokens and what fills up its last forward.

        Few lengths, so that sequences share buffers; and none that hangs on the sequences before, since sums over a
        longer buffer may round otherwise.
        """
        return -(-(capacity + _GAP) // _ROUND) * _ROUND

    @torch.inference_mode()
    def prepare(self, cache: SequenceCache, scorer: Scorer | None) -> None:
        """Make an empty cache ready for its layout, and record the steps that it has not. Raises `CrossSpecError` where
        the device has no room for its keys and values."""
        if self._ranks != (scorer is None):
            self._ranks = scorer is None
            self.forget()
        lane, table = cache.private, self._table(cache)
        if lane is None or lane.epoch != self._epoch:
            if lane is None:
                self._ask(cache)
            lane = cache.private = _Lane(torch.empty_like(table), self._epoch)
        lane.table.copy_(table)
        for size in SIZES:
            if size not in lane.steps and size <= cache.capacity:
                lane.steps[size] = self._recorded(cache, lane, size)

    def forget(self) -> None:
        """Steps that are recorded no longer do what is wanted: caches get new ones when they are used again."""
        self._epoch += 1

    def _table(self, cache: SequenceCache) -> torch.Tensor:
        """Where the tokens of a sequence stand, (A, L)."""
        index, private = torch.arange(cache.capacity), cache.layout.private
        placement = None if private is None else private.placement
        return (index[None] if placement is None else placement.positions(index)).to(self._forwards.device)

    def _ask(self, cache: SequenceCache) -> None:
        """Raises `CrossSpecError` where keys and values, which layers may have of several widths, find no room."""
        if not self._token_bytes:
            one = SequenceCache(self._forwards.layers, 1)
            one.layout = cache.layout
            self._forwards.states(one, torch.zeros_like(self._buffers(1).rows), NO_TREE)
            self._token_bytes = one.bytes_a_token
        check_room(free_bytes(self._forwards.device), self._token_bytes * cache.capacity,
                   f'keys and values of {cache.capacity} tokens')

    # -- steps --------------------------------------------------------------------------------------------------------

    def _recorded(self, cache: SequenceCache, lane: _Lane, size: int) -> Step | None:
        """The step of one size for a cache; None where it cannot be recorded, said once and counted."""
        inputs = self._buffers(size)
        inputs.plan.copy_(sent([0, 0, 0, *[PREFIX] * size], inputs.plan.device))

        def step() -> _Said:
            return self._step(cache, lane, inputs, size)
        try:
            check_room(free_bytes(self._forwards.device), self._needed(size, cache.capacity),
                       f'a captured step of {size} tokens')
            return self._recorder(step)
        except (CrossSpecError, RuntimeError) as error:
            self.counts['not_captured'] += 1
            self._tell('not_captured', f'steps are run operation by operation where they cannot be captured: '
                       f'{" ".join(str(error).split())[:300]}')
            return None

    def _buffers(self, size: int) -> _Inputs:
        if size not in self._inputs:
            like = self._forwards.adapter.embedding.weight
            self._inputs[size] = _Inputs(
                torch.zeros(size, self._forwards.rows.size, dtype=like.dtype, device=self._forwards.device),
                torch.zeros(size + 3, dtype=torch.int64, device=self._forwards.device))
        return self._inputs[size]

    def _needed(self, size: int, length: int) -> int:
        """Bytes that a step takes at one time; see `step_bytes`."""
        return step_bytes(size, length, *self._forwards.head.weight.shape, self._forwards.head.weight.element_size())

    def _step(self, cache: SequenceCache, lane: _Lane, inputs: _Inputs, size: int) -> _Said:
        """A pass on the device. No number of the host's is in it, and the host reads none: it can be recorded."""
        forwards, steps = self._forwards, torch.arange(size, device=self._forwards.device)
        cached, first, last, parents = *inputs.plan[:3], inputs.plan[3:]
        mask, index, columns = sight(cached, parents, cache.capacity)
        places = torch.arange(cache.capacity, device=forwards.device).index_copy(0, columns, index)
        positions = lane.table.index_select(1, index)
        rows = inputs.rows.index_select(0, torch.minimum(steps, last))
        embeddings = forwards.rows.embeddings(rows)[None]
        handed = dict(inputs_embeds=embeddings,
                      attention_mask=self._style.masks(mask, index, 0, None, embeddings, places),
                      position_ids=positions[:, None] if self._style.axes else positions)
        with cache.at(columns):
            said = forwards.said(cache, handed)
        wanted = (first + steps).clamp(max=size - 1)
        return self._judged(said.index_select(0, wanted),
                            {layer: part[0].index_select(0, wanted) for layer, part in forwards.taps.items()})

    def _judged(self, states: torch.Tensor, layers: Mapping[int, torch.Tensor]) -> _Said:
        """Logits for states, in the model's own type unless its config does something to them."""
        adapter = self._forwards.adapter
        logits = self._forwards.head(states)
        if adapter.finishes:
            logits = adapter.finish(logits.float())
        finite = torch.isfinite(logits.sum(-1, dtype=torch.float32))
        return _Said(states, logits, finite, layers, self._ranking(logits, finite) if self._ranks else None)

    def _ranking(self, logits: torch.Tensor, finite: torch.Tensor) -> torch.Tensor:
        """The highest logits (S, V) of each row, once banned ids are at minus infinity, which they then are."""
        return packed(logits.index_fill_(1, self.banned, float('-inf')), finite)

    # -- passes -------------------------------------------------------------------------------------------------------

    def verify(self, cache: SequenceCache, rows: torch.Tensor, tree: TokenTree, committed: Sequence[int],
               scorer: Scorer | None) -> Judged:
        """See `speculation.target.Target.verify`. The host reads once, whatever the way."""
        base, keep, start_ns, before_ms = cache.length, len(tree) + 1, perf_counter_ns(), self._forwards.spent_ms
        size = SIZES[min(bisect_left(SIZES, len(rows)), len(SIZES) - 1)]
        free = self._free(cache, len(rows), size)
        self.counts[free or 'filled'] += 1
        if free:
            self._tell(free, _WHY.get(free, ''))
            states = self._forwards.states(cache, rows, tree)
            said = self._judged(states, dict(self._forwards.taps))
        else:
            said = self._filled(cache, rows, tree, size)
        logits, ranking = said.logits[:keep], said.ranking
        if ranking is None:
            logits = scorer(logits.float(), cache.layout.ids, committed, tree)
            ranking = self._ranking(logits, said.finite[:keep])
        best, finite = unpacked(self._read(ranking[:keep]))
        self._forwards.spent_ms = before_ms + (perf_counter_ns() - start_ns) / 1e6    # with the wait for the device
        if not finite:
            cache.truncate(base)
            cache.clear()
            raise CrossSpecError(NOT_FINITE)
        return Judged(logits, said.states[:keep], {layer: part[:keep] for layer, part in said.layers.items()}, best)

    def _free(self, cache: SequenceCache, count: int, size: int) -> str:
        """Why a forward of so many new tokens must go free; '' where it need not."""
        layout = cache.layout
        if count > size:
            return 'free_long'
        if not self._forwards.rows.plain and cache.length < layout.length - len(layout.tail):
            return 'free_pictures'
        return 'free_room' if cache.length + size > cache.capacity else ''

    def _filled(self, cache: SequenceCache, rows: torch.Tensor, tree: TokenTree, size: int) -> _Said:
        """The step of one size over (T, W) rows."""
        count, lane, inputs = len(rows), cache.private, self._buffers(size)
        last = count - len(tree) - 1                                    # the row before the tree
        parents = [*range(PREFIX, last), *(last + 1 + parent if parent != PREFIX else last for parent in tree.parents)]
        plan = [cache.length, last, count - 1, *parents, *parents[-1:] * (size - count)]
        inputs.plan.copy_(sent(plan, inputs.plan.device), non_blocking=True)
        inputs.rows[:count].copy_(rows)
        step = lane.steps.get(size) if lane.epoch == self._epoch else None
        said = step() if step else self._step(cache, lane, inputs, size)
        self.counts['replayed'] += bool(step and self._recorder is not again)
        cache.grew(count)
        return said

    def _tell(self, what: str, words: str) -> None:
        """Say something once."""
        if words and what not in self._told:
            self._told.add(what)
            _log.warning('%s', words)
