"""The whole course at toy size: what is learned, what is kept when it is stopped, what the result says of itself."""
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import toy_drive

from crossspec_ros import cli
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn import answering
from crossspec_ros.learn.course import learn
from crossspec_ros.learn.lessons import Lessons
from crossspec_ros.learn.proof import Arm, pays
from crossspec_ros.learn.stage import LearnStage
from crossspec_ros.learn.store import Store, read_part
from crossspec_ros.models.drafter import load_drafter
from crossspec_ros.models.keys import checkpoint_key
from crossspec_ros.models.targets import load_target
from crossspec_ros.pipeline.drafting import DraftingPipeline
from crossspec_ros.timing.window import WindowGrid
from crossspec_ros.train.tau import TauCount

QUICK = {'bags': ('toy:1:40',), 'slide': 8, 'steps': 3, 'batch': 8}


@pytest.fixture(scope='module')
def learned(tmp_path_factory, verifier, base):
    """The folder of a course, its settings and its report."""
    folder, patch = tmp_path_factory.mktemp('course'), pytest.MonkeyPatch()
    patch.setattr('crossspec_ros.learn.drives.open_source', toy_drive.open_toy)
    from contextlib import nullcontext
    config = toy_drive.toy_config(folder, verifier, base=str(base), prompts=('What is ahead?', 'Is it safe?'),
                                  bags=('toy:1:40',), steps=150)
    report = learn(config, lambda *told: nullcontext(lambda count: None))
    patch.undo()
    return config, report


def test_drafter_learns_what_the_verifier_says(learned):
    config, report = learned
    arms = report['arms']
    assert arms['event_drafter']['tau'] > 1.5 * arms['base_drafter']['tau']
    assert report['losses']['loss'][-1] < 0.8 * report['losses']['loss'][0]
    assert report['windows'] == {'learned': 63, 'held_out': 8} and not report['lost']


def test_answers_are_those_of_generate_with_the_likeliest_tokens(learned, verifier):
    config, _ = learned
    target, source = load_target(verifier), toy_drive.ToySource(1, 40)
    part = read_part(Store(config.work / 'answers').parts(0)[1])
    images = {m.stamp_ns: m.data.rgb() for m in source.messages(0) if m.role == 'image'}
    for window in part[:2]:
        frames = [images[window.end_ns - 125_000_000 * back] for back in range(7, -1, -1)]
        for prompt, answer in zip(config.prompts, window.answers, strict=True):
            assert tuple(answer.token_ids) == target.generate(frames, prompt, config.max_new_tokens)
            assert (answer.likely[:, 0] == answer.token_ids).all()
            assert (np.diff(answer.log_probs.astype(np.float32)) <= 0).all()
            assert np.exp(answer.log_probs.astype(np.float32)).sum(1).max() <= 1.01


def test_result_is_a_drafter_of_this_verifier_that_the_pipeline_takes(learned, verifier):
    config, report = learned
    drafter = load_drafter(config.out)
    assert drafter.verifier_key == checkpoint_key(verifier) == report['verifier_key']
    assert drafter.config.rows == report['words'] + 1 < drafter.config.vocab_size
    pipeline = DraftingPipeline(drafter, WindowGrid(), config.prompts[0])
    drafts = []
    for message in toy_drive.ToySource(5, 12).messages(0):
        if message.role == 'events':
            pipeline.account.receive()
            pipeline.add_packet(message.data)
            drafts += [pipeline.draft(job) for job in pipeline.due(message.due_ns)]
    assert len(drafts) > 15 and all(draft.trained_for == checkpoint_key(verifier) for draft in drafts)
    assert {token for draft in drafts for token in draft.token_ids} <= set(drafter.config.kept_ids)


def test_page_is_whole_and_loads_nothing(learned):
    config, report = learned
    page = (config.out / 'report.html').read_text(encoding='utf-8')
    assert 'What to do next' in page and page.count('<svg') == 4 and page.count('data:image/jpeg') == 8
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    told = json.loads((config.out / 'report.json').read_text(encoding='utf-8'))
    assert told['arms'] == report['arms'] and 'jpeg' not in told['samples'][0]


def test_words_of_the_verifier_are_escaped_in_the_page(learned):
    from crossspec_ros.learn.report import render_page
    _, report = learned
    hostile = {**report, 'model': '<script>x</script>',
               'samples': [{**report['samples'][0], 'caption': '<img src=x onerror=alert(1)>', 'draft': '<b>'}]}
    page = render_page(hostile)
    assert '<script>x' not in page and '<img src=x' not in page


def test_answers_of_a_run_that_was_killed_are_kept_and_the_end_is_the_same(learned, verifier, base, tmp_path, toys,
                                                                          bar, monkeypatch):
    whole, report = learned
    config = toy_drive.toy_config(tmp_path, verifier, base=str(base), prompts=whole.prompts, **QUICK)
    answer, asked = answering.Answerer.answer, []

    def dying(self, window):
        asked.append(window.window_id)
        if len(asked) == 20:
            raise KeyboardInterrupt
        return answer(self, window)

    monkeypatch.setattr(answering.Answerer, 'answer', dying)
    with pytest.raises(KeyboardInterrupt):
        learn(config, bar)
    assert not config.out.exists() and Store(config.work / 'answers').last(0) == asked[-2]
    again = learn(toy_drive.toy_config(tmp_path, verifier, base=str(base), prompts=whole.prompts, resume=True, **QUICK),
                  bar)
    assert len(asked) == 20 + 40 - 19                          # nothing was asked twice
    assert again['windows'] == {'learned': 32, 'held_out': 8}
    assert [one['caption'] for one in again['samples']] == [one['caption'] for one in report['samples']]


def test_loss_that_is_no_number_ends_the_course_and_keeps_the_answers(verifier, base, tmp_path, toys, bar,
                                                                     monkeypatch):
    config = toy_drive.toy_config(tmp_path, verifier, base=str(base), **QUICK)
    loss = LearnStage.loss

    def broken(self, rng, batch, done):
        value, figures = loss(self, rng, batch, done)
        return value * float('nan'), figures

    monkeypatch.setattr(LearnStage, 'loss', broken)
    with pytest.raises(CrossSpecError, match='loss of stage drafter is nan.*--resume'):
        learn(config, bar)
    assert not config.out.exists() and Store(config.work / 'answers').last(0) is not None


def test_result_never_takes_the_place_of_something_else(verifier, tmp_path, toys, bar):
    (tmp_path / 'drafter').mkdir()
    (tmp_path / 'drafter' / 'thesis.txt').write_text('years of work', encoding='utf-8')
    with pytest.raises(CrossSpecError, match='no drafter\'s folder'):
        learn(toy_drive.toy_config(tmp_path, verifier, **QUICK), bar)


@pytest.mark.parametrize(('loss', 'filtered', 'gated'), [
    ('forward_kl', True, False), ('reverse_kl', False, True), ('total_variation', True, True)])
def test_every_loss_and_option_trains(learned, loss, filtered, gated):
    import dataclasses

    from crossspec_ros.learn.drives import Split
    config, _ = learned
    config = dataclasses.replace(config, loss=loss, filtered=filtered, gated=gated)
    split = Split(0, 32 * 10**9, 40 * 10**9)
    lessons = Lessons.read(Store(config.work / 'answers'), config, [split])
    pupil, reference = load_drafter(config.out), load_drafter(config.out) if filtered else None
    stage = LearnStage(pupil, lessons, config, reference)
    for done in (0.1, 0.9):
        stage.module.zero_grad()
        value, figures = stage.loss(np.random.default_rng(0), 4, done)
        value.backward()
        learner = reference if filtered and done < 0.4 else pupil
        assert np.isfinite(float(value.detach())) and 0 <= figures['places'] <= 1
        assert any(weight.grad is not None for weight in learner.parameters())
        assert not filtered or done > 0.4 or all(weight.grad is None for weight in pupil.parameters())


def _arm(tau: int, age_ms: float) -> Arm:
    return Arm([TauCount(passes=2, tokens=2 * tau)] * 4, [age_ms] * 4, [False] * 4)


def test_drafter_pays_only_where_captions_come_sooner():
    assert pays({'merged': _arm(8, 20.0), 'merged_without': _arm(6, 30.0)})
    assert not pays({'merged': _arm(8, 30.0), 'merged_without': _arm(6, 30.0)})
    assert not pays({'merged': _arm(6, 20.0), 'merged_without': _arm(6, 30.0)})


def test_command_says_what_came_of_it(learned, verifier, base, monkeypatch, capsys, toys):
    config, report = learned
    monkeypatch.setattr('crossspec_ros.learn.course.learn', lambda config, bar: report)
    assert cli.main(['learn', 'toy:1', '--model', str(verifier), '--out', str(config.out)]) == 0
    said = capsys.readouterr().out
    assert 'event drafter, learned' in said and 'This drafter' in said and 'not used: nothing' in said
    assert cli.main(['learn', 'toy:1', '--model', str(verifier), '--out', str(config.out), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['arms'] == report['arms']


def test_work_lies_beside_the_result(learned):
    config, _ = learned
    assert config.work == Path(f'{config.out}.learning') and (config.work / 'answers' / 'run.json').is_file()
