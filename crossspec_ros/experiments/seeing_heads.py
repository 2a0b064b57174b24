"""Heads that look at what the verifier has seen: GLIDE, and forms of an EAGLE-1 head with visual tokens.

GLIDE (2402.02082) reads no states: a decoder layer over the answer's words that attends to the keys and values of the
verifier's last layer, as far as they are there when it drafts. The forms: pooled visual vectors among the keys of the
head and one added to its input (ViSpec 2509.15235), the newest frame's visual tokens among the keys by a projection of
their own (MSD 2505.14260), attention to them of its own (DREAM 2505.19201). Letters as in `models.heads.network` and
`experiments.scenes`; n vectors, N scenes.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossspec_ros.experiments.scenes import Scene
from crossspec_ros.models.heads.config import HeadConfig
from crossspec_ros.models.heads.eagle import EagleContext, EagleHead
from crossspec_ros.models.heads.network import EPS, HeadLayer, Said
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.sources.heads import HeadDraft, HeadSource
from crossspec_ros.speculation.worth import Worth
from crossspec_ros.train.head_stage import HeadStage
from crossspec_ros.train.states import Stated

VECTORS, PROJECTED, CROSSED = 'vectors', 'projected', 'crossed'


class BesideLayer(HeadLayer):
    """A layer whose rows attend to what was seen, (B, H, L, W), beside its own keys."""

    seen: tuple[Tensor, Tensor]

    def mix(self, rows: Tensor, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """As of any layer; all rows see all that was seen."""
        keys, values = (torch.cat(pair, 2) for pair in zip(self.seen, (keys, values)))
        mask = torch.cat((mask.new_ones(len(mask), self.seen[0].shape[2]), mask), 1)
        return super().mix(rows, query, keys, values, mask)


class CrossLayer(HeadLayer):
    """A layer with attention to what was seen, (B, H, L, W), between its own attention and its MLP. ``visible`` (T, L)
    says which row sees what; None: all see all."""

    seen: tuple[Tensor, Tensor]
    visible: Tensor | None = None

    def __init__(self, config: HeadConfig, width: int = 0) -> None:
        """``width`` of the heads of what was seen, by default the head's own."""
        super().__init__(config)
        self._width = width or self.width
        self.norm_ask = nn.RMSNorm(config.dim, eps=EPS)
        self.ask, self.told = (nn.Linear(config.dim, config.dim, bias=False) for _ in range(2))
        nn.init.zeros_(self.told.weight)               # it begins as a layer without

    def mix(self, rows: Tensor, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        rows = self.attend(rows, query, keys, values, mask)
        asking = self.ask(self.norm_ask(rows)).unflatten(-1, (-1, self._width)).transpose(1, 2)
        seen = F.scaled_dot_product_attention(asking, *self.seen, attn_mask=self.visible, enable_gqa=True)
        return self.feed(rows + self.told(seen.transpose(1, 2).flatten(2)))


class SeeingHead(EagleHead):
    """A head that is shown scenes: those of a batch in training, or the one of the window that it drafts for."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        self.scenes: Sequence[Scene] = ()

    def look_at(self, scenes: Sequence[Scene]) -> None:
        """From now on what it says is about these."""
        self.scenes = scenes


class GlideHead(SeeingHead):
    """``config`` is that of an EAGLE-1 head. In training the answer's last keys are hidden as they are when it drafts:
    rows go in blocks of ``depth``, of which none sees keys from its block's first row on."""

    def __init__(self, config: HeadConfig, width: int) -> None:
        super().__init__(config)
        self.name = 'glide'
        self.layer, self.norm_out = CrossLayer(config, width), nn.RMSNorm(config.dim, eps=EPS)
        del self.join

    def _rows(self, features: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        return words, self.norm_in(words)

    def said(self, features: Tensor) -> Tensor:
        """Logits (..., V) of what the head made."""
        return self.logits(self.norm_out(features))

    def forward(self, states: Tensor, token_ids: Tensor, rows: Tensor) -> list[Said]:
        """The next word of every row; states are not looked at."""
        prompt, length = self.scenes[0].prompt, token_ids.shape[1]
        longest = max(scene.keys.shape[1] for scene in self.scenes)
        self.layer.seen = tuple(torch.stack([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])
                                .to(states) for parts in zip(*((scene.keys, scene.values) for scene in self.scenes)))
        block = torch.arange(length, device=states.device) // self.config.depth * self.config.depth
        self.layer.visible = torch.arange(longest, device=states.device)[None] < prompt + block[:, None]
        return [replace(said, states=None) for said in super().forward(states, token_ids, rows)]

    def read(self, context: EagleContext | None, states: Tensor, token_ids: Sequence[int]) -> EagleContext:
        """Keys and values of the new words; of the verifier's, those of all words but the last are there."""
        self._see(len(token_ids) + (0 if context is None else context.keys.shape[2]))
        return super().read(context, states, token_ids)

    def draft(self, context: EagleContext, depth: int, least: float) -> HeadDraft:
        self._see(context.keys.shape[2])
        return super().draft(context, depth, least)

    def _see(self, committed: int) -> None:
        scene, kind = self.scenes[0], self.words.out
        there = scene.prompt + committed - 1
        self.layer.seen = scene.keys[None, :, :there].to(kind), scene.values[None, :, :there].to(kind)
        self.layer.visible = None


class EyedHead(SeeingHead):
    """An EAGLE-1 head in one of the forms; ``vectors`` are pooled of all visual tokens."""

    def __init__(self, config: HeadConfig, form: str, vectors: int = 0) -> None:
        super().__init__(config)
        self.name, self._form = f'{form}{vectors or ""}', form
        self.layer = CrossLayer(config) if form == CROSSED else BesideLayer(config)
        self.shown = nn.Linear(config.dim, 2 * config.dim, bias=False)
        if form == VECTORS:
            self.asking = nn.Parameter(0.02 * torch.randn(vectors, config.dim))
            self.whole = nn.Linear(config.dim, config.dim, bias=False)
            nn.init.zeros_(self.whole.weight)
        self._mean: Tensor | None = None                                                          # (N, 1, D)

    def forward(self, states: Tensor, token_ids: Tensor, rows: Tensor) -> list[Said]:
        self._see()
        return super().forward(states, token_ids, rows)

    def read(self, context: EagleContext | None, states: Tensor, token_ids: Sequence[int]) -> EagleContext:
        self._see()
        return super().read(context, states, token_ids)

    def _see(self) -> None:
        """Keys and values of what is shown of the scenes."""
        visual = torch.stack([scene.visual if self._form == VECTORS else scene.visual[-scene.newest:]
                              for scene in self.scenes]).to(self.words.out)                       # (N, S, D)
        visual = F.rms_norm(visual, visual.shape[-1:], eps=EPS)
        if self._form == VECTORS:
            self._mean = visual.mean(1, keepdim=True)
            weights = (self.asking @ visual.mT / visual.shape[-1] ** 0.5).softmax(-1)             # (N, n, S)
            visual = weights @ visual
        split = self.shown(visual).unflatten(-1, (2, self.layer.count, self.layer.width))
        self.layer.seen = tuple(split.permute(2, 0, 3, 1, 4))

    def _rows(self, features: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        rows, attending = super()._rows(features, words)
        if self._form != VECTORS:
            return rows, attending
        whole = self.whole(self._mean)
        rows = rows + (whole if rows.ndim == 3 else whole[0])
        return rows, self.norm_in(rows)


@dataclass(frozen=True)
class SceneStated(Stated):
    """An answer with what was seen."""

    scene: Scene


class SceneStage(HeadStage):
    """Shows the head the scenes of each batch."""

    def _chosen(self, answers: Sequence[SceneStated]) -> None:
        self.module.look_at([answer.scene for answer in answers])


class SceneSource(HeadSource):
    """Drafts of a head that looks at the window's scene."""

    def __init__(self, head: SeeingHead, scenes: Mapping[int, Scene], vocab_size: int, worth: Worth) -> None:
        super().__init__(head, vocab_size, worth=worth)
        self._scenes = scenes

    def begin(self, opening: Opening) -> None:
        """Look at the scene of the window."""
        self._head.look_at([self._scenes[opening.window_id]] if opening.window_id in self._scenes else [])
        super().begin(opening)
