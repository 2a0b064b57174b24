"""What all heads share: the verifier's own words, a decoder layer, rotary positions.

Letters: B answers, T tokens of one, K states of a token, D width, H attention heads, W their width, L keys, V words.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossspec_ros.models.heads.config import HeadConfig
from crossspec_ros.speculation.sources.heads import HeadDraft

EPS = 1e-6
WIDTH = 4                        # likeliest words that are looked at after each node of a draft


@dataclass(frozen=True, eq=False)
class Words:
    """The verifier's own words: its embeddings, and the rows of its output matrix for those that a head may say."""

    embedding: nn.Module
    out: Tensor                  # (V, D)
    bias: Tensor | None          # (V,)

    def embed(self, token_ids: Tensor) -> Tensor:
        """(..., ) ids of the verifier -> (..., D), in the head's type."""
        return self.embedding(token_ids).to(self.out.dtype)


@dataclass(frozen=True, eq=False)
class Said:
    """What a head says of the tokens ``ahead`` places after rows ``rows`` (R,): ``logits`` (B, R, V), and the states
    (B, R, D) that it predicts, if it does."""

    logits: Tensor
    rows: Tensor
    ahead: int
    states: Tensor | None = None


class StateHead(nn.Module, ABC):
    """A head bound to its verifier. ``forward`` is for training, `read` and `draft` for driving."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config, self.name, self.layers = config, config.kind, config.layers
        self.register_buffer('kept', torch.zeros(config.words, dtype=torch.long))      # ids that it may say
        self._words: tuple[Words, ...] = ()            # in a tuple: the verifier's weights are not the head's

    @property
    def words(self) -> Words:
        """The verifier's words."""
        assert self._words, 'a head must be bound to its verifier before it is used'
        return self._words[0]

    def bind(self, words: Words) -> None:
        """Use these words from now on."""
        self._words = (words,)

    def logits(self, states: Tensor) -> Tensor:
        """(..., D), as behind the verifier's last norm -> (..., V)."""
        return F.linear(states, self.words.out, self.words.bias)

    def likeliest(self, logits: Tensor) -> tuple[list[list[int]], list[list[float]]]:
        """Ids and probabilities of the best words of each row of (n, V), best first."""
        probs, places = torch.softmax(logits.float(), -1).topk(min(WIDTH, logits.shape[-1]), -1)
        return self.kept[places].tolist(), probs.tolist()

    @abstractmethod
    def forward(self, states: Tensor, token_ids: Tensor, rows: Tensor) -> list[Said]:
        """What is said of answers, a place ahead each: ``states`` (B, T, K, D), ``token_ids`` (B, T). ``rows`` (R,) are
        those of the T rows that a head need only go on from, where it need not go on from all of them."""

    @abstractmethod
    def read(self, context: Any, states: Tensor, token_ids: Sequence[int]) -> Any:
        """See `speculation.sources.heads.Head.read`."""

    @abstractmethod
    def draft(self, context: Any, depth: int, least: float) -> HeadDraft:
        """See `speculation.sources.heads.Head.draft`."""


def evened(states: Tensor) -> Tensor:
    """States of different layers (..., K, D) on one scale, side by side: (..., K * D)."""
    return F.rms_norm(states, states.shape[-1:], eps=EPS).flatten(-2)


def rotation(positions: Tensor, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines (T, W) of rotary positions (2104.09864)."""
    half = width // 2
    angle = positions[:, None].float() / 10_000 ** (torch.arange(half, device=positions.device) / half)
    cosine, sine = angle.cos().to(like.dtype), angle.sin().to(like.dtype)
    return torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)


def rotated(states: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """(..., T, W) turned by their positions."""
    return states * turn[0] + states.roll(states.shape[-1] // 2, -1) * turn[1]


class HeadLayer(nn.Module):
    """A decoder layer of Llama's kind over rows of ``dim_in``; what attends and what is attended to may differ."""

    def __init__(self, config: HeadConfig, dim_in: int | None = None) -> None:
        super().__init__()
        dim, dim_in = config.dim, dim_in or config.dim
        self.count, self.width = config.attention_heads, dim // config.attention_heads
        self.norm = nn.RMSNorm(dim, eps=EPS)
        self.qkv = nn.Linear(dim_in, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.gate_up = nn.Linear(dim, 2 * config.mlp_dim, bias=False)
        self.down = nn.Linear(config.mlp_dim, dim, bias=False)

    def project(self, rows: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, W) of (B, T, dim_in), turned by their positions."""
        query, key, value = self.qkv(rows).unflatten(-1, (3, self.count, self.width)).permute(2, 0, 3, 1, 4)
        return rotated(query, turn), rotated(key, turn), value

    def mix(self, rows: Tensor, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Rows (B, T, D) after attention over keys (B, H, L, W) where ``mask`` (T, L) says so, and after the MLP."""
        return self.feed(self.attend(rows, query, keys, values, mask))

    def attend(self, rows: Tensor, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Rows after attention."""
        attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return rows + self.out(attended.transpose(1, 2).flatten(2))

    def feed(self, rows: Tensor) -> Tensor:
        """Rows after the MLP."""
        gate, up = self.gate_up(self.norm(rows)).chunk(2, -1)
        return rows + self.down(F.silu(gate) * up)
