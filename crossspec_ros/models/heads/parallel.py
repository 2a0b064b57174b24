"""Heads that say several tokens in one forward: Medusa, and a block drafter.

Medusa (2401.10774): a residual block for each place ahead, over the last state alone. The block drafter (DFlash's
form): a row for each place ahead; the rows see the states of the whole answer and each other, in both directions, so
that a block of tokens is said at once. Neither knows which of its own words came before: a draft is the tree of the
likeliest products.

Letters as in `network`; S places ahead.
"""
from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossspec_ros.models.heads.config import HeadConfig
from crossspec_ros.models.heads.network import EPS, HeadLayer, Said, StateHead, evened, rotation
from crossspec_ros.speculation.sources.heads import HeadDraft

_MAX_NODES = 48


def product_tree(ids: Sequence[Sequence[int]], probs: Sequence[Sequence[float]], least: float) -> HeadDraft:
    """The nodes of the likeliest paths where each place chooses for itself, while one is as likely as ``least``.

    Where a probability is no number there is only one node, which has none either.
    """
    if any(math.isnan(prob) for place in probs for prob in place):
        return HeadDraft([ids[0][0]], [-1], [math.nan])
    tokens: list[int] = []
    parents: list[int] = []
    said: list[float] = []
    heap = [(-probs[0][0], 0, -1, 0, 1.0)] if ids else []          # (-survival, place, parent, rank, its parent's)
    while heap and len(tokens) < _MAX_NODES:
        negative, place, parent, rank, above = heapq.heappop(heap)
        if -negative < least:
            break
        node = len(tokens)
        tokens.append(ids[place][rank])
        parents.append(parent)
        said.append(probs[place][rank])
        if rank + 1 < len(ids[place]):
            heapq.heappush(heap, (-above * probs[place][rank + 1], place, parent, rank + 1, above))
        if place + 1 < len(ids):
            heapq.heappush(heap, (negative * probs[place + 1][0], place + 1, node, 0, -negative))
    return HeadDraft(tokens, parents, said)


class MedusaHead(StateHead):
    """A residual block a place; the output matrix is the verifier's."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(config.depth))
        for block in self.blocks:                      # each begins as the verifier's own next word
            nn.init.zeros_(block.weight)
            nn.init.zeros_(block.bias)

    def _ahead(self, states: Tensor) -> list[Tensor]:
        return [states + F.silu(block(states)) for block in self.blocks]

    def forward(self, states: Tensor, token_ids: Tensor, rows: Tensor) -> list[Said]:
        every = torch.arange(token_ids.shape[1], device=states.device)
        return [Said(self.logits(one), every, place) for place, one in enumerate(self._ahead(states[:, :, 0]), 1)]

    def read(self, context: Tensor | None, states: Tensor, token_ids: Sequence[int]) -> Tensor:
        """The last state (D,)."""
        return states[-1, 0].to(self.words.out.dtype)

    def draft(self, context: Tensor, depth: int, least: float) -> HeadDraft:
        ids, probs = self.likeliest(self.logits(torch.stack(self._ahead(context)[:depth])))
        return product_tree(ids, probs, least)


@dataclass(frozen=True, eq=False)
class BlockContext:
    """Keys and values (1, H, T, W) of the answer so far, for each layer, and its last word (D,)."""

    past: tuple[tuple[Tensor, Tensor], ...]
    word: Tensor


class BlockHead(StateHead):
    """A block of ``depth`` tokens a forward, through ``blocks`` layers."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        dim = config.dim
        self.fuse = nn.Linear(len(config.layers) * dim, dim, bias=False)
        self.norm_word, self.norm_state = nn.RMSNorm(dim, eps=EPS), nn.RMSNorm(dim, eps=EPS)
        self.told = nn.Linear(2 * dim, dim, bias=False)              # a token of the answer with its states
        self.begun = nn.Linear(dim, dim, bias=False)                 # the last word, for every row of the block
        self.rows = nn.Parameter(0.02 * torch.randn(config.depth, dim))
        self.norms = nn.ModuleList(nn.RMSNorm(dim, eps=EPS) for _ in range(config.blocks))
        self.decoder = nn.ModuleList(HeadLayer(config) for _ in range(config.blocks))
        self.norm_out = nn.RMSNorm(dim, eps=EPS)

    def _told(self, states: Tensor, words: Tensor) -> Tensor:
        """What is known of tokens of the answer: (..., T, D)."""
        fused = self.norm_state(self.fuse(evened(states)))
        return self.told(torch.cat((self.norm_word(words), fused), -1))

    def _starts(self, words: Tensor) -> Tensor:
        """Rows of the blocks that follow words (B, T, D): (B, T * S, D)."""
        return (self.begun(self.norm_word(words))[:, :, None] + self.rows).flatten(1, 2)

    def forward(self, states: Tensor, token_ids: Tensor, rows: Tensor) -> list[Said]:
        """A block after each of ``rows``, all at once: its rows see the answer up to there, and each other."""
        ahead = self.config.depth
        words = self.words.embed(token_ids)
        told, inner = self._told(states, words), self._starts(words[:, rows])                 # inner: (B, R * S, D)
        places = torch.arange(token_ids.shape[1], device=states.device)
        block = rows.repeat_interleave(ahead)                                                 # (R * S,)
        stands = block + 1 + torch.arange(ahead, device=states.device).repeat(len(rows))
        mask = torch.cat((places[None] <= block[:, None], block[None] == block[:, None]), 1)
        for norm, layer in zip(self.norms, self.decoder):
            _, keys, values = layer.project(told, rotation(places, layer.width, inner))
            query, own_keys, own_values = layer.project(norm(inner), rotation(stands, layer.width, inner))
            inner = layer.mix(inner, query, torch.cat((keys, own_keys), 2), torch.cat((values, own_values), 2), mask)
        logits = self.logits(self.norm_out(inner)).unflatten(1, (len(rows), ahead))
        return [Said(logits[:, :, place], rows, place + 1) for place in range(ahead)]

    def read(self, context: BlockContext | None, states: Tensor, token_ids: Sequence[int]) -> BlockContext:
        """Keys and values of the new tokens (T, K, D), after those of the answer before them."""
        words = self.words.embed(torch.tensor(token_ids, device=self.kept.device))[None]
        told = self._told(states.to(self.words.out.dtype)[None], words)
        before = 0 if context is None else context.past[0][0].shape[2]
        places = torch.arange(before, before + len(token_ids), device=self.kept.device)
        past = [layer.project(told, rotation(places, layer.width, told))[1:] for layer in self.decoder]
        if context is not None:
            past = [(torch.cat((old[0], new[0]), 2), torch.cat((old[1], new[1]), 2))
                    for old, new in zip(context.past, past)]
        return BlockContext(tuple(past), words[0, -1])

    def draft(self, context: BlockContext, depth: int, least: float) -> HeadDraft:
        rows, known = self._starts(context.word[None, None]), context.past[0][0].shape[2]
        places = torch.arange(known, known + self.config.depth, device=self.kept.device)
        for norm, layer, (keys, values) in zip(self.norms, self.decoder, context.past):
            query, own_keys, own_values = layer.project(norm(rows), rotation(places, layer.width, rows))
            rows = layer.mix(rows, query, torch.cat((keys, own_keys), 2), torch.cat((values, own_values), 2), None)
        ids, probs = self.likeliest(self.logits(self.norm_out(rows[0, :depth])))
        return product_tree(ids, probs, least)
