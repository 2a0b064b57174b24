"""Choosing among the verifier's visual tokens: where they stand, how many stay, and what a guess may not change."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_settings import tiny

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.studies import pruning

FRAMES, GRID = 3, 4


@pytest.fixture(scope='module')
def lab(pair, tmp_path_factory):
    return Lab(tiny(pruning.EXPERIMENT, pair), tmp_path_factory.mktemp('lab'))


@pytest.fixture(scope='module')
def frames():
    return [np.random.default_rng(place).integers(0, 255, (40, 40, 3), np.uint8) for place in range(FRAMES)]


@pytest.fixture(scope='module')
def prompt(lab, frames):
    return pruning._prompt_of(lab.target, frames, 'What is happening?')


def test_the_highest_share_of_all_frames_together_is_kept():
    kept = pruning.highest(np.array([[0.1, 0.9, 0.0, 0.2], [0.8, 0.7, 0.0, 0.0]]), 0.5)
    assert kept.tolist() == [[False, True, False, True], [True, True, False, False]]
    assert pruning.highest(np.zeros((2, 4)), 0.25)[1].sum() == 2               # the newest of equals


def test_what_is_kept_are_rows_of_the_prompt_in_their_order_with_those_of_whole_frames(prompt):
    scores = np.arange(FRAMES * GRID).reshape(FRAMES, GRID)
    rows, whole = prompt.rows(pruning.highest(scores, 0.5)), prompt.rows()
    assert len(whole) - len(rows) == FRAMES * GRID // 2
    assert torch.equal(prompt.rows(np.ones((FRAMES, GRID), bool)), whole)
    first = sum(len(each) for each in prompt.segments[:prompt.visual[0]])
    dropped = [first + prompt.extra + place for place in range(GRID)]
    dropped += [first + GRID + 2 * prompt.extra + place for place in range(2)]
    assert torch.equal(rows, whole[[place for place in range(len(whole)) if place not in dropped]])


def test_scores_tell_where_events_are_and_what_is_new(lab, prompt):
    stamps = np.array([100, 200, 300], np.int64) * 10**6
    events = Events(np.full(7, 295 * 10**6, np.int64), np.full(7, 39, np.uint16), np.full(7, 1, np.uint16),
                    np.ones(7, np.uint8), 40, 40)
    scores = pruning._scores(lab, prompt, SimpleNamespace(events=events, frame_stamps_ns=stamps), 0)
    assert scores['event density'].tolist() == [[0] * 4, [0] * 4, [0, 7, 0, 0]]
    assert (scores['similarity'][0] > scores['similarity'][1:].max()).all()
    assert all(each.shape == (FRAMES, GRID) for each in scores.values())
    before = lab.target.adapter.language_model.config._attn_implementation
    assert before != 'eager' and 0 < scores['attention'].sum() < 1


def test_a_guess_saves_forwards_and_changes_no_word(lab, prompt, frames):
    whole, spent = pruning.answered(lab.target, prompt.layout, prompt.rows(), ())
    assert tuple(whole) == lab.without_end(lab.target.generate(frames, 'What is happening?', 96)) and whole
    kept = prompt.rows(pruning.highest(np.arange(FRAMES * GRID).reshape(FRAMES, GRID), 0.25))
    plain, less = pruning.answered(lab.target, prompt.layout, kept, ())
    guessed, _ = pruning.answered(lab.target, prompt.layout, kept, whole)
    assert plain == guessed and less['cache_kb'] < spent['cache_kb']


def test_a_verifier_without_grids_is_refused(lab, frames, monkeypatch):
    monkeypatch.setattr(pruning, 'isqrt', lambda count: 1)
    with pytest.raises(CrossSpecError, match='square grids'):
        pruning._prompt_of(lab.target, frames, 'What is happening?')
