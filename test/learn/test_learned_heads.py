"""Heads learned in the course: what is kept for them, what they are worth, and that no caption depends on them."""
from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import toy_drive
import torch

from crossspec_ros.config import VerifierConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.answering import look_at_drives
from crossspec_ros.learn.course import learn
from crossspec_ros.learn.drives import Split
from crossspec_ros.learn.heads import plan_heads, train_heads
from crossspec_ros.learn.lessons import Lessons
from crossspec_ros.learn.proof import Arm, Judge, Mixture, age_over, head_pays, heads_to_load, judge_arms, with_head
from crossspec_ros.learn.report import advice, head_verdicts, render_page
from crossspec_ros.learn.settings import LearnConfig
from crossspec_ros.learn.store import Store, read_part
from crossspec_ros.models.drafter import load_drafter
from crossspec_ros.models.heads import KINDS, load_head
from crossspec_ros.models.targets import load_target
from crossspec_ros.pipeline.building import build_engine
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.sources.heads import FINAL, HeadDraft, HeadSource
from crossspec_ros.speculation.types import Draft, prompt_key
from crossspec_ros.train.head_stage import HeadStage
from crossspec_ros.train.tau import TauCount
from tiny_models import write_checkpoint

QUESTION = 'What is ahead?'
SOURCES = ('drafter', *KINDS)
QUICK = {'bags': ('toy:1:40',), 'slide': 8, 'steps': 4, 'batch': 20, 'sources': ('drafter', 'medusa'),
         'prompts': (QUESTION,)}


@pytest.fixture(scope='module')
def deep(tmp_path_factory) -> Path:
    """A verifier with layers enough that heads read some in between."""
    return write_checkpoint(tmp_path_factory.mktemp('deep') / 'onevision', 'llava_onevision', seed=3, context=1024,
                            layers=4)


@pytest.fixture(scope='module')
def target(deep):
    return load_target(deep)


@pytest.fixture(scope='module')
def learned(tmp_path_factory, deep, base):
    """The folder of a course with every source, its settings and its report."""
    folder, patch = tmp_path_factory.mktemp('course'), pytest.MonkeyPatch()
    patch.setattr('crossspec_ros.learn.drives.open_source', toy_drive.open_toy)
    # Asked, and trees as large as they may be, however slow this machine is.
    patch.setitem(HeadSource.__init__.__kwdefaults__, 'clock', lambda: 0)
    patch.setattr('crossspec_ros.speculation.engine.measure_costs',
                  lambda target, layout, counts, *size, **options: {count: 10.0 + 0.01 * count for count in counts})
    config = toy_drive.toy_config(folder, deep, base=str(base), prompts=(QUESTION,), bags=('toy:1:40',), slide=8,
                                  steps=40, batch=20, sources=SOURCES)
    report = learn(config, lambda *told: nullcontext(lambda count: None))
    patch.undo()
    return config, report


def _frames(window):
    images = {m.stamp_ns: m.data.rgb() for m in toy_drive.ToySource(1, 40).messages(0) if m.role == 'image'}
    return [images[window.end_ns - 125_000_000 * back] for back in range(7, -1, -1)]


def _windows(config):
    store = Store(config.work / 'answers')
    return [window for path in store.parts(0) for window in read_part(path)]


def test_answers_hold_the_states_from_which_generate_says_each_token(learned, target):
    config, _ = learned
    layers = plan_heads(config, target).layers
    assert layers == (1, 2, FINAL)
    for window in _windows(config)[::16]:
        answer = window.answers[0]
        said = target.model.generate(
            **target.adapter.inputs(QUESTION, _frames(window)), do_sample=False, max_new_tokens=config.max_new_tokens,
            suppress_tokens=list(target.banned_ids), eos_token_id=list(target.eos_ids), output_hidden_states=True,
            return_dict_in_generate=True)
        states = torch.stack([torch.stack([step[-1 if layer == FINAL else layer + 1][0, -1] for layer in layers])
                              for step in said.hidden_states])
        assert answer.states.shape == states.shape
        np.testing.assert_allclose(np.asarray(answer.states, np.float32), states.numpy(), rtol=2e-3, atol=2e-3)


def test_every_source_is_judged_alone_and_merged(learned):
    _, report = learned
    arms = report['arms']
    assert {*KINDS, *map(with_head, KINDS), 'merged_heads', 'merged', 'event_drafter'} <= set(arms)
    assert all(arms[kind]['acceptance_by_position'] and arms[kind]['age_ms']['p99'] > 0 for kind in KINDS)
    assert max(arms[kind]['tau'] for kind in KINDS) > 1.3
    for kind, head in report['heads'].items():
        assert head['losses']['loss'][-1] < head['losses']['loss'][0]
        assert head['parameters'] > 0 and head['draft_ms'] >= 0
        difference = arms[with_head(kind)]['age_ms']['mean'] - arms['merged']['age_ms']['mean']
        assert head['age_over_merged_ms'] == pytest.approx(difference, abs=0.02)
        assert head['pays'] is False or difference < 0
    assert set(report['heads_to_load']) <= set(KINDS)


@torch.inference_mode()
def test_captions_with_all_that_was_learned_are_those_of_generate(learned, deep, target):
    config, _ = learned
    folders = tuple(str(config.out / 'heads' / kind) for kind in KINDS)
    decode = dataclasses.replace(VerifierConfig().decode, max_new_tokens=24)
    engine = build_engine(VerifierConfig(model=str(deep), heads=folders, decode=decode))
    engine.proposer.cost.observe = lambda tokens, cost_ms: None
    drafter, windows = load_drafter(config.out), _windows(config)[-4:]
    for number, window in enumerate(windows):
        draft = drafter.draft(window.voxels[1].astype(np.float32), prompt=QUESTION)
        session = engine.open(number, window.end_ns, QUESTION)
        for slot, frame in enumerate(frames := _frames(window)):
            session.add_frame(slot, number * 8 + slot, frame)
        engine.offer(Draft(number, window.end_ns, 0, prompt_key(QUESTION), drafter.tokenizer_key, draft.text,
                           tuple(draft.token_ids), tuple(draft.parents), tuple(draft.weights)))
        *_, final = session.answer()
        session.close()
        said = target.generate(frames, QUESTION, engine.config.max_new_tokens)
        assert final.token_ids == tuple(token for token in said if token not in target.eos_ids)
    counts = engine.proposer.counts()
    assert all(counts[f'{kind}_drafts'] > 0 and not counts[f'{kind}_failed'] for kind in KINDS)
    assert sum(source['num_accepted_tokens'] for name, source in engine.statistics()['proposer']['sources'].items()
               if name in KINDS) > 0


def test_heads_are_refused_beside_another_verifier(learned, verifier):
    config, _ = learned
    with pytest.raises(CrossSpecError, match='trained on the states of the verifier'):
        load_head(config.out / 'heads' / 'medusa', load_target(verifier))


def test_page_and_json_have_the_heads(learned):
    config, report = learned
    page = (config.out / 'report.html').read_text(encoding='utf-8')
    told = json.loads((config.out / 'report.json').read_text(encoding='utf-8'))
    assert told['heads'] == report['heads']
    for kind in KINDS:
        assert f'head {kind}' in page and f'all, and {kind}' in page
    assert page.count('pays</b>') + page.count('does not pay</b>') == page.count('<td><b>') == len(KINDS)


def test_report_says_which_heads_pay_and_how_to_load_them(learned):
    _, report = learned
    heads = {kind: {**report['heads'][kind], 'pays': pays, 'age_over_merged_ms': -7.5 if pays else 7.5}
             for kind, pays in (('eagle1', True), ('block', False))}
    told = {**report, 'heads': heads, 'heads_to_load': ['eagle1']}
    first, second = head_verdicts(told)
    assert first.startswith('The head eagle1 pays') and 'captions come 7.5 ms sooner' in first
    assert second.startswith('The head block does not pay') and 'captions come 7.5 ms later' in second
    assert any('model.heads=[' in line and line.count('heads/eagle1') == 1 for line in advice(told))
    assert any('Load none of the heads' in line for line in advice({**told, 'heads_to_load': []}))
    assert 'does not pay' in render_page(told)


def test_run_goes_on_only_with_the_same_sources(learned, toys, bar):
    config, _ = learned
    with pytest.raises(CrossSpecError, match='begun with another sources'):
        learn(dataclasses.replace(config, sources=('drafter', 'medusa'), resume=True), bar)


def test_training_of_a_head_that_was_killed_goes_on_to_the_same_weights(deep, target, base, tmp_path, toys, bar,
                                                                       monkeypatch):
    config = toy_drive.toy_config(tmp_path, deep, base=str(base), **QUICK)
    loss, calls = HeadStage.loss, []

    def dying(self, rng, batch, done):
        calls.append(done)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss(self, rng, batch, done)

    stage_of = LearnConfig.head_stage
    monkeypatch.setattr(LearnConfig, 'head_stage', lambda self, kind: dataclasses.replace(stage_of(self, kind),
                                                                                          checkpoint_s=0.0))
    monkeypatch.setattr(HeadStage, 'loss', dying)
    with pytest.raises(KeyboardInterrupt):
        learn(config, bar)
    assert not config.out.exists()
    learn(dataclasses.replace(config, resume=True), bar)
    assert len(calls) == 3 + 2 and calls[3] == 0.5                           # two steps of four were left
    resumed = load_head(config.out / 'heads' / 'medusa', target).state_dict()
    lessons = Lessons.read(Store(config.work / 'answers'), config, look_at_drives(config))
    for out, more in ((config.out, 0), (tmp_path / 'whole', 4)):            # what is finished is not learned anew
        before, plan = len(calls), plan_heads(config, target)
        trained = train_heads(plan, target, lessons, dataclasses.replace(config, out=out))['medusa'].head.state_dict()
        assert len(calls) == before + more
        assert all(torch.equal(resumed[name], trained[name]) for name in resumed)


def test_loss_of_a_head_that_is_no_number_ends_the_course_and_keeps_the_answers(deep, base, tmp_path, toys, bar,
                                                                               monkeypatch):
    config, loss = toy_drive.toy_config(tmp_path, deep, base=str(base), **QUICK), HeadStage.loss
    monkeypatch.setattr(HeadStage, 'loss', lambda self, *given: (loss(self, *given)[0] * float('nan'), {}))
    with pytest.raises(CrossSpecError, match='loss of stage medusa is nan.*--resume'):
        learn(config, bar)
    assert not config.out.exists() and Store(config.work / 'answers').last(0) is not None


def test_verifier_that_no_head_can_use_is_refused_before_anything_is_answered(deep, base, tmp_path, toys, bar,
                                                                             monkeypatch):
    config = toy_drive.toy_config(tmp_path, deep, base=str(base), **QUICK)
    load = load_target

    def quantised(*given, **named):
        target = load(*given, **named)
        head = target.adapter.head
        head.weight = torch.nn.Parameter(head.weight.detach().to(torch.int8), requires_grad=False)
        return target

    monkeypatch.setattr('crossspec_ros.learn.course.load_target', quantised)
    with pytest.raises(CrossSpecError, match='output matrix in floating point'):
        learn(config, bar)
    assert not config.work.exists()


def test_head_that_says_what_is_said_is_counted_so_and_its_time_is_paid_for(learned, target):
    """A head that knows the answers: one pass for the first token, one for the rest, and its time in the ages."""
    config, _ = learned
    held = Lessons.read(Store(config.work / 'answers'), config, [Split(0, 32 * 10**9, 40 * 10**9)]).held
    answers = [tuple(lesson.window.answers[0].token_ids.tolist()) for lesson in held]

    class Knowing:
        name, layers = 'medusa', (FINAL,)

        def read(self, context, states, token_ids):
            assert states.shape[:2] == (len(token_ids), 1) and bool(states.any())
            return (*(context or ()), *token_ids)

        def draft(self, context, depth, least):
            rest = next(answer[len(context):] for answer in answers if answer[:len(context)] == context)
            return HeadDraft(rest, tuple(range(-1, len(rest) - 1)), (0.99,) * len(rest))

    costs = {1: 10.0, 8: 11.0, 64: 14.0, 512: 40.0}
    judge = Judge(target, QUESTION, costs, 16, layers=(1, 2, FINAL))
    arm = judge_arms(judge, held, {}, ('medusa',), heads={'medusa': Knowing()})['medusa']
    assert arm.counts[0].passes == 2 and arm.head_drafts >= len(held) and arm.tau() > 1.5
    forwards_ms = sum(CostCurve(costs)(nodes + 1 + (0 if place else 15))
                      for count in arm.counts for place, nodes in enumerate(count.trees))
    assert sum(arm.ages_ms) - arm.heads_ms == pytest.approx(forwards_ms)
    plain = judge_arms(Judge(target, QUESTION, costs, 16), held, {}, ('previous',))['previous']
    assert arm.heads_ms > 0 and plain.heads_ms == 0
    assert judge.known(held[0], Mixture()).states is None


def _arm(*ages_ms: float) -> Arm:
    return Arm([TauCount(passes=2, tokens=8)] * len(ages_ms), list(ages_ms), [False] * len(ages_ms))


def test_head_pays_only_where_captions_come_sooner_by_more_than_chance():
    base = _arm(*[30.0] * 40)
    sooner, later, chance = _arm(*[25.0] * 40), _arm(*[31.0] * 40), _arm(*[30.0] * 30, *[20.0] * 10)
    arms = {'merged': base, 'merged_eagle1': sooner, 'merged_medusa': later, 'merged_block': chance}
    assert [head_pays(arms, name) for name in list(arms)[1:]] == [True, False, False]
    assert age_over(sooner, base) == (-5.0, (-5.0, -5.0)) and age_over(_arm(29.0), _arm(30.0)) == (-1.0, None)
    assert heads_to_load(arms, ('eagle1', 'medusa', 'block')) == ['eagle1']
    assert heads_to_load(arms, ('medusa', 'block')) == []
    together = arms | {'merged_heads': _arm(*[24.0] * 40)}
    assert heads_to_load(together, ('eagle1', 'medusa', 'block')) == ['eagle1', 'medusa', 'block']
