"""The ways of decoding that `crossspec bench decode` compares, each on the same windows as a vehicle would meet them.

A window's frames come in time order, ``frame_interval_ms`` apart; the age of a caption counts from the arrival of the
newest frame. What a scheme does before that (encode, prefill, rehearse) is not part of the age but of the compute, and
it has to fit into the gaps between frames. Event drafts come from another process: the one made from the events before
the last interval is there when the newest frame comes, the one from the whole window as much later as it took to make,
and one that goes on from a verdict as much later again.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter_ns

import numpy as np

from crossspec_ros.bench.redrafts import Redrafter
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.session import Session
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources.base import DraftSource
from crossspec_ros.speculation.types import Caption, Draft, Verdict

_MS = 1_000_000
_TRANSPORT_MS = 2.0                      # a draft on its way between two processes of one machine


@dataclass(frozen=True)
class Window:
    """One window of the bench: frames oldest first, and the event drafts with the time each takes to make; ``follow``
    makes who drafts on after verdicts."""

    window_id: int
    frames: Sequence[np.ndarray]
    prompt: str
    early: Draft | None = None
    late: Draft | None = None
    follow: Callable[[], Redrafter] | None = None


@dataclass
class Outcome:
    """What a scheme made of one window. ``tokens`` without the end token.

    ``own_ms`` is the age less the forwards, each with what it needs (preprocessing, embeddings, mask, checks);
    ``beside_ms`` is the age less the time in the model's own modules alone (on a CPU; a GPU is not waited for).
    """

    tokens: tuple[int, ...]
    age_ms: float
    compute_ms: float
    passes: int
    emitted: int
    own_ms: float | None = None
    beside_ms: float | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)


class PlainGeneration:
    """transformers ``generate``, with its own options: nothing is done before the newest frame is there."""

    def __init__(self, target: TransformersTarget, max_new_tokens: int, **options: object) -> None:
        self._target, self._max_new_tokens, self._options = target, max_new_tokens, options

    def run(self, window: Window) -> Outcome:
        """Tokens, age and passes of one window."""
        passes = 0

        def count(*_: object) -> None:
            nonlocal passes
            passes += 1

        hook = self._target.adapter.language_model.register_forward_pre_hook(count)
        try:
            begin_ns = perf_counter_ns()
            tokens = self._target.generate(window.frames, window.prompt, self._max_new_tokens, **self._options)
            age_ms = (perf_counter_ns() - begin_ns) / _MS
        finally:
            hook.remove()
        return Outcome(_answer(self._target, tokens), age_ms, age_ms, passes, len(tokens))


class Speculation:
    """The engine with some of its features."""

    def __init__(self, target: TransformersTarget, config: EngineConfig, sources: Sequence[str], *,
                 rehearse: bool = False, drafts: bool = False, chains: bool = False, early_encode: bool = True,
                 frame_interval_ms: float = 125.0, more: Sequence[DraftSource] = (),
                 clock: Callable[[], int] = perf_counter_ns) -> None:
        """``more``: sources besides those named, such as heads. ``clock`` tells ages and compute, ns."""
        self.engine = CaptionEngine(target, replace(config, sources=tuple(sources)), more=more)
        self._rehearse, self._drafts, self._interval_ms = rehearse, drafts, frame_interval_ms
        self._early_encode, self._clock = early_encode, clock
        if chains:
            propose = self.engine.proposer.propose
            self.engine.proposer.propose = lambda *args, **options: propose(*args, **options).trunk()

    def run(self, window: Window) -> Outcome:
        """Tokens, age, compute and passes of one window, frames given in order as they would come."""
        engine, window_id = self.engine, window.window_id
        begin_ns = self._clock()
        session = engine.open(window_id, window_id * 1000 * _MS, window.prompt)
        *earlier, newest = window.frames
        arrival_ns = self._clock()
        for slot, frame in enumerate(earlier):
            gap_end_ns = perf_counter_ns() + int(self._interval_ms * _MS)
            session.add_frame(slot, _stamp(window_id, slot), frame)
            if self._drafts and window.early is not None and slot == len(earlier) - 1:
                engine.offer(window.early)
            if self._rehearse:
                session.rehearse(until_ns=gap_end_ns)
        if self._early_encode:
            arrival_ns = self._clock()
        forwards_ms, model_ms = engine.counters.forward_ms, engine.target.model_ms
        emitted = engine.counters.tokens
        session.add_frame(len(earlier), _stamp(window_id, len(earlier)), newest)
        caption, age_ms, apart_ms = self._answer(session, window, arrival_ns)
        beside_ms = age_ms - (engine.target.model_ms - model_ms)
        session.close()
        return Outcome(caption.token_ids, age_ms, (self._clock() - begin_ns) / _MS - apart_ms, caption.target_passes,
                       engine.counters.tokens - emitted, age_ms - (engine.counters.forward_ms - forwards_ms), beside_ms,
                       dict(caption.stage_ms))

    def _answer(self, session: Session, window: Window, arrival_ns: int) -> tuple[Caption, float, float]:
        """The final caption, its age, and the time that went into drafts, which another process would have made.

        Drafts are handed in between passes, once they could be there.
        """
        drafts = _Drafts(window) if self._drafts and window.late is not None else None
        apart_ns = 0
        for output in session.answer():
            age_ms = (self._clock() - arrival_ns - apart_ns) / _MS
            if drafts is not None:
                begin_ns = self._clock()
                if isinstance(output, Verdict) and not output.final:
                    drafts.hear(output, age_ms)
                apart_ns += self._clock() - begin_ns
                for draft in drafts.there(age_ms):
                    self.engine.offer(draft)
        return output, age_ms, apart_ns / _MS


class _Drafts:
    """The drafts of a window that are still to come, each with the age at which it is there."""

    def __init__(self, window: Window) -> None:
        self._free_ms = window.late.compute_ms                   # until then the drafter is busy
        self._coming = [(self._free_ms + _TRANSPORT_MS, window.late)]
        self._follower = window.follow() if window.follow is not None else None

    def hear(self, verdict: Verdict, age_ms: float) -> None:
        """Draft on after a verdict of this age, where it departs from the newest draft."""
        again = self._follower.after(verdict.committed) if self._follower is not None else None
        if again is not None:
            self._free_ms = max(age_ms + _TRANSPORT_MS, self._free_ms) + again.compute_ms
            self._coming.append((self._free_ms + _TRANSPORT_MS, again))

    def there(self, age_ms: float) -> list[Draft]:
        """Those that have come by this age, oldest first, each once."""
        come = [draft for at_ms, draft in self._coming if at_ms <= age_ms]
        del self._coming[:len(come)]
        return come


def _stamp(window_id: int, slot: int) -> int:
    return (window_id * 1000 + slot * 125) * _MS


def _answer(target: TransformersTarget, tokens: Sequence[int]) -> tuple[int, ...]:
    return tuple(tokens[:-1] if tokens and tokens[-1] in target.eos_ids else tokens)
