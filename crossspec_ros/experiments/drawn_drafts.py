"""Captions sampled by the verifier itself from drafts that are drawn from the event drafter's law.

The engine's drafts are certain (greedy, lookups) and its sampling is coupled to a seed; here chains are drawn, their
laws kept, and an exact rule decides. Letters: k chains, T tokens, V vocabulary, S visual tokens, D width.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from crossspec_ros.bench.decode import make_windows
from crossspec_ros.bench.decode_schemes import Window
from crossspec_ros.bench.drafts import Looker
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.sampled_rules import Path, Rule
from crossspec_ros.speculation.acceptance import target_log_probs
from crossspec_ros.speculation.rejection import SeededChance
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.target import Text
from crossspec_ros.speculation.tree import PREFIX, TokenTree


@dataclass(frozen=True)
class Asked:
    """How a caption is sampled: by ``rule`` from ``chains`` chains of ``depth`` tokens."""

    rule: Rule
    chains: int
    depth: int
    temperature: float


@dataclass
class Sampled:
    """A caption with its end token, the passes it took, and the probability of the verifier's likeliest token in each.
    """

    token_ids: list[int] = field(default_factory=list)
    likeliest: list[float] = field(default_factory=list)


def looked_at(lab: Lab, pace: str, drive: int, count: int) -> list[tuple[Window, np.ndarray]]:
    """The first windows of a drive with what the event drafter is shown of each, (C, H, W)."""
    looker = Looker(lab.drafter)
    windows = make_windows(count, lab.settings.seed + drive, 1, lab.settings.prompt, looker, pace)
    return list(zip(windows, looker.seen[1::2], strict=True))


class Sampler:
    """A window's prompt in the verifier's cache, and any number of captions sampled after it."""

    def __init__(self, lab: Lab, window: Window, look: np.ndarray) -> None:
        self._target, self._drafter, self._most = lab.target, lab.drafter, EngineConfig().max_new_tokens
        self._question = self._drafter.question_ids(window.prompt)
        with torch.inference_mode():
            self._visual = self._drafter.encoder(torch.from_numpy(np.asarray(look, np.float32))[None])     # (1, S, D)
        layout = self._target.layout(window.prompt, len(window.frames), *window.frames[0].shape[:2])
        groups = iter(self._target.encode_all(layout, window.frames))
        rows = torch.cat([segment.rows if isinstance(segment, Text) else next(groups) for segment in layout.segments])
        self._last = rows[-1:]
        self._cache = self._target.new_cache(layout, len(rows) + 2 * self._most)
        self._target.extend(self._cache, rows[:-1])

    def close(self) -> None:
        """Hand the cache back."""
        self._target.release(self._cache)

    def caption(self, asked: Asked, seed: int) -> Sampled:
        """One caption; nothing stays of it."""
        draw, told = torch.Generator().manual_seed(seed), Sampled()
        chance, prompt, pending = SeededChance(draw), self._cache.length, self._last
        while len(told.token_ids) < self._most and not set(told.token_ids) & set(self._target.eos_ids):
            depth = min(asked.depth, self._most - len(told.token_ids) - 1)
            chains, laws = self._drawn(told.token_ids, asked, depth, draw)
            emitted, likeliest = self._pass(pending, told.token_ids, chains, laws, asked, chance)
            told.likeliest.append(likeliest)
            for token in emitted:
                told.token_ids.append(token)
                if token in self._target.eos_ids:
                    break
            pending = self._target.embed(emitted[-1:])
        self._cache.truncate(prompt)
        return told

    def _pass(self, pending: torch.Tensor, committed: Sequence[int], chains: Sequence[Path],
              laws: dict[Path, np.ndarray], asked: Asked, chance: SeededChance) -> tuple[Path, float]:
        """One forward of the verifier over all chains: what the rule makes of it, and the likeliest next token's share.
        """
        tokens = [token for chain in chains for token in chain]
        firsts = self._firsts(chains)
        parents = [first + place - 1 if place else PREFIX for first, chain in firsts for place in range(len(chain))]
        rows = torch.cat((pending, self._target.embed(tokens))) if tokens else pending
        base = self._cache.length
        judged = self._target.verify(self._cache, rows, TokenTree(tuple(tokens), tuple(parents)), committed)
        said = target_log_probs(judged.logits, temperature=asked.temperature).exp().cpu().double().numpy()
        said /= said.sum(-1, keepdims=True)
        wanted = {(): said[0]} | {chain[:place + 1]: said[1 + first + place]
                                  for first, chain in firsts for place in range(len(chain))}
        emitted = asked.rule(chains, laws.__getitem__, wanted.__getitem__, chance)
        along = emitted[:-1]
        first = next((first for first, chain in firsts if chain[:len(along)] == along), 0)
        self._cache.keep(base, [0, *(1 + first + place for place in range(len(along)))])
        return emitted, float(said[0].max())

    @staticmethod
    def _firsts(chains: Sequence[Path]) -> list[tuple[int, Path]]:
        """Each chain with the place of its first node among all nodes."""
        firsts, count = [], 0
        for chain in chains:
            firsts.append((count, chain))
            count += len(chain)
        return firsts

    def _drawn(self, committed: Sequence[int], asked: Asked, depth: int, draw: torch.Generator
               ) -> tuple[list[Path], dict[Path, np.ndarray]]:
        """Chains drawn independently, each up to an end token, and the laws that their tokens were drawn from."""
        chains: list[Path] = [()] * asked.chains
        laws: dict[Path, np.ndarray] = {}
        for place in range(depth):
            going = [number for number, chain in enumerate(chains)
                     if len(chain) == place and not set(chain) & set(self._target.eos_ids)]
            if not going:
                break
            new = sorted({chains[number] for number in going})
            laws |= dict(zip(new, self._laws(committed, new, asked.temperature)))
            for number in going:
                law = torch.from_numpy(laws[chains[number]])
                chains[number] = (*chains[number], int(torch.multinomial(law, 1, generator=draw)))
        return chains, laws

    @torch.inference_mode()
    def _laws(self, committed: Sequence[int], paths: Sequence[Path], temperature: float) -> list[np.ndarray]:
        """The drafter's distribution (V,) over the verifier's tokens after each of these paths of one length."""
        rows = torch.tensor([self._drafter.rows_of([*self._question, *committed, *path]) for path in paths])
        hidden = self._drafter.continue_from(self._visual.expand(len(paths), -1, -1), rows)[:, -1]
        probs = torch.softmax(self._drafter.logits(hidden).double() / temperature, -1)                # (k, words)
        kept = self._drafter.config.kept_ids
        laws = torch.zeros(len(paths), self._target.vocab_size, dtype=torch.float64)
        if kept:
            laws[:, list(kept)] = probs[:, 1:]
        else:
            laws[:, :probs.shape[1]] = probs
        return list((laws / laws.sum(-1, keepdim=True)).numpy())
