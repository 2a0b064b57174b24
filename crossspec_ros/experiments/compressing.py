"""A drafter that looks through the verifier's eyes, with a compressor between the visual tokens and its decoder.

The primitives of SpecVLM's elastic compressor (2509.11815): prune, pool, convolve, resample, and a gate that mixes
them; pruning by the verifier's own attention as in SpecVLM for video (2508.16201). Letters: B batch, S visual tokens of
all frames, K of them kept, D width of the verifier's rows, d of the drafter's.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import EventDrafter

NONE, PRUNE, ATTENDED, POOL, CONVOLVE, RESAMPLE, GATE = (
    'none', 'prune by novelty', 'prune by attention', 'pool', 'convolve', 'resample', 'gate')
COMPRESSORS = (PRUNE, ATTENDED, POOL, CONVOLVE, RESAMPLE, GATE)
_MIXED = (PRUNE, POOL, CONVOLVE, RESAMPLE)
_TIE = 1e-6


@dataclass(frozen=True)
class Shapes:
    """``visual`` tokens S of width ``wide`` = D come in, ``newest`` of them of the newest frame; ``kept`` = K of width
    ``dim`` = d go on. Raises CrossSpecError where more would be kept than there are."""

    visual: int
    newest: int
    wide: int
    dim: int
    kept: int

    def __post_init__(self) -> None:
        if not 1 <= self.kept <= self.visual:
            raise CrossSpecError(f'kept must be 1 to the {self.visual} visual tokens of a window, got {self.kept}')


@dataclass(frozen=True, eq=False)
class Sight:
    """Of a batch: ``tokens`` (B, S, d) as the drafter would take them, the verifier's ``rows`` (B, S, D), how much its
    question attends to each, ``attention`` (B, S), and the question as the drafter reads it, ``asked`` (B, d)."""

    tokens: Tensor
    rows: Tensor
    attention: Tensor
    asked: Tensor


def novelty(rows: Tensor, newest: int) -> Tensor:
    """(B, S): how little a token is like the same place of the frame before. Of equals the newest are the highest; the
    oldest frame, of which nothing is before, has none."""
    frames = rows.unflatten(1, (-1, newest))                                                     # (B, frames, S', D)
    new = 1.0 - F.cosine_similarity(frames[:, 1:], frames[:, :-1], dim=-1)
    return torch.cat((torch.zeros_like(frames[:, :1, :, 0]), new), 1).flatten(1) \
        + _TIE * torch.arange(rows.shape[1]) / rows.shape[1]


class _Whole(nn.Module):
    """All tokens."""

    def forward(self, sight: Sight) -> Tensor:
        return sight.tokens


class _Prune(nn.Module):
    """The K tokens of the highest score, in their order."""

    def __init__(self, shapes: Shapes, by_attention: bool) -> None:
        super().__init__()
        self._shapes, self._by_attention = shapes, by_attention

    def forward(self, sight: Sight) -> Tensor:
        scores = sight.attention if self._by_attention else novelty(sight.rows, self._shapes.newest)
        places = scores.topk(self._shapes.kept, -1).indices.sort(-1).values                                # (B, K)
        return sight.tokens.gather(1, places[..., None].expand(-1, -1, self._shapes.dim))


class _Pool(nn.Module):
    """Means of K stretches of equal length, row by row and frame by frame."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self._kept = shapes.kept

    def forward(self, sight: Sight) -> Tensor:
        return F.adaptive_avg_pool1d(sight.tokens.mT, self._kept).mT


class _Convolve(nn.Module):
    """A strided depthwise convolution along the tokens, and a mix of channels; it begins as a mean."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        stride = shapes.visual // shapes.kept
        width = shapes.visual - stride * (shapes.kept - 1)                            # so that exactly K come out
        self.deep = nn.Conv1d(shapes.dim, shapes.dim, width, stride, groups=shapes.dim)
        self.wide = nn.Linear(shapes.dim, shapes.dim)
        nn.init.constant_(self.deep.weight, 1.0 / width)

    def forward(self, sight: Sight) -> Tensor:
        deep = self.deep(sight.tokens.mT).mT
        return deep + self.wide(F.gelu(deep))


class _Resample(nn.Module):
    """K learned queries that attend to the tokens."""

    def __init__(self, shapes: Shapes, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(shapes.kept, shapes.dim))
        self.seen = nn.Linear(shapes.dim, 2 * shapes.dim, bias=False)
        self.out = nn.Linear(shapes.dim, shapes.dim, bias=False)
        self._heads = heads

    def forward(self, sight: Sight) -> Tensor:
        tokens, heads = sight.tokens, (self._heads, -1)
        keys, values = (part.unflatten(-1, heads).transpose(1, 2) for part in self.seen(tokens).chunk(2, -1))
        asking = self.queries.expand(len(tokens), -1, -1).unflatten(-1, heads).transpose(1, 2)
        return self.out(F.scaled_dot_product_attention(asking, keys, values).transpose(1, 2).flatten(2))


class Gate(nn.Module):
    """The four primitives, mixed by weights that a window's mean token and the question give; it begins even."""

    def __init__(self, shapes: Shapes, heads: int) -> None:
        super().__init__()
        self.forms = nn.ModuleList(compressor(form, shapes, heads) for form in _MIXED)
        self.weigh = nn.Linear(2 * shapes.dim, len(_MIXED))
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    def weights(self, sight: Sight) -> Tensor:
        """(B, 4), of prune, pool, convolve, resample; they add up to one."""
        return self.weigh(torch.cat((sight.tokens.mean(1), sight.asked), -1)).softmax(-1)

    def forward(self, sight: Sight) -> Tensor:
        """(B, K, d)."""
        made = torch.stack([form(sight) for form in self.forms], 1)                                      # (B, 4, K, d)
        return (self.weights(sight)[..., None, None] * made).sum(1)


def compressor(form: str, shapes: Shapes, heads: int) -> nn.Module:
    """From a `Sight` to (B, K, d); `NONE` leaves (B, S, d)."""
    if form == NONE:
        return _Whole()
    if form in (PRUNE, ATTENDED):
        return _Prune(shapes, form == ATTENDED)
    plain = {POOL: _Pool, CONVOLVE: _Convolve}
    return plain[form](shapes) if form in plain else {RESAMPLE: _Resample, GATE: Gate}[form](shapes, heads)


class SceneEncoder(nn.Module):
    """The verifier's visual rows, with a last column of attention, (B, S, D + 1) -> visual tokens (B, K or S, d)."""

    def __init__(self, form: str, shapes: Shapes, heads: int, words: int, question: Sequence[int]) -> None:
        """``question``: rows of the drafter's ``words``, read as a bag."""
        super().__init__()
        self.project = nn.Linear(shapes.wide, shapes.dim)
        self.place = nn.Parameter(torch.zeros(shapes.visual, shapes.dim))
        self.asked = nn.EmbeddingBag(words, shapes.dim)
        self.compressor = compressor(form, shapes, heads)
        self.register_buffer('question', torch.tensor([list(question)]), persistent=False)

    def sight(self, look: Tensor) -> Sight:
        """What the compressor is shown."""
        rows, attention = look[..., :-1], look[..., -1]
        tokens = self.project(F.rms_norm(rows, rows.shape[-1:])) + self.place
        return Sight(tokens, rows, attention, self.asked(self.question).expand(len(look), -1))

    def forward(self, look: Tensor) -> Tensor:
        return self.compressor(self.sight(look))


class SceneDrafter(EventDrafter):
    """A drafter of the event drafter's size whose look (S, D + 1) is what the verifier sees, knowing nothing yet."""

    def __init__(self, like: EventDrafter, form: str, shapes: Shapes, prompt: str, seed: int) -> None:
        self._longest = like.config.max_question_tokens
        self._look = shapes.visual, shapes.wide + 1
        roomy = replace(like.config, max_question_tokens=self._longest + shapes.visual)          # places for all
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(roomy, like.tokenizer)
            question = self.rows_of(self.question_ids(prompt))
            self.encoder = SceneEncoder(form, shapes, roomy.heads, roomy.rows, question)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the look that ``draft`` takes."""
        return self._look

    def question_ids(self, prompt: str) -> list[int]:
        """As the event drafter's."""
        return super().question_ids(prompt)[-self._longest:]
