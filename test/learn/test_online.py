"""Learning while driving: what is judged, what takes over, what is thrown away, and what is kept in which bound."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import build_tokenizer

from crossspec_ros.config import OnlineConfig
from crossspec_ros.learn import online
from crossspec_ros.learn.online import (OnlineLearner, Score, compare, copied, count_passes, right_places,
                                        said_certainly, tau)
from crossspec_ros.models.drafter import DrafterConfig, EventDrafter
from crossspec_ros.models.tokenizer import tokenizer_key
from crossspec_ros.pipeline.learning_messages import Heard, weights_of, with_weights

PROMPT = 'a car ahead'
SAYINGS = ((20, 21, 22, 23, 24, 25), (30, 31, 32, 33, 34), (40, 41, 42, 43, 44, 45, 46))
SETTINGS = OnlineConfig(online=True, judge_windows=16, rate=3e-3)


def make_drafter(**changes) -> EventDrafter:
    words = build_tokenizer(290).backend_tokenizer
    torch.manual_seed(0)
    return EventDrafter(DrafterConfig(**({
        'vocab_size': 300, 'tokenizer_key': tokenizer_key(words), 'eos_token_id': 1, 'height': 32, 'width': 32,
        'channels': (8, 8, 8, 8), 'dim': 32, 'layers': 1, 'heads': 2, 'mlp_dim': 32} | changes)), words).eval()


def heard(number: int, saying: int | None = None, **changes) -> Heard:
    """A window in which one corner of the picture tells what will be said."""
    scene = number % len(SAYINGS) if saying is None else saying
    looks = np.zeros((2, 5, 32, 32), np.float16)
    looks[:, :, 16 * (scene % 2):16 * (scene % 2) + 14, 16 * (scene // 2):16 * (scene // 2) + 14] = 3.0
    return Heard(**({'window_id': number, 'prompt': PROMPT, 'looks': looks, 'token_ids': SAYINGS[scene],
                     'verifier_key': 'feed'} | changes))


def work_all(learner: OnlineLearner) -> None:
    while learner.work():
        pass


def drive(learner: OnlineLearner, windows: int, first: int = 0):
    """Hear and work until something takes over; returns it."""
    for number in range(first, first + windows):
        learner.hear(heard(number))
        work_all(learner)
        better = learner.take_better()
        if better is not None:
            return better
    return None


@pytest.fixture(scope='module')
def taught():
    """A learner that has changed once, what took over, and the drafter that it began with."""
    drafter = make_drafter()
    learner = OnlineLearner(copied(drafter), SETTINGS, 1 << 30)
    return learner, drive(learner, 80), drafter


def test_passes_are_those_that_drafts_from_the_committed_words_take(taught):
    _, better, drafter = taught
    for each in (drafter, with_weights(copied(drafter), better.weights)):
        for window in (heard(0), heard(1), heard(2, token_ids=(40, 99, 42, 43, 98))):
            truth, committed, passes = (*window.token_ids, 1), (), 0
            while len(committed) < len(truth):
                draft = each.draft(window.looks[-1].astype(np.float32), prompt=PROMPT, prefix_ids=committed).token_ids
                rest = truth[len(committed):]
                hits = next((place for place, pair in enumerate(zip(draft, rest)) if pair[0] != pair[1]),
                            min(len(draft), len(rest)))
                committed, passes = truth[:len(committed) + hits + 1], passes + 1
            assert count_passes(right_places(each, window, said_certainly(truth))) == passes


def test_the_rival_that_was_judged_takes_over_and_drafts_better(taught):
    learner, better, drafter = taught
    assert better is not None and better.tau_after > better.tau_before and better.verifier_key == 'feed'
    assert 12 <= better.windows <= SETTINGS.judge_windows
    said = said_certainly((*SAYINGS[0], 1))
    new = with_weights(copied(drafter), better.weights)
    assert count_passes(right_places(new, heard(0), said)) < count_passes(right_places(drafter, heard(0), said))
    for name, value in weights_of(learner.active).items():
        assert np.array_equal(value, better.weights[name])
    assert learner.statistics()['tau'] > 1


def test_what_drafts_is_never_trained(taught):
    _, _, drafter = taught
    fresh = make_drafter()
    assert all(np.array_equal(value, weights_of(fresh)[name]) for name, value in weights_of(drafter).items())
    learner = OnlineLearner(fresh, SETTINGS, 1 << 30)
    before = weights_of(fresh)
    for number in range(10):
        learner.hear(heard(number))
        work_all(learner)
    assert learner.counts['steps'] > 0
    assert all(np.array_equal(value, before[name]) for name, value in weights_of(learner.active).items())


def test_a_window_is_judged_by_before_it_is_learned_from(monkeypatch):
    learner, judged = OnlineLearner(make_drafter(), SETTINGS, 1 << 30), []
    asked = online.right_places

    def watched(drafter, window, said):
        assert window not in learner._ring
        judged.append(window.window_id)
        return asked(drafter, window, said)

    monkeypatch.setattr(online, 'right_places', watched)
    for number in range(14):
        learner.hear(heard(number))
    work_all(learner)
    assert sorted(set(judged)) == list(range(14)) and learner.taken == 14


def test_one_that_drafts_worse_is_thrown_away_and_counted(taught):
    _, better, drafter = taught
    learner = OnlineLearner(with_weights(copied(drafter), better.weights), replace(SETTINGS, rate=1e-7), 1 << 30)
    for number in range(20):
        learner.hear(heard(number))
        learner.work()                                          # judged, no step
        learner._steps_due = 0
        if learner._rival is None:
            learner._rival = copied(drafter)                    # as before it had learned anything
        if learner.counts['thrown_away_worse']:
            break
    assert learner.counts['thrown_away_worse'] == 1 and learner.take_better() is None
    for name, value in weights_of(learner._pupil).items():
        assert np.array_equal(value, better.weights[name])


def test_a_loss_that_is_no_number_throws_the_copy_away_and_learning_goes_on():
    learner = OnlineLearner(make_drafter(), SETTINGS, 1 << 30)
    for number in range(8):
        learner.hear(heard(number))
        learner.work()
    with torch.no_grad():
        learner._pupil.embed.weight.fill_(float('nan'))
    learner.work()
    assert learner.counts['thrown_away_nan'] == 1 and learner.counts['steps'] == 0
    assert all(bool(torch.isfinite(weight).all()) for weight in learner._pupil.parameters())
    work_all(learner)
    assert learner.counts['steps'] > 0 and learner.counts['thrown_away_nan'] == 1


def test_windows_are_kept_within_the_bound_and_the_oldest_go():
    learner = OnlineLearner(make_drafter(), SETTINGS, 5 * heard(0).nbytes)
    for number in range(12):
        learner.hear(heard(number))
        learner.work()
    assert learner.statistics()['windows_kept'] <= 5 and learner._nbytes <= 5 * heard(0).nbytes + 100
    assert learner._ring[-1].window_id == 11 and learner._ring[0].window_id >= 7
    for number in range(12, 30):
        learner.hear(heard(number))                             # more come than are judged
    assert learner.counts['unused'] > 0
    work_all(learner)
    assert learner.taken == 30


def test_another_verifier_begins_from_nothing():
    learner = OnlineLearner(make_drafter(), SETTINGS, 1 << 30)
    for number in range(10):
        learner.hear(heard(number))
        work_all(learner)
    learner.hear(heard(10, verifier_key='cafe'))
    assert learner.counts['verifier_changed'] == 1 and len(learner._ring) == 0
    pupil, active = weights_of(learner._pupil), weights_of(learner.active)
    assert all(np.array_equal(pupil[name], active[name]) for name in active)


def test_words_that_the_drafter_lacks_are_counted_and_are_never_right():
    kept = (1, *SAYINGS[0][:3], *range(250, 260))
    drafter = make_drafter(kept_ids=kept)
    learner = OnlineLearner(drafter, SETTINGS, 1 << 30)
    for number in range(40):
        learner.hear(heard(number, saying=0))
        learner.work()
        learner.work()
    values = learner.statistics()
    assert values['words_missing'] == 40 * 3 and values['words_missing_kinds'] == 3
    assert values['words'] == 40 * len(SAYINGS[0])              # no end: no longer caption says that it was none
    right = right_places(learner._pupil, heard(0, saying=0), said_certainly(SAYINGS[0]))
    assert right[:3].all() and not right[3:].any()


def test_the_end_is_learned_only_where_a_longer_caption_was_heard():
    learner = OnlineLearner(make_drafter(), SETTINGS, 1 << 30)
    for number in range(3):
        learner.hear(heard(number))
        learner.work()
    said = [tuple(learner._said(heard(number)).token_ids.tolist()) for number in range(3)]
    assert said == [(*SAYINGS[0], 1), (*SAYINGS[1], 1), SAYINGS[2]]


def test_roll_back_makes_the_pupil_a_copy_of_what_is_active_again(taught):
    _, better, drafter = taught
    first = weights_of(drafter)
    learner = OnlineLearner(with_weights(copied(drafter), better.weights), SETTINGS, 1 << 30)
    for number in range(9):
        learner.hear(heard(number))
    for _ in range(11):
        learner.work()
    assert learner.counts['steps'] == 2
    learner._rival = copied(learner._pupil)
    learner.roll_back(first)
    for each in (learner.active, learner._pupil):
        assert all(np.array_equal(value, first[name]) for name, value in weights_of(each).items())
    assert learner.take_better() is None and learner._rival is None


@pytest.mark.parametrize('pairs, verdict', [
    pytest.param([(5, 2)] * 12, 1, id='always fewer'),
    pytest.param([(2, 5)] * 12, -1, id='always more'),
    pytest.param([(3, 3)] * 12, 0, id='the same'),
    pytest.param([(5, 2), (2, 5)] * 6, 0, id='now so, now so'),
    pytest.param([(9, 1)] + [(3, 3)] * 11, 0, id='once'),
    pytest.param([(100, 99)] * 12, 0, id='by less than is worth a change'),
    pytest.param([(5, 2)], 0, id='one window'),
    pytest.param([], 0, id='none')])
def test_a_difference_must_be_clear(pairs, verdict):
    assert compare([Score(10, active, rival) for active, rival in pairs]) == verdict


def test_tau_of_nothing_is_none():
    assert tau([], []) is None and tau([6, 6], [2, 1]) == 4
