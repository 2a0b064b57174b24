"""One open window: its frames, its key-value cache, and what of its prompt is already in the cache.

The sequence of a window is prefix, frame 0 .. frame n-1, closing, tail (question), answer. Frames enter in time order,
so whatever is known is put into the cache when it is known; causal attention makes that exact. Only the newest frame, the
closing and the tail are left for the forward that also verifies the first tree.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter_ns

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.types import prompt_key
from crossspec_ros.speculation.verifier import KeyValues, PromptSegments, Verifier


class StageTimes(dict[str, float]):
    """Milliseconds by stage, added up; `stage('verify')` times a block."""

    def stage(self, name: str) -> _Timer:
        """A context manager that adds its block's time to a stage."""
        return _Timer(self, name)


class _Timer:
    def __init__(self, times: StageTimes, name: str) -> None:
        self._times, self._name = times, name

    def __enter__(self) -> _Timer:
        self._begin = perf_counter_ns()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ms = (perf_counter_ns() - self._begin) / 1e6
        self._times[self._name] = self._times.get(self._name, 0.0) + self.ms


@dataclass
class WindowSession:
    """State of one window between `open` and `close`."""

    window_id: int
    window_end_ns: int
    prompt: str
    segments: PromptSegments
    cache: KeyValues
    slots: list[torch.Tensor | None]
    stamps_ns: list[int]
    prefilled: int = 0                       # frames in the cache; the prefix goes in with the first
    committed: list[int] = field(default_factory=list)
    pending: int | None = None               # last committed token: emitted, but not yet in the cache
    finished: bool = False
    rehearsed: tuple[int, ...] = ()
    passes: int = 0
    drafted: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    nodes_checked: int = 0
    nodes_accepted: int = 0
    times: StageTimes = field(default_factory=StageTimes)
    newest_ns: int = 0                       # perf_counter_ns when the newest slot's frame came in
    asked: torch.Tensor | None = None        # embeddings of the question, once they were asked for

    @classmethod
    def begin(cls, verifier: Verifier, window_id: int, window_end_ns: int, prompt: str, frames: int,
              answer_tokens: int, tree_nodes: int) -> WindowSession:
        """Open a window with an empty cache that has room for prompt, answer and one tree."""
        segments = verifier.segments(prompt, frames)
        length = (len(segments.prefix_ids) + frames * segments.frame_tokens + len(segments.closing)
                  + len(segments.tail_ids))
        cache = verifier.new_cache(length + answer_tokens + tree_nodes + 1)
        return cls(window_id, window_end_ns, prompt, segments, cache, [None] * frames, [0] * frames)

    @property
    def prompt_key(self) -> str:
        """Names the question across processes."""
        return prompt_key(self.prompt)

    @property
    def complete(self) -> bool:
        """True when every slot has its frame."""
        return all(features is not None for features in self.slots)

    def put(self, slot: int, stamp_ns: int, features: torch.Tensor) -> None:
        """Fill a slot. Raises `CrossSpecError` for a slot that does not exist, is filled, or came too late."""
        self.check_slot(slot)
        self.slots[slot], self.stamps_ns[slot] = features, stamp_ns

    def check_slot(self, slot: int) -> None:
        """Raises `CrossSpecError` unless ``slot`` exists and is empty."""
        if not 0 <= slot < len(self.slots):
            raise CrossSpecError(f'slot must be 0 to {len(self.slots) - 1}, got {slot}')
        if self.slots[slot] is not None:
            raise CrossSpecError(f'slot {slot} of window {self.window_id} must be filled once, it has a frame already')

    def known(self, verifier: Verifier, stop: int) -> torch.Tensor | None:
        """Embeddings that can enter the cache now: the prefix and frames in order up to slot ``stop``; None if none."""
        ready = self.prefilled
        while ready < stop and self.slots[ready] is not None:
            ready += 1
        parts = [features for features in self.slots[self.prefilled:ready] if features is not None]
        if not parts:
            return None
        if self.prefilled == 0 and self.segments.prefix_ids:
            parts.insert(0, verifier.embed(self.segments.prefix_ids))
        return torch.cat(parts)

    def prefill(self, verifier: Verifier, stop: int) -> None:
        """Put what is known up to slot ``stop`` into the cache."""
        embeds = self.known(verifier, stop)
        if embeds is not None:
            with self.times.stage('prefill'):
                verifier.extend(self.cache, embeds)
            while self.prefilled < stop and self.slots[self.prefilled] is not None:
                self.prefilled += 1

    def question(self, verifier: Verifier) -> torch.Tensor:
        """Embeddings of what follows the last frame: closing and tail."""
        if self.asked is None:
            self.asked = torch.cat([self.segments.closing, verifier.embed(self.segments.tail_ids)])
        return self.asked
