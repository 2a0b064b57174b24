"""The event drafter: a voxel grid of a window's events in, the words the verifier is likely to say out.

A small CNN turns the grid into a few visual tokens; a two-layer decoder of Llama's kind (RMSNorm, rotary positions,
SwiGLU) continues them with the question and the caption. Written by hand in plain torch, since at this size the cost
of a token is the number of Python calls, not of multiplications; ``transformers`` is not needed to draft.

Letters: B batch, C bins, H, W height and width of the grid, S visual tokens, T tokens, D width, V rows of words.
"""
from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.builtin import model_path
from crossspec_ros.models.devices import find_device
from crossspec_ros.models.draft_tree import Branch, cut, joined, more_pays, open_branches
from crossspec_ros.models.tokenizer import load_tokenizer, question_of, tokenizer_key
from crossspec_ros.speculation.drafter import VoxelGrid
from crossspec_ros.tracing.tracer import TRACER

CONFIG_FILE, WEIGHTS_FILE = 'config.json', 'model.safetensors'
FORMAT = 2                  # of a drafter's folder; 2: words may be a part of the verifier's, and the verifier is named
ESCAPE = 0                  # row of a drafter with a part of the words: "a word that I have not"
_WEIGHT_SCALE = 1000
_LOG = logging.getLogger(__name__)
_Past = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, (B, heads, length, D / heads)."""


@dataclass(frozen=True)
class DrafterConfig:
    """Shapes of a drafter, as its ``config.json`` says them.

    Drafted ids are below ``vocab_size``. Where ``kept_ids`` (rising) names those that occur, only they have a row in
    the network, after the row of the escape. ``verifier_key`` is the key of the checkpoint it learned from
    (`models.keys`; empty: not said), ``verifier`` that checkpoint's name for people.
    """

    vocab_size: int
    tokenizer_key: str
    eos_token_id: int
    bins: int = 5
    height: int = 96
    width: int = 96
    channels: tuple[int, ...] = (24, 48, 96, 128)
    dim: int = 128
    layers: int = 2
    heads: int = 4
    mlp_dim: int = 344
    max_question_tokens: int = 24
    max_caption_tokens: int = 96
    model_type: str = 'crossspec_event_drafter'
    kept_ids: tuple[int, ...] = ()
    verifier_key: str = ''
    verifier: str = ''
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """Rows of the network's table of words, V below."""
        return len(self.kept_ids) + 1 if self.kept_ids else self.vocab_size

    @property
    def shape(self) -> tuple[int, int, int]:
        """(bins, height, width) of the voxel grid it takes."""
        return self.bins, self.height, self.width


@dataclass(frozen=True)
class DraftTokens:
    """A draft: ``token_ids`` in an order where parents come first.

    ``parents[i]`` is the index of the node before (-1: the prefix); empty means a chain. ``weights`` are the model's
    probabilities of the nodes in thousandths, at least 1; siblings may be compared by them. ``text`` is the most likely
    chain with the prefix before it, ``complete`` whether that chain ends the caption.
    """

    token_ids: tuple[int, ...]
    weights: tuple[int, ...]
    parents: tuple[int, ...]
    text: str
    compute_ms: float
    complete: bool = True


class _Residual(nn.Module):
    """Two 3x3 convolutions around a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.gelu(self.conv1(self.norm(x))))


class EventEncoder(nn.Module):
    """Voxel grid (B, C, H, W) -> visual tokens (B, S, D), S = H/16 * W/16."""

    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = config.bins
        for index, after in enumerate(config.channels):
            kernel = 5 if index == 0 else 3
            layers += [nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2), nn.GroupNorm(8, after),
                       nn.GELU()]
            if index >= 2:
                layers.append(_Residual(after))
            before = after
        self.stages = nn.Sequential(*layers)
        cells = (config.height >> len(config.channels)) * (config.width >> len(config.channels))
        self.project = nn.Linear(before, config.dim)
        self.place = nn.Parameter(torch.zeros(cells, config.dim))

    def forward(self, voxel: Tensor) -> Tensor:
        squeezed = torch.sign(voxel) * torch.log1p(voxel.abs())       # counts span decades; their order is what tells
        cells = self.stages(squeezed).flatten(2).transpose(1, 2)      # (B, S, channels)
        return self.project(cells) + self.place


class _Layer(nn.Module):
    """One decoder layer; keys and values of the past come in as tensors and go out extended."""

    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        dim, self.heads = config.dim, config.heads
        self.norm1, self.norm2 = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.gate_up = nn.Linear(dim, 2 * config.mlp_dim, bias=False)
        self.down = nn.Linear(config.mlp_dim, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: tuple[Tensor, Tensor] | None,
                mask: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        left, right = qkv[:2].chunk(2, -1)
        rotated = qkv[:2] * cos + torch.cat((-right, left), -1) * sin
        query, key, value = rotated[0], rotated[1], qkv[2]
        if past is not None:
            key, value = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        causal = past is None                # one token after a cache sees all of it
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up), (key, value)


class EventDrafter(nn.Module):
    """An event drafter with its tokenizer. ``draft`` is what nodes call; ``forward`` is for training."""

    branches = True              # `draft` takes ``alternatives``

    def __init__(self, config: DrafterConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.encoder = EventEncoder(config)
        self.embed = nn.Embedding(config.rows, config.dim)
        self._row_of = {token: row for row, token in enumerate(config.kept_ids, start=1)}
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)
        nn.init.normal_(self.embed.weight, std=0.05)
        cells = self.encoder.place.shape[0]
        length = cells + config.max_question_tokens + config.max_caption_tokens + 8
        half = config.dim // config.heads // 2
        angle = torch.arange(length)[:, None] / 10_000 ** (torch.arange(half) / half)
        self.register_buffer('cos', torch.cat((angle.cos(), angle.cos()), -1), persistent=False)
        self.register_buffer('sin', torch.cat((angle.sin(), angle.sin()), -1), persistent=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(bins, height, width) of the voxel grid that ``draft`` takes."""
        return self.config.shape

    @property
    def view(self) -> VoxelGrid:
        """What ``draft`` is given of the events."""
        return VoxelGrid(*self.shape)

    @property
    def tokenizer_key(self) -> str:
        """Fingerprint of the vocabulary of the drafted ids."""
        return self.config.tokenizer_key

    @property
    def verifier_key(self) -> str:
        """Key of the verifier's checkpoint that it learned from; empty: not said."""
        return self.config.verifier_key

    def rows_of(self, token_ids: Sequence[int]) -> list[int]:
        """Rows of tokens; the escape's for those that it does not have."""
        return [self._row_of.get(token, ESCAPE) for token in token_ids] if self._row_of else list(token_ids)

    def _ids_of(self, rows: Sequence[int], probs: Sequence[float]) -> list[tuple[int, int]]:
        """(token id, weight in thousandths) of the likeliest rows; ends at the escape where that is the likeliest."""
        kept = self.config.kept_ids
        if kept and rows[0] == ESCAPE:
            return []
        return [(kept[row - 1] if kept else row, max(1, round(prob * _WEIGHT_SCALE)))
                for row, prob in zip(rows, probs, strict=True) if not kept or row != ESCAPE][:2]

    def forward(self, voxel: Tensor, rows: Tensor) -> Tensor:
        """Hidden states (B, T, D) over ``rows`` (B, T) of words after the visual tokens of ``voxel`` (B, C, H, W)."""
        return self.continue_from(self.encoder(voxel), rows)

    def continue_from(self, visual: Tensor, rows: Tensor) -> Tensor:
        """The same after visual tokens (B, S, D) that are already there."""
        hidden, _ = self._run(torch.cat((visual, self.embed(rows)), 1), None)
        return hidden[:, visual.shape[1]:]

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V); the output matrix is the embedding."""
        return hidden @ self.embed.weight.T

    def _run(self, x: Tensor, past: _Past | None, places: Tensor | None = None, mask: Tensor | None = None
             ) -> tuple[Tensor, _Past]:
        """States of ``x`` (B, T, D) after ``past``, and the past with it; ``places`` (B, T), ``mask`` (B, 1, 1, all):
        where the rows of a batch do not stand at the same place or see the same."""
        if places is None:
            start = past[0][0].shape[2] if past else 0
            cos, sin = self.cos[start:start + x.shape[1]], self.sin[start:start + x.shape[1]]
        else:
            cos, sin = self.cos[places][:, None], self.sin[places][:, None]
        grown = []
        for index, layer in enumerate(self.layers):
            x, cache = layer(x, cos, sin, past[index] if past else None, mask)
            grown.append(cache)
        return self.norm(x), grown

    def question_ids(self, prompt: str) -> list[int]:
        """Ids of the question as the model was trained to see it, cut to its limit from the left."""
        text = f'{question_of(prompt)} ASSISTANT:'
        return self.tokenizer.encode(text, add_special_tokens=False).ids[-self.config.max_question_tokens:]

    def _check(self, voxel: np.ndarray, prefix_ids: Sequence[int], max_tokens: int) -> None:
        if tuple(voxel.shape) != self.shape:
            raise CrossSpecError(f'voxel must have the shape {self.shape} of this drafter, got {tuple(voxel.shape)}')
        if not np.isfinite(voxel).all():
            raise CrossSpecError('voxel must be finite, got NaN or infinity')
        if max_tokens < 1:
            raise CrossSpecError(f'max_tokens must be >= 1, got {max_tokens}')
        bad = [token for token in prefix_ids if not 0 <= token < self.config.vocab_size]
        if bad:
            raise CrossSpecError(f'prefix_ids must be 0 to {self.config.vocab_size - 1}, got {bad[0]}: '
                                 f'was the prefix made by another tokenizer?')

    def draft_stream(self, voxel: np.ndarray, *, prompt: str, prefix_ids: Sequence[int] = (), max_tokens: int = 64,
                     should_stop: Callable[[], bool] | None = None) -> Iterator[tuple[int, int, int, int]]:
        """Greedy tokens as they come: (token id, its weight, the runner-up, its weight), weights in thousandths.

        ``voxel`` float32 (C, H, W) is not changed; ``prefix_ids`` is the committed start of the caption that is to be
        continued. Ends after the end token, ``max_tokens``, the longest caption the positions allow, before a word
        that it does not have, or as soon as ``should_stop()`` says so (asked before every token). Raises CrossSpecError
        on a wrong shape or foreign ids.
        """
        for step, _ in self._steps(voxel, prompt, prefix_ids, max_tokens, should_stop):
            yield step

    def _steps(self, voxel: np.ndarray, prompt: str, prefix_ids: Sequence[int], max_tokens: int,
               should_stop: Callable[[], bool] | None) -> Iterator[tuple[tuple[int, int, int, int], _Past]]:
        """The same, each with the keys and values of all before the token."""
        self._check(voxel, prefix_ids, max_tokens)
        room = self.config.max_caption_tokens - len(prefix_ids)
        if room < 1 or (prefix_ids and prefix_ids[-1] == self.config.eos_token_id):
            return
        device = self.embed.weight.device
        grid = torch.tensor(np.asarray(voxel, np.float32), device=device)[None]      # a copy: the grid may be read-only
        rows = torch.tensor([self.rows_of([*self.question_ids(prompt), *prefix_ids])], device=device)
        past, step, ranks = None, 0, min(3 if self._row_of else 2, self.config.rows)
        while step < min(max_tokens, room) and not (should_stop is not None and should_stop()):
            with torch.inference_mode(), TRACER.span('draft forward'):
                inputs = self.embed(rows) if past else torch.cat((self.encoder(grid), self.embed(rows)), 1)
                hidden, past = self._run(inputs, past)
                best, index = torch.topk(torch.softmax(self.logits(hidden[0, -1]), -1), ranks)
                rows = index[None, :1]
            choices = self._ids_of(index.tolist(), best.tolist())
            if not choices:
                return
            first, second = choices[0], choices[-1]
            yield (*first, *second), past
            if first[0] == self.config.eos_token_id:
                return
            step += 1

    def draft(self, voxel: np.ndarray, *, prompt: str, prefix_ids: Sequence[int] = (), max_tokens: int = 64,
              alternatives: int = 0, should_stop: Callable[[], bool] | None = None) -> DraftTokens:
        """The likely caption after ``prefix_ids``; arguments as for ``draft_stream``.

        With ``alternatives`` > 0 the draft is a tree: beside the chain at most so many tokens of branches, each the
        second choice at a place and what follows it, those that are likeliest from the start on (`models.draft_tree`).
        """
        start = time.perf_counter_ns()
        steps: list[tuple[int, int, int, int]] = []
        past: _Past | None = None
        for step, past in self._steps(voxel, prompt, prefix_ids, max_tokens, should_stop):
            steps.append(step)
        longest = min(max_tokens, self.config.max_caption_tokens - len(prefix_ids))
        branches = open_branches(steps, self.config.eos_token_id, longest) if alternatives else []
        if branches:
            self._continue(branches, past, past[0][0].shape[2] - len(steps) + 1, longest, alternatives, should_stop)
        tokens, weights, parents = joined(steps, cut(branches, alternatives))
        text = self.tokenizer.decode([*prefix_ids, *tokens[:len(steps)]], skip_special_tokens=True)
        return DraftTokens(tokens, weights, parents if len(tokens) > len(steps) else (), text,
                           (time.perf_counter_ns() - start) / 1e6,
                           bool(steps) and steps[-1][0] == self.config.eos_token_id)

    def _continue(self, branches: Sequence[Branch], past: _Past, base: int, longest: int, nodes: int,
                  should_stop: Callable[[], bool] | None) -> None:
        """Follow all branches (B), a token of each a forward, until further tokens cannot be among the likeliest.

        ``past`` holds the chain (1, heads, L, D / heads), of which a branch sees what is before its place; ``base`` is
        the number of entries before the chain.
        """
        device = self.embed.weight.device
        places = torch.tensor([[base + branch.place] for branch in branches], device=device)             # (B, 1)
        mask = torch.arange(past[0][0].shape[2], device=device)[None] < places                           # (B, L)
        past = [(key.expand(len(branches), -1, -1, -1), value.expand(len(branches), -1, -1, -1)) for key, value in past]
        while more_pays(branches, nodes) and not (should_stop is not None and should_stop()):
            rows = torch.tensor([self.rows_of(branch.tokens[-1:]) for branch in branches], device=device)
            mask = torch.cat((mask, mask.new_ones(len(branches), 1)), 1)
            with torch.inference_mode(), TRACER.span('draft forward', branches=len(branches)):
                hidden, past = self._run(self.embed(rows), past, places, mask[:, None, None])
                best, index = torch.softmax(self.logits(hidden[:, -1]), -1).max(-1)                       # (B,)
            places = places + 1
            for branch, row, prob in zip(branches, index.tolist(), best.tolist(), strict=True):
                found = self._ids_of([row], [prob])
                branch.add(found[0] if found else None, self.config.eos_token_id, longest)


def _read_config(folder: Path) -> DrafterConfig:
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise CrossSpecError(f'cannot read the drafter\'s {path}: {error}; copy or train the checkpoint '
                             f'again') from error
    known = {item.name for item in fields(DrafterConfig)}
    if not isinstance(values, dict) or values.get('model_type') != DrafterConfig.model_type:
        raise CrossSpecError(f'{path} must say model_type {DrafterConfig.model_type!r}: this is no event drafter')
    form = values.setdefault('format', 1)
    if not isinstance(form, int) or not 1 <= form <= FORMAT:
        raise CrossSpecError(f'format in {path} must be 1 to {FORMAT}, got {form!r}: this drafter is of another '
                             'version of crossspec_ros; use that version, or learn it again with `crossspec learn`')
    try:
        config = DrafterConfig(**{key: value for key, value in values.items() if key in known})
    except TypeError as error:
        raise CrossSpecError(f'{path} lacks a field ({error}): copy or train the checkpoint again') from error
    _check_kept(config, path)
    return DrafterConfig(**{**asdict(config), 'channels': tuple(config.channels), 'kept_ids': tuple(config.kept_ids)})


def _check_kept(config: DrafterConfig, path: Path) -> None:
    """Raises CrossSpecError unless the words that the drafter has are some of its vocabulary's, the end among them."""
    kept = config.kept_ids
    if not isinstance(kept, (list, tuple)) or not all(isinstance(token, int) for token in kept):
        raise CrossSpecError(f'kept_ids in {path} must be a list of token ids: copy or learn the checkpoint again')
    rising = all(before < after for before, after in zip(kept, kept[1:]))
    if kept and not (rising and 0 <= kept[0] and kept[-1] < config.vocab_size and config.eos_token_id in kept):
        raise CrossSpecError(f'kept_ids in {path} must rise from 0 to {config.vocab_size - 1} and hold the end token '
                             f'{config.eos_token_id}: copy or learn the checkpoint again')


def load_drafter(name: str | Path = 'builtin', device: str = 'cpu') -> EventDrafter:
    """The drafter of a checkpoint folder, or the built-in one, ready to draft in float32.

    Raises CrossSpecError where the folder, its weights or its tokenizer are missing, cut, or do not belong together.
    """
    torch_device = find_device(device)
    folder = model_path(name, 'drafter')
    config, tokenizer = _read_config(folder), load_tokenizer(folder)
    if tokenizer_key(tokenizer) != config.tokenizer_key:
        raise CrossSpecError(f'the tokenizer in {folder} has key {tokenizer_key(tokenizer)}, its config.json asks for '
                             f'{config.tokenizer_key}: this tokenizer does not belong to these weights')
    drafter = EventDrafter(config, tokenizer)
    path = folder / WEIGHTS_FILE
    try:
        weights = load_file(path)
        drafter.load_state_dict({key: value.float() for key, value in weights.items()})
    except (OSError, SafetensorError) as error:
        raise CrossSpecError(f'cannot read weights from {path} ({error}): the file is missing or cut, '
                             f'copy or train the checkpoint again') from error
    except RuntimeError as error:
        raise CrossSpecError(f'the weights in {path} do not fit its config.json: {error}') from error
    _LOG.info('event drafter with %d parameters from %s', sum(p.numel() for p in drafter.parameters()), folder)
    return _moved(drafter, torch_device)


def _moved(drafter: EventDrafter, device: torch.device) -> EventDrafter:
    try:
        return drafter.to(device).eval()
    except (RuntimeError, TypeError) as error:                           # no room there, or it has no float32
        raise CrossSpecError(f'the drafter cannot be moved to {device}: {str(error).splitlines()[0]}') from error
