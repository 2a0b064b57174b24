"""Does an adapter say what the model's own ``generate`` says? A short trial, whenever a checkpoint is loaded.

Shape letters: n nodes of a tree, V logits width.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets.adapters.base import Adapter
from crossspec_ros.models.targets.adapters.processed import noise
from crossspec_ros.models.targets.graphs import again
from crossspec_ros.models.targets.transformers_target import TransformersTarget
from crossspec_ros.models.targets.watching import Said, Watcher
from crossspec_ros.speculation.target import FrameGroup, Layout
from crossspec_ros.speculation.tree import PREFIX, TokenTree

_QUESTION, _SIZE, _SEED = 'What do you see there?', (84, 120), 7
_TOKENS = 4
_CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.1}      # of a row; a wrong mask gives about 1


def fault(adapter: Adapter) -> str | None:
    """What is wrong with an adapter, in words, or None: its logits for an answer beside those of ``generate``.

    Groups are encoded and prefilled one after the other where the adapter says that this is exact, and the answer is
    verified in a tree with wrong siblings at every step.
    """
    frames = noise(2 * adapter.group_frames, *_SIZE, seed=_SEED)
    try:
        wrong = adapter.disagreement(_QUESTION, frames)
        if wrong is not None:
            return wrong
        watcher = Watcher(adapter.model, adapter.language_model, adapter.head)
        said = watcher.answer(adapter.inputs(_QUESTION, frames), _TOKENS)
        logits = _tried(TransformersTarget(adapter, lean=False), frames, said)
    except CrossSpecError as error:
        return str(error)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        return f'{type(error).__name__}: {error}'              # a class that does not work as its adapter thinks
    return _apart(logits, said.logits.to(logits.device), adapter)


@torch.inference_mode()
def _tried(target: TransformersTarget, frames: Sequence, said: Said) -> torch.Tensor:
    """Logits (tokens, V) along the answer, as the target computes them in a tree."""
    layout = target.layout(_QUESTION, len(frames), *_SIZE)
    rows = _rows(target, layout, frames)
    tree, right = _tree(said.tokens[:-1], target.vocab_size)
    cache = target.new_cache(layout, layout.length + len(tree) + 1)
    for part in rows[:-2]:
        target.extend(cache, part)
    chunk = torch.cat([*rows[-2:], target.embed(tree.token_ids)])
    states = target.states(cache, chunk, tree)[[0, *(node + 1 for node in right)]]
    return target.adapter.finish(target.adapter.head(states).to(torch.float32))


def padded_fault(adapter: Adapter) -> str | None:
    """What is wrong with passes filled up to a size for this model, in words, or None: its logits for a tree beside
    those of a forward that is as long as its rows are."""
    frames = noise(adapter.group_frames, *_SIZE, seed=_SEED)
    tree, _ = _tree(range(_TOKENS), len(adapter.tokenizer))
    try:
        free, filled = (_judged(TransformersTarget(adapter, cache, lean=False, recorder=again), frames, tree)
                        for cache in ('dynamic', 'padded'))
    except CrossSpecError as error:
        return str(error)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        return f'{type(error).__name__}: {error}'
    return _apart(filled, free, adapter)


@torch.inference_mode()
def _judged(target: TransformersTarget, frames: Sequence, tree: TokenTree) -> torch.Tensor:
    """Logits (n + 1, V) of a tree after a prompt, banned ids at zero."""
    layout = target.layout(_QUESTION, len(frames), *_SIZE)
    *before, tail = _rows(target, layout, frames)
    cache = target.new_cache(layout, layout.length + len(tree) + 1)
    target.extend(cache, torch.cat(before))
    logits = target.verify(cache, torch.cat([tail, target.embed(tree.token_ids)]), tree, ()).logits
    return logits.float().masked_fill(logits.isinf(), 0.0)


def _apart(logits: torch.Tensor, expected: torch.Tensor, adapter: Adapter) -> str | None:
    """By how much logits (n, V) are off, in words, or None where they are as close as the type allows."""
    off = float(((logits - expected).norm(dim=1) / expected.norm(dim=1)).max())
    dtype = torch.bfloat16 if adapter.parts.coarse else adapter.model.dtype
    allowed = _CLOSE.get(dtype, _CLOSE[torch.bfloat16])
    return None if off <= allowed else f'its logits are off by {off:.2g} of their norm, more than {allowed}'


def _rows(target: TransformersTarget, layout: Layout, frames: Sequence) -> list[torch.Tensor]:
    """Rows of the segments of a prompt."""
    if target.abilities.anticipatory:
        groups = iter([target.encode(layout, number, frames[group.first:group.first + group.frames])
                       for number, group in enumerate(layout.groups)])
    else:
        groups = iter(target.encode_all(layout, frames))
    return [next(groups) if isinstance(part, FrameGroup) else part.rows for part in layout.segments]


def _tree(tokens: Sequence[int], vocab_size: int) -> tuple[TokenTree, list[int]]:
    """The tokens as a chain, a wrong one beside each, and the nodes of the chain."""
    ids, parents, right, last = [], [], [], PREFIX
    for token in tokens:
        ids += [(token + 1) % vocab_size, token]
        parents += [last, last]
        last = len(ids) - 1
        right.append(last)
    count = len(ids)
    return TokenTree(tuple(ids), tuple(parents), (1,) * count, (1.0,) * count, ('trial',)), right
