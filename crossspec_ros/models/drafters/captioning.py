"""Any target as a drafter: pictures of a window's events, captioned greedily, a token at a time.

Nothing of it has to be exact: the verifier checks every word. What it must be is soon there and soon to stop.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import DraftTokens
from crossspec_ros.models.tokenizer import question_of
from crossspec_ros.speculation.drafter import EventCanvases, EventPictures
from crossspec_ros.speculation.target import FrameGroup, KeyValues, Layout, Target
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.tracing.tracer import TRACER

_CHUNK = 256                     # rows of the prompt in a forward: between two it can be stopped
_SPARE = 64                      # tokens for which a cache has room beyond those that are asked for
_NO_TREE = TokenTree()


@dataclass(frozen=True, eq=False)
class _Read:
    """A window that was read: its pictures and question are in the cache, but for the last row."""

    seen: Sequence[np.ndarray]
    prompt: str
    layout: Layout
    cache: KeyValues
    last: torch.Tensor


class CaptioningDrafter:
    """A model that captions pictures of events; `speculation.drafter.Drafter`. Used by one thread at a time.

    What it has read of a window is kept until it sees another: a draft after a verdict costs its own tokens only.
    """

    verifier_key = ''            # it learned from no verifier that it could name

    def __init__(self, target: Target, view: EventPictures | EventCanvases) -> None:
        self.target, self.view = target, view
        self._read: _Read | None = None

    @property
    def tokenizer_key(self) -> str:
        """Fingerprint of the vocabulary of the drafted ids."""
        return self.target.tokenizer_key

    def draft(self, seen: Sequence[np.ndarray], *, prompt: str, prefix_ids: Sequence[int] = (), max_tokens: int = 64,
              should_stop: Callable[[], bool] | None = None) -> DraftTokens:
        """The likeliest caption of pictures uint8 (H, W, 3), oldest first, after ``prefix_ids``; a chain.

        Raises `CrossSpecError` for ids that it does not have, and for pictures or a prompt that it cannot take.
        """
        start_ns = perf_counter_ns()
        said = tuple(self.draft_stream(seen, prompt=prompt, prefix_ids=prefix_ids, max_tokens=max_tokens,
                                       should_stop=should_stop))
        return DraftTokens(said, (), (), self.target.decode([*prefix_ids, *said]),
                           (perf_counter_ns() - start_ns) / 1e6, bool(said) and said[-1] in self.target.eos_ids)

    def draft_stream(self, seen: Sequence[np.ndarray], *, prompt: str, prefix_ids: Sequence[int] = (),
                     max_tokens: int = 64, should_stop: Callable[[], bool] | None = None) -> Iterator[int]:
        """Greedy tokens as they come; ends after an end token, ``max_tokens``, or where ``should_stop()`` says so."""
        target, stop = self.target, should_stop or (lambda: False)
        self._check(prefix_ids, max_tokens)
        if prefix_ids and prefix_ids[-1] in target.eos_ids:
            return
        read = self._opened(seen, question_of(prompt), len(prefix_ids) + max_tokens, stop)
        if read is None:
            return
        base, committed = read.cache.length, list(prefix_ids)
        most = min(len(prefix_ids) + max_tokens, target.context_length - read.layout.length)
        rows = torch.cat([read.last, target.embed(committed)]) if committed else read.last
        try:
            while len(committed) < most and not stop():
                with TRACER.span('draft forward'):
                    token = int(target.verify(read.cache, rows, _NO_TREE, committed).logits[0].argmax())
                yield token
                if token in target.eos_ids:
                    return
                committed.append(token)
                rows = target.embed([token])
        finally:
            read.cache.truncate(base)

    def _check(self, prefix_ids: Sequence[int], max_tokens: int) -> None:
        if max_tokens < 1:
            raise CrossSpecError(f'max_tokens must be >= 1, got {max_tokens}')
        bad = [token for token in prefix_ids if not 0 <= token < self.target.vocab_size]
        if bad:
            raise CrossSpecError(f'prefix_ids must be 0 to {self.target.vocab_size - 1}, got {bad[0]}: '
                                 'was the prefix made by another tokenizer?')

    def _opened(self, seen: Sequence[np.ndarray], prompt: str, tokens: int, stop: Callable[[], bool]) -> _Read | None:
        """The window, read, with room for so many tokens after it; None where it was stopped meanwhile."""
        read = self._read
        if read is not None and read.seen is seen and read.prompt == prompt \
                and read.cache.capacity >= read.layout.length + tokens:
            return read
        if read is not None:
            self._read = None
            self.target.release(read.cache)
        layout = self.target.layout(prompt, len(seen), *seen[0].shape[:2])
        rows = self._rows(layout, seen, stop)
        if rows is None:
            return None
        cache = self.target.new_cache(layout, layout.length + tokens + _SPARE)
        for first in range(0, len(rows) - 1, _CHUNK):
            if stop():
                self.target.release(cache)
                return None
            with TRACER.span('draft prefill'):
                self.target.extend(cache, rows[first:min(first + _CHUNK, len(rows) - 1)])
        self._read = _Read(seen, prompt, layout, cache, rows[-1:])
        return self._read

    def _rows(self, layout: Layout, seen: Sequence[np.ndarray], stop: Callable[[], bool]) -> torch.Tensor | None:
        """Rows (T, W) of the whole prompt; None where it was stopped meanwhile."""
        if self.target.abilities.anticipatory:
            groups = []
            for number, group in enumerate(layout.groups):
                if stop():
                    return None
                with TRACER.span('draft pictures'):
                    groups.append(self.target.encode(layout, number, seen[group.first:group.first + group.frames]))
        else:
            groups = self.target.encode_all(layout, seen)
        made = iter(groups)
        return torch.cat([next(made) if isinstance(part, FrameGroup) else part.rows for part in layout.segments])
