"""The state of one open window: its prompt and frames as rows, its key-value cache, and what of the answer stands.

The sequence of a window is what its layout says: text and groups of frames in turn, the question, then the answer.
Groups enter in time order, so whatever is known is put into the cache when it is known; causal attention makes that
exact. Only the newest group and the question are left for the forward that also verifies the first tree.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

import torch

from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.target import FrameGroup, KeyValues, Layout
from crossspec_ros.speculation.tree import PREFIX
from crossspec_ros.tracing.tracer import TRACER


class StageTimes(dict[str, float]):
    """Milliseconds by stage, added up; `stage('verify')` times a block."""

    def stage(self, name: str) -> _Timer:
        """A context manager that adds its block's time to a stage."""
        return _Timer(self, name)


class _Timer:
    def __init__(self, times: StageTimes, name: str) -> None:
        self._times, self._name, self._span = times, name, TRACER.span(name)

    def __enter__(self) -> _Timer:
        self._span.__enter__()
        self._start = perf_counter_ns()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ms = (perf_counter_ns() - self._start) / 1e6
        self._span.__exit__(None, None, None)
        self._times[self._name] = self._times.get(self._name, 0.0) + self.ms


@dataclass
class WindowState:
    """What decoding reads and changes. ``rows[k]`` are those of group k of the layout, None while it is awaited."""

    window_id: int
    window_end_ns: int
    prompt_key: str
    layout: Layout
    cache: KeyValues
    rows: list[torch.Tensor | None]
    prefilled: int = 0                       # groups in the cache, each with the text before it
    committed: list[int] = field(default_factory=list)
    finished: bool = False
    passes: int = 0
    drafted: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    nodes_checked: int = 0
    nodes_accepted: int = 0
    near_ties: int = 0
    times: StageTimes = field(default_factory=StageTimes)

    @property
    def last(self) -> int:
        """The last committed token; `PREFIX` where there is none."""
        return self.committed[-1] if self.committed else PREFIX

    def ready(self, stop: int) -> int:
        """The group up to which, ``stop`` at most, rows are known from the first on."""
        ready = self.prefilled
        while ready < stop and self.rows[ready] is not None:
            ready += 1
        return ready

    def pieces(self, start: int, stop: int) -> list[torch.Tensor]:
        """Rows of groups ``start`` up to ``stop``, each after the text before it."""
        group, parts = -1, []
        pending: list[torch.Tensor] = []
        for segment in self.layout.segments:
            if not isinstance(segment, FrameGroup):
                pending.append(segment.rows)
                continue
            group += 1
            if start <= group < stop:
                parts += [*pending, self.rows[group]]
            pending = []
        return parts

    def commit(self, outcome: PassOutcome) -> None:
        """Take the outcome of a pass. A node of several sources counts for each of them, and once for the window."""
        tree = outcome.tree
        self.committed.extend(outcome.emitted)
        self.finished = outcome.complete
        self.passes += 1
        self.nodes_checked += len(tree)
        self.nodes_accepted += len(outcome.nodes)
        for bits in tree.sources:
            _add(self.drafted, tree.source_names, bits)
        for node in outcome.nodes:
            _add(self.accepted, tree.source_names, tree.sources[node])


def _add(counts: dict[str, int], names: Sequence[str], bits: int) -> None:
    for index, name in enumerate(names):
        if bits >> index & 1:
            counts[name] = counts.get(name, 0) + 1
