"""Whether a drafter pays: tokens a pass, acceptance and modelled ages on the held-out part of the drives.

Verification is lossless, so what the verifier says is known from its answers, and passes can be counted without a
forward (`train.tau`). How long they would take follows from the measured cost of a forward by its new tokens.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossspec_ros.config import DrafterConfig
from crossspec_ros.learn.lessons import Lesson
from crossspec_ros.learn.store import FINAL
from crossspec_ros.models.drafter import DraftTokens, EventDrafter
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.inbox import Admission
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.target import Target
from crossspec_ros.speculation.types import Draft, prefix_hash
from crossspec_ros.train.tau import TauCount, count_window

NODES = 64
_WITHOUT = ('memory', 'previous')
NEW, OLD = 'new', 'base'
ARMS: dict[str, tuple[tuple[str, ...], str]] = {
    'event_drafter': (('drafts',), NEW), 'base_drafter': (('drafts',), OLD), 'memory': (('memory',), ''),
    'previous': (('previous',), ''), 'merged': ((*_WITHOUT, 'drafts'), NEW),
    'merged_with_base': ((*_WITHOUT, 'drafts'), OLD), 'merged_without': (_WITHOUT, '')}
"""What is compared, by name: the sources that draft, and which event drafter is among them."""
_RESAMPLED = 1000
_BLOCK = 10                      # windows that follow each other, resampled together
_PAYS = 0.99                     # of the age without it


@dataclass(frozen=True, eq=False)
class Judge:
    """What the held-out windows are judged with: the verifier's vocabulary, and what its forwards cost.

    ``fused_tokens``: prompt tokens in the first pass's forward.
    """

    target: Target
    prompt: str
    cost_ms: Mapping[int, float]
    fused_tokens: int
    max_tokens: int = DrafterConfig().max_tokens
    drafted: dict[tuple[EventDrafter, int, int, tuple[int, ...]], DraftTokens] = field(default_factory=dict)

    def draft(self, drafter: EventDrafter, lesson: Lesson, seen: np.ndarray, base: tuple[int, ...]) -> DraftTokens:
        """What a drafter says of a window after a prefix; kept, for several combinations of sources ask for it."""
        key = drafter, lesson.drive, lesson.window.window_id, base
        if key not in self.drafted:
            self.drafted[key] = drafter.draft(seen, prompt=self.prompt, prefix_ids=base, max_tokens=self.max_tokens)
        return self.drafted[key]

    def proposer(self, sources: tuple[str, ...]) -> Proposer:
        """Of these sources, sized by the costs as in the engine."""
        proposer = Proposer(ProposerConfig(sources), Admission.of(self.target))
        for count, cost_ms in self.cost_ms.items():
            proposer.cost.observe(count, cost_ms)
        return proposer


@dataclass
class Arm:
    """What came of one combination of sources: a count a window, and which windows' captions are new."""

    counts: list[TauCount] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)

    def tau(self, rows: Sequence[int] | None = None) -> float | None:
        """Tokens a pass over these windows (None: all)."""
        rows = range(len(self.counts)) if rows is None else rows
        passes = sum(self.counts[row].passes for row in rows)
        return sum(self.counts[row].tokens for row in rows) / passes if passes else None

    def changes(self) -> list[int]:
        """Windows whose caption is not that of the window before."""
        return [row for row, changed in enumerate(self.changed) if changed]

    def interval(self, seed: int = 0) -> tuple[float, float] | None:
        """95% of tau over resampled blocks of neighbouring windows; None for fewer than two blocks."""
        blocks = [range(start, min(start + _BLOCK, len(self.counts))) for start in range(0, len(self.counts), _BLOCK)]
        if len(blocks) < 2:
            return None
        sums = np.array([[sum(self.counts[row].tokens for row in block), sum(self.counts[row].passes for row in block)]
                         for block in blocks])
        drawn = np.random.default_rng(seed).integers(0, len(blocks), (_RESAMPLED, len(blocks)))
        tokens, passes = sums[drawn].sum(1).T
        return tuple(float(value) for value in np.percentile(tokens / passes, (2.5, 97.5)))

    def by_position(self) -> list[float | None]:
        """Share of right draft tokens by position in the caption."""
        total = TauCount()
        for count in self.counts:
            total.add(count)
        return [right / offered if offered else None for right, offered in zip(total.right, total.offered,
                                                                               strict=True)]

    def summary(self) -> dict[str, Any]:
        """The figures, JSON-ready."""
        interval = self.interval()
        return {'tau': _rounded(self.tau()), 'tau_95': interval and [round(value, 3) for value in interval],
                'tau_at_changes': _rounded(self.tau(self.changes())),
                'age_ms': {'mean': round(float(np.mean(self.ages_ms)), 2),
                           **{f'p{q}': round(float(np.percentile(self.ages_ms, q)), 2) for q in (50, 95, 99)}},
                'acceptance_by_position': [_rounded(value) for value in self.by_position()]}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def judge_arms(judge: Judge, lessons: Sequence[Lesson], drafters: Mapping[str, EventDrafter],
               names: Sequence[str] = tuple(ARMS), advance: Callable[[float], None] = lambda count: None
               ) -> dict[str, Arm]:
    """What each combination of sources (`ARMS`) does on the held-out windows, in the order of time."""
    arms = {}
    for name in names:
        sources, who = ARMS[name]
        if not who or who in drafters:
            arms[name] = _judged(judge, lessons, sources, drafters.get(who))
        advance(1)
    return arms


def _judged(judge: Judge, lessons: Sequence[Lesson], sources: tuple[str, ...], drafter: EventDrafter | None) -> Arm:
    arm, proposer, curve = Arm(), judge.proposer(sources), CostCurve(judge.cost_ms)
    before: tuple[int, tuple[int, ...]] | None = None
    for number, lesson in enumerate(lessons, 1):
        truth = tuple(int(token) for token in lesson.window.answers[0].token_ids)
        if before is not None and before[0] != lesson.drive:
            before = None
        count = TauCount()
        redraft = redrafter(judge, drafter, lesson, number) if drafter is not None else None
        count_window(proposer, number, 'held out', truth, count, max_nodes=NODES, redraft=redraft,
                     fused_tokens=judge.fused_tokens)
        arm.counts.append(count)
        arm.ages_ms.append(sum(curve(nodes + 1 + (0 if place else judge.fused_tokens - 1))
                               for place, nodes in enumerate(count.trees)))
        arm.changed.append(before is not None and before[1] != truth)
        before = lesson.drive, truth
    return arm


def redrafter(judge: Judge, drafter: EventDrafter, lesson: Lesson, number: int) -> Callable[[Sequence[int]], Draft]:
    """What a drafter says of a window after a committed prefix, as its node sends it: again where that departs from
    what was said.

    In foreign tokens its text is tokenised again, and it cannot go on from the verifier's prefix.
    """
    seen, same = lesson.window.voxels[FINAL].astype(np.float32), drafter.tokenizer_key == judge.target.tokenizer_key
    base: tuple[int, ...] = ()
    revision = iter(range(10_000))

    def redraft(committed: Sequence[int]) -> Draft:
        nonlocal base
        draft = judge.draft(drafter, lesson, seen, base)
        if same and tuple(committed) != (*base, *draft.token_ids)[:len(committed)]:
            base = tuple(committed)
            draft = judge.draft(drafter, lesson, seen, base)
        return Draft(number, number, next(revision), 'held out', drafter.tokenizer_key, draft.text,
                     tuple(draft.token_ids), tuple(draft.parents), tuple(draft.weights), len(base), prefix_hash(base))
    return redraft


def draft_texts(judge: Judge, drafter: EventDrafter, lessons: Sequence[Lesson]) -> tuple[list[str], list[float]]:
    """What it says of each window, and how long that took, ms."""
    made = [judge.draft(drafter, lesson, lesson.window.voxels[FINAL].astype(np.float32), ()) for lesson in lessons]
    return [draft.text for draft in made], [draft.compute_ms for draft in made]


def pays(arms: Mapping[str, Arm]) -> bool:
    """Whether captions come sooner with the new drafter among the sources than without any."""
    with_it, without = arms['merged'], arms['merged_without']
    sooner = float(np.mean(with_it.ages_ms)) < _PAYS * float(np.mean(without.ages_ms))
    return sooner and (with_it.tau() or 0.0) > (without.tau() or 0.0)
