"""EAGLE heads: one decoder layer that goes on with the verifier's states, token by token, on its own outputs.

EAGLE-1 (2401.15077) takes the last states after the final norm and predicts the next ones. EAGLE-3 (2503.01840) fuses
states of several layers, predicts no states, only words, and is rolled out in training: from its second step on it
reads what it said itself, as it will when it drafts. Trees as in EAGLE-2 (2406.16858): of each level the likeliest
paths go on. Both pair the states from which a token was said with that token.

Letters as in `network`; S steps rolled out, N nodes of a draft.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crossspec_ros.models.heads.config import HeadConfig
from crossspec_ros.models.heads.network import EPS, HeadLayer, Said, StateHead, evened, rotation
from crossspec_ros.speculation.sources.heads import HeadDraft

_BEAM = 4                        # nodes of a level that go on
_MAX_NODES = 96


@dataclass(frozen=True, eq=False)
class EagleContext:
    """Keys and values (1, H, T, W) of the answer so far, and what was made of its last token: (D,)."""

    keys: Tensor
    values: Tensor
    feature: Tensor


class EagleHead(StateHead):
    """Both kinds; ``config.kind`` says which."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        dim, self._third = config.dim, config.kind == 'eagle3'
        self.layer = HeadLayer(config, 2 * dim if self._third else dim)
        if self._third:
            self.fuse = nn.Linear(len(config.layers) * dim, dim, bias=False)
            self.norm_word, self.norm_state = nn.RMSNorm(dim, eps=EPS), nn.RMSNorm(dim, eps=EPS)
            self.norm_out = nn.RMSNorm(dim, eps=EPS)
        else:
            self.join = nn.Linear(2 * dim, dim, bias=False)
            self.norm_in = nn.RMSNorm(dim, eps=EPS)

    def features(self, states: Tensor) -> Tensor:
        """(..., K, D) of the verifier -> (..., D), in the form in which the head goes on with its own."""
        return self.fuse(evened(states)) if self._third else states[..., 0, :]

    def said(self, features: Tensor) -> Tensor:
        """Logits (..., V) of what the head made."""
        return self.logits(self.norm_out(features) if self._third else features)

    def _rows(self, features: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """What goes through the layer, and what attention is computed of."""
        if self._third:
            return features, torch.cat((self.norm_word(words), self.norm_state(features)), -1)
        joined = self.join(torch.cat((words, features), -1))
        return joined, self.norm_in(joined)

    def forward(self, states: Tensor, token_ids: Tensor, rows: Tensor) -> list[Said]:
        """Rolled out ``depth`` steps (EAGLE-3) or one: step s reads the true tokens up to s after a row's own, and
        features that are true up to the row and its own beyond."""
        length, steps = token_ids.shape[1], self.config.depth if self._third else 1
        features, words = self.features(states), self.words.embed(token_ids)
        places = torch.arange(length, device=states.device)
        own = torch.eye(length, dtype=torch.bool, device=states.device)
        keys, values, masks, out = [], [], [], []
        for step in range(steps):
            # The word of row i in step s is the one at i + s; beyond the end nothing is learnt, so any word will do.
            inputs, attending = self._rows(features, words.roll(-step, 1))
            query, key, value = self.layer.project(attending, rotation(places + step, self.layer.width, inputs))
            keys.append(key)
            values.append(value)
            masks.append(own if step else own.new_ones(own.shape).tril())
            features = self.layer.mix(inputs, query, torch.cat(keys, 2), torch.cat(values, 2), torch.cat(masks, 1))
            out.append(Said(self.said(features), places, step + 1, None if self._third else features))
        return out

    def read(self, context: EagleContext | None, states: Tensor, token_ids: Sequence[int]) -> EagleContext:
        """Keys and values of the new tokens (T, K, D), after those of the answer before them."""
        before = 0 if context is None else context.keys.shape[2]
        count = len(token_ids)
        ids = torch.tensor(token_ids, device=self.kept.device)
        rows, attending = self._rows(self.features(states.to(self.words.out.dtype)), self.words.embed(ids))
        places = torch.arange(before, before + count, device=ids.device)
        query, keys, values = self.layer.project(attending[None], rotation(places, self.layer.width, rows))
        if context is not None:
            keys, values = torch.cat((context.keys, keys), 2), torch.cat((context.values, values), 2)
        mask = torch.ones(count, before + count, dtype=torch.bool, device=ids.device).tril(before)
        return EagleContext(keys, values, self.layer.mix(rows[None], query, keys, values, mask)[0, -1])

    def draft(self, context: EagleContext, depth: int, least: float) -> HeadDraft:
        """Level by level, as long as the paths that go on promise ``least`` tokens together."""
        tokens: list[int] = []
        parents: list[int] = []
        probs: list[float] = []
        known, keys, values = context.keys.shape[2], context.keys, context.values
        mask = torch.ones(1, known, dtype=torch.bool, device=self.kept.device)
        features, level, forwards = context.feature[None], [(-1, 1.0, -1)], 1     # (node, survival, its row)
        rows_of: dict[int, int] = {}                                             # node -> its key after the context
        while True:
            ids, likely = self.likeliest(self.said(features))
            found: list[tuple[int, float, int]] = []
            for place, (node, survival, _) in enumerate(level):
                for token, prob in zip(ids[place], likely[place]):
                    found.append((len(tokens), survival * prob, place))
                    tokens.append(token)
                    parents.append(node)
                    probs.append(prob)
            # Of the new nodes the likeliest go on.
            going = sorted(found, key=lambda one: -one[1])[:_BEAM]
            if forwards >= depth or len(tokens) + _BEAM * len(ids[0]) > _MAX_NODES \
                    or not sum(one[1] for one in going) >= least:                 # NaN ends it too
                return HeadDraft(tokens, parents, probs, forwards)
            sources = torch.tensor([one[2] for one in going], device=self.kept.device)
            words = self.words.embed(torch.tensor([tokens[one[0]] for one in going], device=self.kept.device))
            rows, attending = self._rows(features[sources], words)
            place = torch.full((1,), known + forwards - 1, device=self.kept.device)
            query, key, value = self.layer.project(attending[None], rotation(place, self.layer.width, rows))
            keys, values = torch.cat((keys, key), 2), torch.cat((values, value), 2)
            for number, (node, _, _) in enumerate(going):
                rows_of[node] = keys.shape[2] - len(going) + number
            mask = self._mask([one[0] for one in going], parents, rows_of, known, keys.shape[2])
            features = self.layer.mix(rows[None], query, keys, values, mask)[0]
            level, forwards = going, forwards + 1

    def _mask(self, nodes: Sequence[int], parents: Sequence[int], rows_of: dict[int, int], known: int,
              length: int) -> Tensor:
        """Which keys each of these nodes sees, bool (n, L): the answer so far, its ancestors and itself."""
        mask = torch.zeros(len(nodes), length, dtype=torch.bool)
        mask[:, :known] = True
        for row, node in enumerate(nodes):
            while node >= 0:
                mask[row, rows_of[node]] = True
                node = parents[node]
        return mask.to(self.kept.device)
