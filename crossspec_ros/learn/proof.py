"""Whether a drafter and heads pay: tokens a pass, acceptance and modelled ages on the held-out part of the drives.

Verification is lossless, so what the verifier says is known from its answers, with the states from which it says it,
and passes can be counted without a forward of it (`train.tau`). How long they would take follows from the measured cost
of a forward by its new tokens; the forwards of heads are made and timed.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from crossspec_ros.config import DrafterConfig
from crossspec_ros.learn.heads import TrainedHead, states_of
from crossspec_ros.learn.lessons import Lesson
from crossspec_ros.learn.store import FINAL
from crossspec_ros.models.drafter import DraftTokens, EventDrafter
from crossspec_ros.models.targets import TransformersTarget
from crossspec_ros.speculation.age import passes_ms
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.inbox import Admission
from crossspec_ros.speculation.intervals import drawn_groups, interval_95, resampled_ratio
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.replay import KnownAnswer
from crossspec_ros.speculation.sources.heads import Head, HeadSource
from crossspec_ros.speculation.types import Draft, prefix_hash
from crossspec_ros.speculation.worth import Worth
from crossspec_ros.train.tau import TauCount, count_window

NODES = 64
_WITHOUT = ('memory', 'previous')
NEW, OLD = 'new', 'base'
ALL_HEADS = 'merged_heads'


@dataclass(frozen=True)
class Mixture:
    """What drafts: the engine's own sources, which event drafter is among them, and which heads."""

    sources: tuple[str, ...] = ()
    drafter: str = ''
    heads: tuple[str, ...] = ()


ARMS: dict[str, Mixture] = {
    'event_drafter': Mixture(('drafts',), NEW), 'base_drafter': Mixture(('drafts',), OLD),
    'memory': Mixture(('memory',)), 'previous': Mixture(('previous',)),
    'merged': Mixture((*_WITHOUT, 'drafts'), NEW), 'merged_with_base': Mixture((*_WITHOUT, 'drafts'), OLD),
    'merged_without': Mixture(_WITHOUT)}
"""What is compared without heads, by name."""


def with_head(kind: str) -> str:
    """Name of the combination of all other sources with a head."""
    return f'merged_{kind}'


def head_arms(kinds: Sequence[str]) -> dict[str, Mixture]:
    """Each head alone, each beside all other sources, and all heads beside them."""
    merged = ARMS['merged']
    arms = {kind: Mixture(heads=(kind,)) for kind in kinds}
    arms |= {with_head(kind): replace(merged, heads=(kind,)) for kind in kinds}
    return arms | ({ALL_HEADS: replace(merged, heads=tuple(kinds))} if len(kinds) > 1 else {})


_RESAMPLED = 1000
_ALWAYS = 1 << 40
_BLOCK = 10                      # windows that follow each other, resampled together
_PAYS = 0.99                     # of the age without it


@dataclass(frozen=True, eq=False)
class Judge:
    """What the held-out windows are judged with: the verifier's vocabulary, and what its forwards cost.

    ``fused_tokens``: prompt tokens in the first pass's forward. ``layers``: whose states the lessons hold, where heads
    read them.
    """

    target: TransformersTarget
    prompt: str
    cost_ms: Mapping[int, float]
    fused_tokens: int
    max_tokens: int = DrafterConfig().max_tokens
    layers: tuple[int, ...] = ()
    drafted: dict[tuple[EventDrafter, int, int, tuple[int, ...]], DraftTokens] = field(default_factory=dict)

    def draft(self, drafter: EventDrafter, lesson: Lesson, seen: np.ndarray, base: tuple[int, ...]) -> DraftTokens:
        """What a drafter says of a window after a prefix; kept, for several combinations of sources ask for it."""
        key = drafter, lesson.drive, lesson.window.window_id, base
        if key not in self.drafted:
            self.drafted[key] = drafter.draft(seen, prompt=self.prompt, prefix_ids=base, max_tokens=self.max_tokens)
        return self.drafted[key]

    def proposer(self, mixture: Mixture, heads: Mapping[str, Head] = MappingProxyType({})
                 ) -> tuple[Proposer, list[HeadSource]]:
        """Of these sources, sized by the costs as in the engine; a head that is alone is asked in any case."""
        worth = {} if mixture.sources else {'trial': _ALWAYS}
        sources = [HeadSource(heads[kind], self.target.vocab_size, worth=Worth(**worth)) for kind in mixture.heads]
        proposer = Proposer(ProposerConfig(mixture.sources), Admission.of(self.target), sources)
        for count, cost_ms in self.cost_ms.items():
            proposer.cost.measured(count, cost_ms)
        return proposer, sources

    def known(self, lesson: Lesson, mixture: Mixture) -> KnownAnswer:
        """What the verifier says of a window to the question that is judged by, with its states where heads draft."""
        tokens = tuple(int(token) for token in lesson.window.answers[0].token_ids)
        if not mixture.heads:
            return KnownAnswer(tokens)
        return KnownAnswer(tokens, torch.from_numpy(states_of(lesson)).to(self.target.device), self.layers)


@dataclass
class Arm:
    """What came of one combination of sources: a count a window, which windows' captions are new, how much of the ages
    went into ``heads_ms`` and into how many drafts of heads."""

    counts: list[TauCount] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)
    heads_ms: float = 0.0
    head_drafts: int = 0

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
        blocks = _blocks(len(self.counts))
        if len(blocks) < 2:
            return None
        tokens, passes = ([sum(getattr(self.counts[row], name) for row in block) for block in blocks]
                          for name in ('tokens', 'passes'))
        return interval_95(resampled_ratio(tokens, passes, drawn_groups(len(blocks), _RESAMPLED, seed)))

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


def _blocks(count: int) -> list[range]:
    return [range(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def judge_arms(judge: Judge, lessons: Sequence[Lesson], drafters: Mapping[str, EventDrafter],
               names: Sequence[str] = tuple(ARMS), advance: Callable[[float], None] = lambda count: None,
               heads: Mapping[str, Head] = MappingProxyType({})) -> dict[str, Arm]:
    """What each combination of sources (`ARMS`, `head_arms`) does on the held-out windows, in the order of time."""
    arms, mixtures = {}, ARMS | head_arms(tuple(heads))
    for name in names:
        mixture = mixtures[name]
        if not mixture.drafter or mixture.drafter in drafters:
            arms[name] = _judged(judge, lessons, mixture, drafters.get(mixture.drafter), heads)
        advance(1)
    return arms


def _judged(judge: Judge, lessons: Sequence[Lesson], mixture: Mixture, drafter: EventDrafter | None,
            heads: Mapping[str, Head]) -> Arm:
    arm, (proposer, sources), curve = Arm(), judge.proposer(mixture, heads), CostCurve(judge.cost_ms)
    before: tuple[int, tuple[int, ...]] | None = None
    for number, lesson in enumerate(lessons, 1):
        known = judge.known(lesson, mixture)
        truth = known.token_ids
        if before is not None and before[0] != lesson.drive:
            before = None
        count = TauCount()
        redraft = redrafter(judge, drafter, lesson, number) if drafter is not None else None
        spent_ms = sum(source.spent_ms for source in sources)
        count_window(proposer, number, 'held out', known, count, max_nodes=NODES, redraft=redraft,
                     fused_tokens=judge.fused_tokens)
        arm.counts.append(count)
        forwards_ms = passes_ms(curve, count.trees, judge.fused_tokens)
        arm.heads_ms = sum(source.spent_ms for source in sources)
        arm.ages_ms.append(forwards_ms + arm.heads_ms - spent_ms)
        arm.changed.append(before is not None and before[1] != truth)
        before = lesson.drive, truth
    arm.head_drafts = sum(source.counts()['drafts'] for source in sources)
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
    return _sooner(with_it, without) and (with_it.tau() or 0.0) > (without.tau() or 0.0)


def _sooner(with_it: Arm, without: Arm) -> bool:
    return float(np.mean(with_it.ages_ms)) < _PAYS * float(np.mean(without.ages_ms))


def age_over(arm: Arm, base: Arm, seed: int = 0) -> tuple[float, tuple[float, float] | None]:
    """How much older captions are, ms, on the mean over windows; 95% over the same resampled blocks of both, None for
    fewer than two blocks."""
    over = np.array(arm.ages_ms) - np.array(base.ages_ms)
    blocks = _blocks(len(over))
    if len(blocks) < 2:
        return float(over.mean()), None
    draws = drawn_groups(len(blocks), _RESAMPLED, seed)
    return float(over.mean()), interval_95(resampled_ratio([over[block].sum() for block in blocks],
                                                           list(map(len, blocks)), draws))


def head_pays(arms: Mapping[str, Arm], name: str) -> bool:
    """Whether captions come sooner with these heads beside all other sources, by more than chance where that can be
    told."""
    _, interval = age_over(arms[name], arms['merged'])
    return _sooner(arms[name], arms['merged']) and (interval is None or interval[1] < 0)


def heads_to_load(arms: Mapping[str, Arm], kinds: Sequence[str]) -> list[str]:
    """The heads with which captions come soonest, of each that pays and all together if they do; none where none pays.
    """
    choices = {with_head(kind): [kind] for kind in kinds} | ({ALL_HEADS: list(kinds)} if ALL_HEADS in arms else {})
    paying = [name for name in choices if head_pays(arms, name)]
    return choices[min(paying, key=lambda name: float(np.mean(arms[name].ages_ms)))] if paying else []


def head_figures(heads: Mapping[str, TrainedHead], arms: Mapping[str, Arm], target: TransformersTarget
                 ) -> dict[str, dict[str, Any]]:
    """What each head is, what it costs, and whether it pays, JSON-ready."""
    whole, found = sum(weight.numel() for weight in target.model.parameters()), {}
    for kind, trained in heads.items():
        alone, merged = arms[kind], arms[with_head(kind)]
        over_ms, interval = age_over(merged, arms['merged'])
        size = sum(weight.numel() for weight in trained.head.parameters())
        found[kind] = {
            'parameters': size, 'of_verifier': round(size / whole, 4), 'layers': list(trained.head.layers),
            'words': trained.head.config.words,
            'draft_ms': round(alone.heads_ms / max(1, alone.head_drafts), 3),
            'head_ms_a_caption': round(merged.heads_ms / len(merged.ages_ms), 3),
            'age_over_merged_ms': round(over_ms, 2), 'age_over_merged_95': interval and [round(x, 2) for x in interval],
            'pays': head_pays(arms, with_head(kind)), 'losses': trained.losses()}
    return found
