"""A target driven as an engine does: groups prefilled as they come, the last one verified together with a tree."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.target import FrameGroup, Layout
from crossspec_ros.speculation.tree import PREFIX, TokenTree


def frames_of(seed: int, count: int = 4, height: int = 30, width: int = 40) -> list[np.ndarray]:
    """Frames of noise."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def prompt_rows(target, layout: Layout, frames: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """Rows of each segment, groups encoded one by one where the target says that this is exact."""
    if target.abilities.anticipatory:
        groups = [target.encode(layout, number, frames[group.first:group.first + group.frames])
                  for number, group in enumerate(layout.groups)]
    else:
        groups = target.encode_all(layout, frames)
    numbers = {id(group): number for number, group in enumerate(layout.groups)}
    return [groups[numbers[id(part)]] if isinstance(part, FrameGroup) else part.rows for part in layout.segments]


def bushy(right: Sequence[int], seed: int, vocab: int) -> TokenTree:
    """The right tokens as a chain, with a wrong sibling and a wrong child of that at every step."""
    generator = np.random.default_rng(seed)
    tokens, parents, last = [], [], PREFIX
    for token in right:
        wrong = [int(one) for one in generator.integers(6, vocab, 8) if one not in right]
        tokens += [wrong[0], wrong[1], token]
        parents += [last, len(tokens) - 3, last]
        last = len(tokens) - 1
    count = len(tokens)
    return TokenTree(tuple(tokens), tuple(parents), (1,) * count, (1.0,) * count, ('test',))


def answer(target, frames: Sequence[np.ndarray], prompt: str, count: int, draft,
           room: int = 64) -> tuple[list[int], int]:
    """Tokens of an answer and the passes it took. ``draft(committed)`` gives the tree of the next pass, of ``room``
    nodes at most."""
    layout = target.layout(prompt, len(frames), *frames[0].shape[:2])
    rows = prompt_rows(target, layout, frames)
    cache = target.new_cache(layout, layout.length + count + room)
    before = [*rows[:-2]]
    for part in before:
        target.extend(cache, part)
    committed: list[int] = []
    chunk, passes = torch.cat(rows[-2:]), 0
    while len(committed) < count and not (committed and committed[-1] in target.eos_ids):
        tree = draft(tuple(committed))
        joined = torch.cat([chunk, target.embed(tree.token_ids)]) if len(tree) else chunk
        judged = target.verify(cache, joined, tree, committed)
        passes += 1
        node, path = PREFIX, []
        while True:
            token = int(judged.logits[node + 1].argmax())
            committed.append(token)
            child = tree.child(node, token)
            if child is None or token in target.eos_ids or len(committed) >= count:
                break
            node = child
            path.append(child)
        cache.keep(cache.length - len(tree), path)
        chunk = target.embed(committed[-1:])
    target.release(cache)
    return committed[:count], passes


class Tape:
    """What a captured graph does, without a GPU: results at fixed addresses, written over by every replay."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, step):
        made = step()
        self.recorded += 1

        def replay():
            said = step()
            self.replayed += 1
            for name in ('states', 'logits', 'finite', 'ranking'):
                if getattr(made, name) is not None:
                    getattr(made, name).copy_(getattr(said, name))
            for layer, part in said.layers.items():
                made.layers[layer].copy_(part)
            return made
        return replay


def padded(target: TransformersTarget, recorder=None) -> TransformersTarget:
    """The same model in passes filled up to a size; steps are recorded on a tape where nothing else is said."""
    return TransformersTarget(target.adapter, 'padded', scorer=target.scorer, stop_strings=target.stop_strings,
                              recorder=recorder or Tape())


def grown(right: Sequence[int], nodes: int, seed: int, vocab: int) -> TokenTree:
    """A tree of so many nodes: the right tokens as a chain, as far as there are, and wrong ones all over it."""
    generator = np.random.default_rng(seed)
    right = list(right)[:nodes]
    tokens, parents = list(right), list(range(PREFIX, len(right) - 1))
    taken = set(zip(parents, tokens))
    while len(tokens) < nodes:
        parent, token = int(generator.integers(-1, len(tokens))), int(generator.integers(6, vocab))
        if (parent, token) not in taken and token not in right:
            taken.add((parent, token))
            tokens.append(token)
            parents.append(parent)
    return TokenTree(tuple(tokens), tuple(parents), (1,) * nodes, (1.0,) * nodes, ('test',))
