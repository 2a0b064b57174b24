"""What `crossspec advise` measures of a verifier on its user's drives, and what follows from it.

The verifier answers the windows once. What each kind of draft says of them, and how many tokens a pass that makes, is
then counted on those answers (`learn.proof`): verification is lossless. Ages follow from the measured times by the one
model of `speculation.age`.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from time import perf_counter_ns
from typing import Any

import numpy as np

from crossspec_ros.bench.decode import hardware
from crossspec_ros.config import DEFAULT_PROMPT
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.answering import Answerer
from crossspec_ros.learn.drives import DriveReader, DriveWindow, Split, open_recording
from crossspec_ros.learn.lessons import Lesson
from crossspec_ros.learn.proof import NEW, Arm, Judge, draft_texts, judge_arms
from crossspec_ros.learn.settings import LearnConfig
from crossspec_ros.learn.store import EARLY
from crossspec_ros.models.drafter import EventDrafter, load_drafter
from crossspec_ros.models.heads import StateHead, load_heads
from crossspec_ros.models.targets import TransformersTarget, load_target
from crossspec_ros.speculation.age import Timing
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.costs import Stages, measure_stages
from crossspec_ros.speculation.decision import (DRAFTED, FORMS, LABELS, Drafts, Row, chosen, decide, method_of,
                                                methods_of, needed_tau, prefill_share)
from crossspec_ros.speculation.drafter import VoxelGrid
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources.heads import FINAL
from crossspec_ros.world import EVALUATION_SEED

TRANSPORT_MS = 2.0               # a draft on its way between two processes of one machine
HEAD_STEP, MIDDLE_STEP = 0.25, 0.5      # of c(1), where heads and a middle model are not measured
DRIVES = (f'world:{EVALUATION_SEED + 4000}', f'world:{EVALUATION_SEED + 4001}:brisk')
_TIMED = 3                       # windows that generate itself answers
_LEAST = 2
Bar = Callable[[str, float, str], AbstractContextManager[Callable[[float], None]]]


@dataclass(frozen=True)
class AdviceOptions:
    """What is measured. ``assumed``: drafts that are not measured, by method. Raises CrossSpecError for what cannot be.
    """

    model: str = 'builtin'
    bags: tuple[str, ...] = DRIVES
    windows: int = 40
    drafter: str = ''
    heads: tuple[str, ...] = ()
    prompt: str = DEFAULT_PROMPT
    max_new_tokens: int = EngineConfig().max_new_tokens
    frame_interval_ms: float = 125.0
    device: str = 'cpu'
    dtype: str = 'float32'
    topics: tuple[str, ...] = ()
    assumed: Mapping[str, Drafts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.windows < _LEAST * len(self.bags):
            raise CrossSpecError(f'windows must be >= {_LEAST} for each of the {len(self.bags)} drives, got '
                                 f'{self.windows}')
        for name, drafts in self.assumed.items():
            method_of(name, drafts)

    def learning(self) -> LearnConfig:
        """The same for reading and answering drives: windows follow each other as in the graph."""
        return LearnConfig(bags=self.bags, model=self.model, out=Path(), prompts=(self.prompt,), slide=8,
                           frame_interval_ms=self.frame_interval_ms, device=self.device, dtype=self.dtype,
                           max_new_tokens=self.max_new_tokens, topics=self.topics)


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured: ``generate_step_ms`` is what a token of generate takes more than c(1); ``identical`` of
    ``timed`` windows had the tokens of generate."""

    costs_ms: dict[int, float]
    stages: Stages
    timing: Timing
    generate_step_ms: float
    lessons: list[Lesson]
    timed: int
    identical: int

    @property
    def tokens(self) -> float:
        """Of an answer on the mean, the end token among them."""
        return fmean(len(lesson.window.answers[0].token_ids) for lesson in self.lessons)


# -- measuring ---------------------------------------------------------------------------------------------------------

def advise(options: AdviceOptions, bar: Bar) -> tuple[dict[str, Any], Timing, dict[str, Drafts]]:
    """Measure and compare; the report, JSON-ready, and what the map is drawn from.

    Raises CrossSpecError for bad input, and where too few windows can be answered.
    """
    config = options.learning()
    for number in range(len(config.bags)):
        open_recording(config, number).close()                   # before a model is loaded
    drafter = drafter_of(options)
    target = load_target(options.model, options.device, options.dtype, fps=1000.0 / options.frame_interval_ms,
                         max_new_tokens=options.max_new_tokens)
    heads = load_heads(options.heads, target)
    measured = measure(options, config, target, drafter, heads, bar)
    arms, drafts = judged(options, target, drafter, heads, measured, bar)
    drafts |= options.assumed
    rows = decide(measured.timing, methods_of(drafts, measured.generate_step_ms), measured.tokens)
    return _report(options, measured, arms, drafts, rows), measured.timing, drafts


def drafter_of(options: AdviceOptions) -> EventDrafter | None:
    """The event drafter that was named; the built-in one where the verifier is, too; None where there is none."""
    name = options.drafter or ('builtin' if options.model == 'builtin' else 'none')
    return None if name == 'none' else load_drafter(name)


def windows_of(options: AdviceOptions, config: LearnConfig, view: VoxelGrid) -> Iterator[tuple[int, DriveWindow]]:
    """Windows of all drives with the drive's number, as many of each. Raises CrossSpecError as `open_recording`."""
    span_ns, count = config.grid().span_ns, len(config.bags)
    for number in range(count):
        wanted = options.windows // count + (number < options.windows % count)
        source = open_recording(config, number)
        try:
            stop_ns = source.start_ns + (wanted + 3) * span_ns
            split = Split(source.start_ns, stop_ns, stop_ns)
            reader = DriveReader(config, split, view)
            for window in itertools.islice(reader.windows(source), wanted):
                yield number, window
        finally:
            source.close()


def measure(options: AdviceOptions, config: LearnConfig, target: TransformersTarget, drafter: EventDrafter | None,
            heads: Sequence[StateHead], bar: Bar) -> Measured:
    """The verifier's times, at the size of the drives' frames, and its answers."""
    view = drafter.view if drafter is not None else VoxelGrid(5, 64, 80)
    answerer = Answerer(target, config, _layers(heads))
    lessons, plain, costs, size = [], [], {}, None
    with bar('answering', options.windows, 'windows') as advance:
        for number, window in windows_of(options, config, view):
            if size is None:
                size = window.frames[0].shape[:2]
                costs = answerer.engine.warm_up(options.prompt, *size)
            lessons.append(Lesson(number, answerer.answer(window)))
            if len(plain) < _TIMED:
                plain.append(_generated(target, window, options, first=not plain))
            advance(1)
    if len(lessons) < _LEAST:
        raise CrossSpecError(f'{len(lessons)} windows with frames and events were found, {_LEAST} are needed: name '
                             'longer drives, and try `crossspec bag info BAG`')
    layout = target.layout(options.prompt, answerer.engine.config.window_frames, *size)
    stages = measure_stages(target, layout, *size)
    same = sum(_same(target, told[2], lesson.window.answers[0].token_ids)
               for told, lesson in zip(plain, lessons))
    whole_ms, step_ms = (median(told[place] for told in plain) for place in (0, 1))
    curve, group = CostCurve(costs), layout.groups[-1]
    ahead = target.abilities.anticipatory
    timing = Timing(curve, whole_ms, stages.encode_ms, layout.last_tokens, None, stages.encode_ms + stages.prefill_ms,
                    len(layout.groups), group.frames * options.frame_interval_ms, ahead)
    return Measured(costs, stages, timing, max(0.0, step_ms - curve(1)), lessons, len(plain), same)


def _layers(heads: Sequence[StateHead]) -> tuple[int, ...]:
    return (*sorted({layer for head in heads for layer in head.layers} - {FINAL}), FINAL) if heads else ()


def _generated(target: TransformersTarget, window: DriveWindow, options: AdviceOptions, first: bool
               ) -> tuple[float, float, tuple[int, ...]]:
    """What transformers' own generate takes to the first token, and for each further one; its tokens."""
    def timed(most: int) -> tuple[float, tuple[int, ...]]:
        start_ns = perf_counter_ns()
        tokens = target.generate(window.frames, options.prompt, most)
        return (perf_counter_ns() - start_ns) / 1e6, tokens
    if first:
        timed(1)
    begun_ms, _ = timed(1)
    whole_ms, tokens = timed(options.max_new_tokens)
    return begun_ms, max(0.0, whole_ms - begun_ms) / max(1, len(tokens) - 1), tokens


def _same(target: TransformersTarget, tokens: Sequence[int], answer: Sequence[int]) -> bool:
    ends = set(target.eos_ids)
    return [token for token in tokens if token not in ends] == [int(token) for token in answer if token not in ends]


# -- drafts ------------------------------------------------------------------------------------------------------------

def judged(options: AdviceOptions, target: TransformersTarget, drafter: EventDrafter | None,
           heads: Sequence[StateHead], measured: Measured, bar: Bar) -> tuple[dict[str, Arm], dict[str, Drafts]]:
    """What each kind of draft came to on the answers. The event drafter's drafts that are there before the newest frame
    are made of what it had seen by then."""
    judge = _judge(options, target, heads, measured)
    named = {head.name: head for head in heads}
    with bar('judging drafts', 3, '') as advance:
        arms = judge_arms(judge, measured.lessons, {}, ('previous', 'memory', 'merged_without', *named), heads=named)
        advance(1)
        drafts = {'lookup': drafts_of(arms['previous']), 'memory': drafts_of(arms['memory']),
                  'fused': drafts_of(arms['merged_without'])}
        if drafter is not None:
            early = [Lesson(lesson.drive, replace(lesson.window, voxels=np.asarray(lesson.window.voxels)[[EARLY] * 2]))
                     for lesson in measured.lessons]
            before = judge_arms(_judge(options, target, heads, measured), early, {NEW: drafter},
                                ('event_drafter', 'merged'))
            advance(1)
            arms |= judge_arms(judge, measured.lessons, {NEW: drafter}, ('event_drafter',))
            arms |= {'event_drafter_early': before['event_drafter'], 'merged': before['merged']}
            draft_ms = median(draft_texts(judge, drafter, measured.lessons)[1])
            drafts |= {'drafter_late': drafts_of(arms['event_drafter'], there_ms=draft_ms + TRANSPORT_MS),
                       'drafter_early': drafts_of(arms['event_drafter_early']), 'fused': drafts_of(arms['merged'])}
    if named:
        best = max(named, key=lambda name: arms[name].tau() or 0.0)
        drafts['heads'] = drafts_of(arms[best])
    return arms, drafts


def _judge(options: AdviceOptions, target: TransformersTarget, heads: Sequence[StateHead], measured: Measured) -> Judge:
    longest = max(len(lesson.window.answers[0].token_ids) for lesson in measured.lessons)
    return Judge(target, options.prompt, measured.costs_ms, measured.timing.last_tokens, longest,
                 layers=_layers(heads))


def drafts_of(arm: Arm, there_ms: float = 0.0) -> Drafts:
    """An arm's mean tokens a pass, mean nodes, and what its heads took, a pass."""
    trees = [nodes for count in arm.counts for nodes in count.trees]
    return Drafts(max(1.0, arm.tau()), fmean(trees), arm.heads_ms / len(trees), there_ms)


# -- what follows ------------------------------------------------------------------------------------------------------

def _report(options: AdviceOptions, measured: Measured, arms: Mapping[str, Arm], drafts: Mapping[str, Drafts],
            rows: Sequence[Row]) -> dict[str, Any]:
    timing, tokens = measured.timing, measured.tokens
    best = chosen(rows)
    report: dict[str, Any] = {
        'model': options.model, 'drives': list(options.bags), 'windows': len(measured.lessons),
        'hardware': hardware(options.device), 'dtype': options.dtype, 'prompt': options.prompt,
        'tokens': round(tokens, 2), 'last_tokens': timing.last_tokens,
        'prefill_share': round(prefill_share(timing, tokens), 4),
        'cost_ms': {str(count): round(cost_ms, 3) for count, cost_ms in measured.costs_ms.items()},
        'stages_ms': {name: round(value, 3) for name, value in asdict(measured.stages).items()},
        'generate_ms': {'first_token': round(timing.whole_ms, 3),
                        'further_token': round(timing.cost(1) + measured.generate_step_ms, 3)},
        'identical': {'windows': measured.identical, 'of': measured.timed}, 'ahead': timing.ahead,
        'backlog_ms': round(timing.backlog_ms, 3),
        'methods': [_told(row, drafts, options) for row in rows],
        'replayed': {name: {'tau': round(arm.tau(), 3), 'age_over_encoding_ms': round(fmean(arm.ages_ms), 3)}
                     for name, arm in arms.items()},
        'would_need': _would_need(timing, tokens, drafts, best), 'use': best.method.name}
    return report | {'advice': sentence(report, rows, best)}


def _told(row: Row, drafts: Mapping[str, Drafts], options: AdviceOptions) -> dict[str, Any]:
    method, named = row.method, row.method.name
    return {'name': named, 'label': LABELS[named], 'age_ms': round(row.age_ms, 2), 'speedup': round(row.speedup, 3),
            'bound': round(row.bound, 3), 'tau': round(method.tau, 3), 'nodes': round(method.nodes, 2),
            'step_ms': round(method.step_ms, 3), 'there_ms': round(method.there_ms, 3),
            'pays_from_tau': None if row.pays_from_tau is None else round(row.pays_from_tau, 3),
            'from': 'assumed' if named in options.assumed else 'measured'}


def _would_need(timing: Timing, tokens: float, drafts: Mapping[str, Drafts], best: Row) -> dict[str, Any]:
    """Of methods that are neither measured nor assumed: the tau from which on they would be as young as the best."""
    found = {}
    for name, share in (('heads', HEAD_STEP), ('cascade', MIDDLE_STEP)):
        if name not in drafts:
            step_ms = share * timing.cost(1)
            tau = needed_tau(timing, name, step_ms, tokens, best.age_ms)
            found[name] = {'step_ms': round(step_ms, 3), 'tau': None if tau is None else round(tau, 2)}
    return found


def sentence(report: Mapping[str, Any], rows: Sequence[Row], best: Row) -> str:
    """The advice in one plain sentence."""
    others = [row for row in rows if row.method.name in ('generate', 'ahead') and row is not best]
    second = next((row for row in rows if row is not best and row.method.name in DRAFTED), None)
    compared = [f'{_named(row)} would be {row.age_ms:.0f} ms' for row in filter(None, (second, *others))]
    pays = best.pays_from_tau or max((row.pays_from_tau or 0.0 for row in rows if row.method.fused), default=0.0)
    parts = [f'use {_named(best)}: caption age about {best.age_ms:.0f} ms', ', '.join(compared)]
    if pays:
        parts.append(f'such drafts do not pay below {pays:.2f} tokens a pass at this cost curve')
    if report['identical']['windows'] < report['identical']['of']:
        parts.append('but captions are not those of generate: run `crossspec model check` first')
    return '; '.join(filter(None, parts)) + '.'


def _named(row: Row) -> str:
    short = {'generate': 'generate as it is', 'ahead': 'no drafts with frames prefilled as they come',
             'lookup': 'the previous caption alone after a whole prefill', 'memory': 'the caption memory alone',
             'drafter_late': 'the event drafter from the window\'s end', 'drafter_early': 'the event drafter alone',
             'heads': 'heads', 'cascade': 'a cascade', 'fused': 'all drafts, verified in the last prefill'}
    assert set(short) == set(FORMS), 'every method must have its words'
    return short[row.method.name]
