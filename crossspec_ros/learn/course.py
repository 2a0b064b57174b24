"""The whole course: answers, training, proof, and the folder that `drafter_model:=` loads, with those of heads in it.

Everything on the way lies in a folder beside the result (``DIR.learning``), so that a run that was stopped goes on, and
the result is there only when it is whole.
"""
from __future__ import annotations

import json
import logging
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossspec_ros import __version__
from crossspec_ros.config import DrafterConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.answering import Answerer, answer_drives, count_windows, look_at_drives
from crossspec_ros.learn.drives import Split
from crossspec_ros.learn.heads import HEADS, HeadPlan, TrainedHead, plan_heads, train_heads
from crossspec_ros.learn.lessons import Lessons
from crossspec_ros.learn.proof import (ARMS, NEW, OLD, Judge, draft_texts, head_arms, head_figures, heads_to_load,
                                       judge_arms, pays)
from crossspec_ros.learn.pupil import load_base, make_pupil
from crossspec_ros.learn.report import REPORT_PAGE, advice, render_page, samples
from crossspec_ros.learn.settings import SCRATCH, LearnConfig
from crossspec_ros.learn.stage import LearnStage
from crossspec_ros.learn.store import Store, needed_mb, open_store
from crossspec_ros.models.drafter import CONFIG_FILE, EventDrafter, load_drafter
from crossspec_ros.models.drafter_folder import refuse_other_folder, write_drafter
from crossspec_ros.models.heads import save_head
from crossspec_ros.models.targets import TransformersTarget, load_target
from crossspec_ros.models.writing import write_folder_atomic
from crossspec_ros.train.loop import read_log, run_stage

_log = logging.getLogger(__name__)
REPORT = 'report.json'
SHARES = (0.25, 0.5)             # of the drives, for the curve over hours; all of them is the drafter itself
Bar = Callable[[str, float, str], AbstractContextManager[Callable[[float], None]]]
"""Makes a progress bar from a text, a total and a unit."""


@dataclass(frozen=True, eq=False)
class Course:
    """What the steps of a run share."""

    config: LearnConfig
    target: TransformersTarget
    plan: HeadPlan
    base: EventDrafter
    store: Store
    splits: list[Split]
    bar: Bar

    def read(self) -> Lessons:
        """What was answered."""
        return Lessons.read(self.store, self.config, self.splits)

    def train(self, lessons: Lessons, share: float) -> tuple[EventDrafter, Path]:
        """A drafter that learned from these lessons, and the log of its losses; goes on where it was stopped."""
        config, pupil = self.config, self._pupil(lessons)
        reference = self._pupil(lessons) if config.filtered else None
        stage = LearnStage(pupil, lessons, config, reference)
        settings = config.training() | {'share': share, 'windows': len(lessons.learned)}
        folder = config.work / f'training-{zlib.crc32(json.dumps(settings, sort_keys=True).encode()):08x}'
        try:
            run_stage(stage, config.stage(share), folder, resume=True)
        except OSError as error:
            raise CrossSpecError(f'{folder} cannot be written: {error.strerror or error}; free some space, then go on '
                                 'with --resume') from error
        return pupil.eval(), folder / 'drafter.csv'

    def _pupil(self, lessons: Lessons) -> EventDrafter:
        return make_pupil(self.base, self.target, lessons, self.config, self.target.model_key).to(self.config.device)


def learn(config: LearnConfig, bar: Bar) -> dict[str, Any]:
    """Run the course; returns the report. Raises CrossSpecError for bad input; what was answered is kept."""
    _check_out(config)
    splits = look_at_drives(config)
    target = load_target(config.model, config.device, config.dtype, fps=1000.0 / config.frame_interval_ms,
                         max_new_tokens=config.max_new_tokens)
    base = load_base(config)
    windows, look_bytes = count_windows(config, splits), 4 * int(np.prod(base.shape))
    plan = plan_heads(config, target)
    keys = {'verifier_key': target.model_key, 'tokenizer_key': target.tokenizer_key, 'view': list(base.shape)}
    most_mb = needed_mb(config, windows, look_bytes, plan.state_bytes)
    store = open_store(config, keys, most_mb, plan.layers)
    answerer = Answerer(target, config, plan.layers)
    costs = _costs(store, answerer)
    start_s = time.perf_counter()
    with bar(f'answers, up to {most_mb:.0f} MB', windows, 'windows') as advance:
        lost = answer_drives(config, answerer, store, base.view, advance)
    answered_s = _added(store, 'answered_s', time.perf_counter() - start_s)
    course = Course(config, target, plan, base, store, splits, bar)
    lessons, start_s = course.read(), time.perf_counter()
    drafter, log = course.train(lessons, 1.0)
    heads = train_heads(plan, target, lessons, config)
    trained_s = _added(store, 'trained_s', time.perf_counter() - start_s)
    report = _prove(course, lessons, drafter, heads, costs, answerer) | {
        'losses': {name: values.tolist() for name, values in read_log(log).items() if name in ('step', 'loss')},
        'lost': dict(lost), 'seconds': {'answers': round(answered_s, 1), 'training': round(trained_s, 1)},
        'size_mb': round(store.size_mb(), 1), 'cost_ms': costs}
    report['advice'] = advice(report)
    save(drafter, heads, report, config.out)
    return report


def _check_out(config: LearnConfig) -> None:
    """Raises CrossSpecError where the result would take the place of something that is no drafter."""
    out = config.out
    refuse_other_folder(out)
    if (out / CONFIG_FILE).is_file():
        load_drafter(out)                              # raises where it is a checkpoint of something else


def _costs(store: Store, answerer: Answerer) -> dict[int, float]:
    """What forwards cost, measured once a run. The engine is warm afterwards."""
    kept = store.noted('costs')
    if kept is not None:
        return {int(count): cost_ms for count, cost_ms in kept.items()}
    costs = {count: round(cost_ms, 3) for count, cost_ms in answerer.costs().items()}
    store.note('costs', costs)
    return costs


def _added(store: Store, name: str, seconds: float) -> float:
    """The time that a step has taken, runs of before included."""
    total = (store.noted(name) or 0.0) + seconds
    store.note(name, total)
    return total


def _prove(course: Course, lessons: Lessons, drafter: EventDrafter, heads: Mapping[str, TrainedHead],
           costs: dict[int, float], answerer: Answerer) -> dict[str, Any]:
    config, held = course.config, lessons.held
    layout = course.target.layout(config.prompts[0], answerer.engine.config.window_frames, 240, 320)
    longest = min(DrafterConfig().max_tokens, config.max_new_tokens + 1)
    judge = Judge(course.target, config.prompts[0], costs, layout.last_tokens, longest, layers=course.plan.layers)
    drafters = {NEW: drafter} | ({} if config.base == SCRATCH else {OLD: course.base})
    names, loaded = (*ARMS, *head_arms(tuple(heads))), {kind: head.head for kind, head in heads.items()}
    with course.bar('judging', len(names), '') as advance:
        arms = judge_arms(judge, held, drafters, names, advance, loaded)
    texts, draft_ms = draft_texts(judge, drafter, held)
    curve = []
    for share in (share for share in SHARES if len(lessons.first(share, course.splits).learned) >= config.batch):
        part = lessons.first(share, course.splits)
        fewer, _ = course.train(part, share)
        curve.append(_point(course, share, len(part.learned), judge_arms(judge, held, {NEW: fewer}, ('event_drafter',
                                                                                                    'merged'))))
    curve.append(_point(course, 1.0, len(lessons.learned), arms))
    return {
        'version': __version__, 'model': config.model, 'verifier_key': course.target.model_key,
        'prompts': config.prompts,
        'base': config.base, 'bags': config.bags, 'training': config.training() | {'steps': config.stage().steps},
        'minutes_learned': round(60 * sum(split.hours for split in course.splits), 2),
        'windows': {'learned': len(lessons.learned), 'held_out': len(held)},
        'words': len(drafter.config.kept_ids), 'vocabulary': course.target.vocab_size,
        'parameters': sum(weight.numel() for weight in drafter.parameters()),
        'draft_ms': round(float(np.median(draft_ms)), 2), 'changes': len(arms['memory'].changes()),
        'arms': {name: arm.summary() for name, arm in arms.items()}, 'curve': curve, 'pays': pays(arms),
        'heads': head_figures(heads, arms, course.target), 'heads_to_load': heads_to_load(arms, tuple(heads)),
        'out': str(config.out),
        'said_right': round(_exact(course, lessons, texts), 4), 'samples': samples(course.target, held, texts)}


def _exact(course: Course, lessons: Lessons, texts: list[str]) -> float:
    """Share of held-out captions that were drafted word for word."""
    said = [course.target.decode(lesson.window.answers[0].token_ids.tolist()) for lesson in lessons.held]
    return sum(text.split() == caption.split() for text, caption in zip(texts, said, strict=True)) / len(said)


def _point(course: Course, share: float, windows: int, arms: dict[str, Any]) -> dict[str, Any]:
    minutes = 60 * share * sum(split.hours for split in course.splits)
    return {'minutes': round(minutes, 2), 'windows': windows, 'tau': arms['event_drafter'].summary()['tau'],
            'tau_at_changes': arms['event_drafter'].summary()['tau_at_changes'],
            'merged': arms['merged'].summary()['tau']}


def save(drafter: EventDrafter, heads: Mapping[str, TrainedHead], report: dict[str, Any], out: Path) -> None:
    """The drafter's folder with its heads and its report, whole or not at all. Raises CrossSpecError where the disk is
    full."""
    page = render_page(report)
    told = {name: value for name, value in report.items() if name != 'samples'}
    told['samples'] = [{key: value for key, value in sample.items() if key != 'jpeg'} for sample in report['samples']]

    def write(folder: Path) -> None:
        write_drafter(drafter.cpu(), folder)
        for kind, trained in heads.items():
            (folder / HEADS / kind).mkdir(parents=True)
            save_head(trained.head, folder / HEADS / kind)
        (folder / REPORT).write_text(json.dumps(told, indent=1) + '\n', encoding='utf-8')
        (folder / REPORT_PAGE).write_text(page, encoding='utf-8')
    write_folder_atomic(out, write)


def lost_line(lost: Counter[str] | dict[str, int]) -> str:
    """What could not be used, in a line."""
    return ', '.join(f'{cause.replace("_", " ")} {count}' for cause, count in sorted(lost.items())) or 'nothing'
