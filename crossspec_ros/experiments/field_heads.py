"""Heads of the field that no vehicle drives with: what they give is told by an experiment.

Hydra (2402.05109): Medusa's heads, each of which knows the words that were drafted before its own. Letters: B answers,
T tokens of one, D width, V words, n paths of a draft.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossspec_ros.models.heads.config import HeadConfig
from crossspec_ros.models.heads.network import Said, StateHead
from crossspec_ros.speculation.sources.heads import HeadDraft

_BEAM = 4                        # nodes of a level that go on


@dataclass(frozen=True, eq=False)
class _Context:
    """The last state of the answer and its last word, (D,) each."""

    state: Tensor
    word: Tensor


class HydraHead(StateHead):
    """``config`` is that of a Medusa head. Head k, counted from 0, reads the last state, the last word and the k words
    drafted after it."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        self.name = 'hydra'
        self.blocks = nn.ModuleList(nn.Linear((2 + ahead) * config.dim, config.dim) for ahead in range(config.depth))
        for block in self.blocks:                      # each begins as the verifier's own next word
            nn.init.zeros_(block.weight)
            nn.init.zeros_(block.bias)

    def _ahead(self, states: Tensor, words: Sequence[Tensor]) -> Tensor:
        """The state from which the word after ``words`` (..., D) is said, of the last ones (..., D)."""
        return states + F.silu(self.blocks[len(words) - 1](torch.cat((states, *words), -1)))

    def forward(self, states: Tensor, token_ids: Tensor, rows: Tensor) -> list[Said]:
        """The words before a row's are the true ones; beyond the end nothing is learnt, so any word will do."""
        every, words = torch.arange(token_ids.shape[1], device=states.device), self.words.embed(token_ids)
        return [Said(self.logits(self._ahead(states[:, :, 0], [words.roll(-place, 1) for place in range(ahead)])),
                     every, ahead) for ahead in range(1, self.config.depth + 1)]

    def read(self, context: _Context | None, states: Tensor, token_ids: Sequence[int]) -> _Context:
        """The last state and word."""
        last = torch.tensor(token_ids[-1], device=self.kept.device)
        return _Context(states[-1, 0].to(self.words.out.dtype), self.words.embed(last))

    def draft(self, context: _Context, depth: int, least: float) -> HeadDraft:
        """Level by level, as long as the paths that go on promise ``least`` tokens together."""
        tokens: list[int] = []
        parents: list[int] = []
        probs: list[float] = []
        level, words, forwards = [(-1, 1.0)], [context.word[None]], 0                    # (node, survival) of the paths
        while forwards < min(depth, self.config.depth) and sum(survival for _, survival in level) >= least:
            states = context.state.expand(len(level), -1)
            ids, likely = self.likeliest(self.logits(self._ahead(states, words)))
            forwards += 1
            found: list[tuple[int, float, int]] = []                                     # node, survival, its path
            for path, (node, survival) in enumerate(level):
                for token, prob in zip(ids[path], likely[path]):
                    found.append((len(tokens), survival * prob, path))
                    tokens.append(token)
                    parents.append(node)
                    probs.append(prob)
            going = sorted(found, key=lambda one: -one[1])[:_BEAM]
            level = [one[:2] for one in going]
            paths = torch.tensor([one[2] for one in going], device=self.kept.device)
            said = torch.tensor([tokens[one[0]] for one in going], device=self.kept.device)
            words = [*(word[paths] for word in words), self.words.embed(said)]
        return HeadDraft(tokens, parents, probs, forwards)
