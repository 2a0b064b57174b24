"""The decode engine: windows opened, drafts taken, what they share, and what was measured.

Used from one inference thread; only `CaptionEngine.offer` may be called from others, at any time.
"""
from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from time import perf_counter_ns

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.check import check_frame
from crossspec_ros.speculation.constraint import Constraint
from crossspec_ros.speculation.costs import measure_costs
from crossspec_ros.speculation.features import FeatureCache, frame_key
from crossspec_ros.speculation.inbox import Admission
from crossspec_ros.speculation.passes import Ending
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.rules import Rule, make_rule
from crossspec_ros.speculation.savings import saved_ms
from crossspec_ros.speculation.schedules import Certified, Free
from crossspec_ros.speculation.session import Session, Shared
from crossspec_ros.speculation.settings import EngineConfig, EngineCounters
from crossspec_ros.speculation.sources import SourceSettings
from crossspec_ros.speculation.sources.base import DraftSource
from crossspec_ros.speculation.target import Target
from crossspec_ros.speculation.types import Draft

_log = logging.getLogger(__name__)
_MEASURED = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class CaptionEngine:
    """Captions of windows from a target and whatever drafts there are; `open` gives a `Session` a window."""

    def __init__(self, target: Target, config: EngineConfig | None = None, proposer: Proposer | None = None,
                 more: Sequence[DraftSource] = ()) -> None:
        """``proposer``: one of one's own; by default one that knows the target's vocabulary, with ``more`` sources
        besides those that the settings name (heads on the target's states).

        Raises `CrossSpecError` for settings that do not go together, and for layers that the target does not have.
        """
        config = config or EngineConfig()
        proposer = proposer or make_proposer(target, config, more)
        if proposer.layers:
            target.tap(proposer.layers)
        ending = Ending(frozenset(target.eos_ids), config.max_new_tokens,
                        tuple(dict.fromkeys((*config.stop_strings, *target.stop_strings))), target.decode)
        free = Free(target, config.max_nodes, config.first_nodes, config.fused, target.abilities.trees)
        certified = config.exactness == 'certified'
        self._shared = Shared(
            target, proposer, config, make_rule(config), ending,
            Certified(target, config.block) if certified else free, free,
            exact=certified or (target.dtype == torch.float32 and not target.abilities.coarse),
            features=FeatureCache(2 * config.window_frames if config.frame_cache else 0))
        self._open: list[Session] = []

    @property
    def target(self) -> Target:
        """The model whose words are published."""
        return self._shared.target

    @property
    def proposer(self) -> Proposer:
        """All draft sources."""
        return self._shared.proposer

    @property
    def config(self) -> EngineConfig:
        """How the engine decodes."""
        return self._shared.config

    @property
    def counters(self) -> EngineCounters:
        """What the engine did since the start or the last reset."""
        return self._shared.counters

    @property
    def judgeable(self) -> bool:
        """Whether decoding a window again without drafts says if its caption is right."""
        return self._shared.rule.keeps == 'tokens' and self._shared.exact

    def use_rule(self, rule: Rule) -> None:
        """Accept by a rule of one's own instead of the one the settings name (experiments)."""
        self._shared.rule = rule

    # -- windows and drafts ------------------------------------------------------------------------------------------

    def open(self, window_id: int, window_end_ns: int, prompt: str, constraint: Constraint | None = None) -> Session:
        """Start a window. ``prompt`` is a question, or a whole prompt that holds the model's placeholder of frames.
        ``constraint``: the form of the answer, of this session's own.

        Raises `CrossSpecError` for a prompt the target cannot take, or a window id already open.
        """
        if any(session.window_id == window_id for session in self._open):
            raise CrossSpecError(f'window_id must not be open already, got {window_id}')
        session = Session(self._shared, window_id, window_end_ns, prompt, self._open.remove, constraint)
        while len(self._open) >= self.config.max_windows:
            _log.warning('window %d is closed without an answer: more than max_windows (%d) are open',
                         self._open[0].window_id, self.config.max_windows)
            self._open[0].close()
            self.counters.windows_replaced += 1
        self._open.append(session)
        self.counters.windows += 1
        return session

    def encode_ahead(self, prompt: str, stamp_ns: int, rgb: np.ndarray) -> bool:
        """Encode a frame that some window may be given, so that its session finds it done.

        False where features are not shared or a group holds several frames: nothing is done. Raises `CrossSpecError`
        for a frame or a prompt that no window could be given.
        """
        check_frame(rgb)
        shared, abilities = self._shared, self.target.abilities
        layout = self.target.layout(prompt, self.config.window_frames, *rgb.shape[:2])
        if not (abilities.anticipatory and abilities.frame_cache and self.config.frame_cache) \
                or layout.groups[0].frames != 1:
            return False
        start_ns = perf_counter_ns()
        _, known = shared.features.of([frame_key(stamp_ns, rgb)], lambda: self.target.encode(layout, 0, [rgb]))
        self.counters.forward_ms += (perf_counter_ns() - start_ns) / 1e6
        self.counters.frames_encoded += not known
        return True

    def offer(self, draft: Draft) -> str | None:
        """Hand in a draft, from any thread, at any time. None: taken, else why it was refused (also counted)."""
        return self.proposer.inbox.offer(draft)

    def check_prompt(self, prompt: str) -> None:
        """Raises `CrossSpecError` where a window could not be opened with this prompt."""
        self.target.layout(prompt, self.config.window_frames, *self._shared.size)

    def audit(self, frames: Sequence[np.ndarray], prompt: str, window_id: int = 0,
              constraint: Constraint | None = None) -> tuple[int, ...]:
        """Tokens of the caption (no end token) decoded again with no drafts, no shared features and no shared cache.

        ``frames`` as they were given for the window, oldest first; ``window_id`` matters to seeded sampling only.
        Raises `CrossSpecError` for bad frames, a bad prompt, or logits that are not finite.
        """
        shared = self._shared
        at_once = replace(shared.config, anticipatory=False)
        alone = replace(shared, config=at_once, features=FeatureCache(0), counters=EngineCounters())
        session = Session(alone, window_id, 0, prompt, lambda closed: None, constraint)
        try:
            for slot, frame in enumerate(frames):
                session.add_frame(slot, slot, frame)
            return session.decode_plainly()
        finally:
            session.close()

    # -- what is measured, kept and counted ---------------------------------------------------------------------------

    def warm_up(self, prompt: str, height: int = 240, width: int = 320,
                known: Mapping[int, float] | None = None) -> dict[int, float]:
        """Measure what a forward costs by its new tokens, at the real context length; ms by number of tokens.

        Trees are sized by it. Where the costs are ``known``, those are taken if they are of all that would be measured,
        and the target is only warmed up. Raises `CrossSpecError` for a prompt that does not fit.
        """
        layout = self.target.layout(prompt, self.config.window_frames, height, width)
        sizes = _sizes_of(self.target)
        measured = (*sizes, *(count for count in _MEASURED if count > max(sizes, default=0)))
        counts = [count for count in measured if count <= layout.last_tokens + self.config.first_nodes]
        if known is not None and set(counts) <= set(known):
            measure_costs(self.target, layout, (counts[0], counts[-1]), height, width, repeats=1)
            costs = {count: known[count] for count in counts}
        else:
            costs = measure_costs(self.target, layout, counts, height, width)
        for count, cost_ms in costs.items():
            self.proposer.cost.measured(count, cost_ms)
        self.counters.plain_ms = self.counters.pass_ms = costs[1]
        self._shared.size = height, width
        return costs

    def reset(self) -> None:
        """Forget windows, features, caption memory and statistics that depend on time (time jumped back)."""
        for session in list(self._open):
            session.close()
        shared = self._shared
        shared.features.clear()
        shared.proposer.reset()
        shared.focused = None
        shared.counters = EngineCounters(plain_ms=shared.counters.plain_ms)

    def sizes(self) -> dict[str, int]:
        """How much is held of each thing that is kept beyond a window: bounded, however long the drive."""
        return {'windows': len(self._open), 'features': len(self._shared.features)} | self.proposer.sizes()

    def statistics(self) -> dict[str, object]:
        """Counts and times since the start or the last reset, acceptance by vLLM's names, per source."""
        counters = asdict(self.counters)
        passes = self.counters.target_passes
        counters['mean_acceptance_length'] = self.counters.tokens / passes if passes else None
        proposer = self.proposer.statistics()
        return counters | {'proposer': proposer, 'saved_ms': saved_ms(proposer['sources'], self.proposer.cost),
                           'forwards': self.forwards()}

    def forwards(self) -> dict[str, int]:
        """Forwards of the target by the way they went, where there are several: filled up to a size, replayed, not."""
        return dict(getattr(self.target, 'forwards', {}))


def make_proposer(target: Target, config: EngineConfig, more: Sequence[DraftSource] = ()) -> Proposer:
    """All sources that the settings name, and ``more``, for the target's vocabulary."""
    holding = SourceSettings(memory_captions=config.memory_captions)
    return Proposer(ProposerConfig(config.sources, holding, sizes=_sizes_of(target)), Admission.of(target), more)


def _sizes_of(target: Target) -> tuple[int, ...]:
    """Sizes that forwards are filled up to; none of targets that know of none."""
    return tuple(getattr(target, 'sizes', ()))
