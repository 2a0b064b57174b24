"""Drafts taken unasked: up to the first doubt, on with the verifier, with all that is lost counted."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_settings import tiny

from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.studies import confidence
from crossspec_ros.experiments.studies.pruning import split_prompt
from crossspec_ros.experiments.unasked import (
    Confidence, HeldThreshold, lost_slots, said_after, taken_unasked, threshold_for, told_apart)


@pytest.fixture(scope='module')
def lab(pair, tmp_path_factory):
    return Lab(tiny(confidence.EXPERIMENT, pair), tmp_path_factory.mktemp('lab'))


@pytest.mark.parametrize('confidences, threshold, taken', [
    pytest.param((0.9, 0.8, 0.4, 0.9), 0.5, 2, id='up to the first doubt'),
    pytest.param((0.4, 0.9), 0.5, 0, id='first in doubt'),
    pytest.param((0.9, 0.5), 0.5, 2, id='all'),
    pytest.param((), 0.5, 0, id='no draft'),
    pytest.param((1.0,), 2.0, 0, id='all asked'),
])
def test_tokens_are_taken_up_to_the_first_doubt(confidences, threshold, taken):
    assert taken_unasked(confidences, threshold) == taken


def test_lost_are_facts_that_the_verifier_tells_and_the_caption_does_not():
    truth = {'object': 'car', 'colour': 'red', 'place': 'left', 'motion': 'stands'}
    plain = truth | {'motion': 'turns'}                                             # the verifier errs
    said = {'object': 'car', 'colour': 'blue', 'motion': 'stands'}                  # place is missing
    assert lost_slots(said, plain, truth) == (2, 1)
    assert lost_slots(plain, plain, truth) == (0, 0)
    assert lost_slots({'motion': 'gone'}, {'motion': 'turns'}, {'motion': 'stands'}) == (0, 0)   # wrong both ways


def test_threshold_takes_the_most_places_that_keep_the_rate():
    scores, right = (0.9, 0.8, 0.7, 0.6, 0.5), (True, True, False, True, True)
    assert threshold_for(scores, right, 0.25) == 0.5 and threshold_for(scores, right, 0.1) == 0.8
    assert threshold_for((0.9, 0.9), (True, False), 0.1) == math.inf                # equal ones are taken together
    assert told_apart(scores, right) == 0.5 and told_apart((0.9, 0.1), (True, False)) == 1.0
    assert told_apart((0.5, 0.5), (True, False)) == 0.5 and told_apart((0.5,), (True,)) is None


def test_held_threshold_stands_still_at_the_rate_and_hears_few_of_those_that_were_not_asked():
    held = HeldThreshold(0.02, logit=1.0, step=0.5, audit=3)
    held.judged(50, 1, alone=False)
    assert held.logit == pytest.approx(1.0)
    held.judged(10, 2, alone=False)
    assert held.logit == pytest.approx(1.9) and held.value == pytest.approx(1 / (1 + math.exp(-1.9)))
    for _ in range(2):
        held.judged(50, 20, alone=True)
    assert held.logit == pytest.approx(1.9) and held.audits == 0
    held.judged(50, 0, alone=True)
    assert held.logit == pytest.approx(1.4) and held.audits == 1


def test_held_threshold_holds_the_rate_of_calibrated_confidences():
    draw, held = np.random.default_rng(0), HeldThreshold(0.05, logit=-2.0)
    told = np.zeros(2)
    for window in range(3000):
        sure = draw.beta(4.0, 0.5, 40)
        taken = taken_unasked(sure, held.value)
        wrong = int((draw.random(taken) > sure[:taken]).sum())
        held.judged(taken, wrong, alone=False)
        told += (taken, wrong) if window > 500 else 0
    assert told[1] / told[0] == pytest.approx(0.05, abs=0.01)


def test_confidence_learns_which_places_are_right():
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(2000, 3, generator=draw)
    right = torch.rand(2000, generator=draw) < (3 * inputs[:, 0] + 2).sigmoid()
    sure = Confidence(inputs[:1000], right[:1000])(inputs[1000:])
    assert told_apart(sure.tolist(), right[1000:].tolist()) > 0.85
    assert float(sure.mean()) == pytest.approx(float(right[1000:].float().mean()), abs=0.03)


def test_the_verifier_goes_on_after_what_was_taken_as_it_would_have(lab):
    shown = lab.shown('brisk', 1)[0]
    plain = shown.window.token_ids
    prompt = split_prompt(lab.target, shown.frames.frames, lab.settings.prompt)
    for taken in ((), plain[:1], plain[:5], plain):
        assert said_after(lab.target, prompt, taken) == (list(plain), 0)
    other = next(token for token in range(6, 40) if token not in (plain[2], *lab.target.eos_ids))
    taken = (*plain[:2], other)
    answer, wrong = said_after(lab.target, prompt, taken, plain)
    assert tuple(answer[:3]) == taken and wrong == 1
    assert answer == said_after(lab.target, prompt, taken)[0]                       # a guess changes no word
    again, none = said_after(lab.target, prompt, answer)
    assert again == answer and none == 1                                            # the rest is what it would say


def test_a_window_counts_what_was_taken_wrong_and_lost(lab, monkeypatch):
    shown = lab.shown('brisk', 1)[0]
    plain, end = shown.window.token_ids, lab.target.eos_ids[0] if isinstance(
        lab.target.eos_ids, (list, tuple)) else next(iter(lab.target.eos_ids))

    def row(token_ids, confidences, threshold):
        draft = confidence._Draft(tuple(token_ids), tuple(confidences), 3.0)
        monkeypatch.setattr(confidence, '_draft', lambda *_: draft)
        return confidence._row(lab, 'brisk', 0, threshold)
    asked = row(plain, [0.9] * len(plain), 2.0)
    assert (asked['taken'], asked['wrong'], asked['changed'], asked['lost'], asked['alone']) == (0, 0, 0, 0, 0)
    assert asked['rest'] == len(plain) and asked['passes'] >= 1 and asked['age_ms'] > 3.0
    part = row(plain, [0.9] * 4 + [0.1] * (len(plain) - 4), 0.5)
    assert (part['taken'], part['changed'], part['rest']) == (4, 0, len(plain) - 4)
    ended = row((*plain[:2], end), [0.9] * 3, 0.5)
    assert (ended['alone'], ended['passes'], ended['rest'], ended['age_ms']) == (1, 0, 0, 3.0)
    assert ended['tokens'] == 3 and ended['changed'] == 1 and ended['wrong'] == 1
