"""Pupils and adapters: which places count how much, what is learned and dropped, and that padding does not matter."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_settings import tiny

from crossspec_ros.experiments import pupil_methods
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.low_rank import with_low_rank
from crossspec_ros.experiments.pupil_methods import (
    HARD, METHODS, Method, Said, StateMaps, accepted, aligned, pairs_of, place_losses, reached, trained, weighed)
from crossspec_ros.experiments.pupils import (
    Batch, Lesson, Pupil, both_looks, lessons, newest_frame, newest_look, rows_of)
from crossspec_ros.experiments.registry import experiments
from crossspec_ros.experiments.scenes import scenes_of
from crossspec_ros.experiments.states import FINAL, layer_states, places
from crossspec_ros.experiments.studies.alignment import trained_low_rank

STEPS = 3


@pytest.fixture(scope='module')
def lab(pair, tmp_path_factory):
    settings = replace(tiny(experiments()['losses'], pair), windows=2, drives=1)
    return Lab(settings, tmp_path_factory.mktemp('pupils'))


@pytest.fixture(scope='module')
def taught(lab):
    return lessons(lab, lab.taught())


def cut(lesson, count):
    """The same answer, ended earlier."""
    return replace(lesson, rows=lesson.rows[:lesson.first + count],
                   **{name: getattr(lesson, name)[:count] for name in ('said', 'likely', 'probs', 'states')})


def said(probs, lengths, done=1.0):
    """Probabilities (P, R) of a pupil, whose right tokens are all row 0."""
    parts = [Lesson('d', torch.zeros(1, 2), torch.zeros(length, dtype=torch.long), 0,
                    torch.zeros(length, dtype=torch.long), torch.zeros(length, 1, dtype=torch.long),
                    torch.ones(length, 1), torch.zeros(length, 1, 2)) for length in lengths]
    return Said(Batch.of(parts), torch.tensor(probs).log(), torch.ones(len(probs)), lambda: None,
                torch.Generator(), done)


def test_cascade_aware_weights_are_the_chance_that_all_before_is_right():
    told = said([[.5, .5], [.8, .2], [.1, .9], [.25, .75], [.9, .1]], (3, 2))
    weights = reached(told)
    assert weights.tolist() == pytest.approx([1, .5, .5 * .8, 1, .25], rel=1e-5)
    losses = torch.tensor([1., 2., 3., 4., 8.])
    assert float(weighed(losses, weights, told.batch)) == pytest.approx(
        ((1 + 2 * .5 + 3 * .4) / 1.9 + (4 + 8 * .25) / 1.25) / 2)


def test_griffin_leaves_out_what_is_not_among_the_likeliest_and_what_follows_it():
    near, far = [.2, .5, .2, .1, 0.], [.1, .2, .3, .25, .15]
    told = said([near, far, near, near, far, near], (4, 2))
    assert aligned(told).tolist() == [1, 0, 0, 1, 0, 0]
    assert aligned(replace(told, done=0.2)).tolist() == [1] * 6        # a pupil that knows nothing has none
    assert float(weighed(torch.tensor([2., 9, 9, 4, 9, 9]), aligned(told), told.batch)) == 1.5


def test_the_gate_closes_once_a_pupil_says_something():
    likely = [.9, .05, .03, .01, .01]
    told = said([likely] * 6, (4, 2))
    wrong = replace(told.batch, probs=torch.zeros_like(told.batch.probs))     # the verifier would say none of its words
    assert accepted(replace(told, batch=wrong, done=0.1)).tolist() == [1] * 6
    assert accepted(replace(told, batch=wrong, done=0.9)).sum() < 6


def test_padding_and_company_change_nothing(lab, taught):
    one, other = cut(taught[0], 5), taught[1]
    assert len(one.said) != len(other.said)
    pupil = Pupil(lab.drafter, 1, len(one.visual))
    both, alone = Batch.of([one, other]), [Batch.of([each]) for each in (one, other)]
    for whole, *parts in zip(pupil.states(both), *(pupil.states(each) for each in alone)):
        torch.testing.assert_close(whole, torch.cat(parts))

    def loss(batch):
        losses = place_losses(pupil.logits(pupil.states(batch)[-1]), batch, 'forward_kl')
        return weighed(losses, torch.ones(len(losses)), batch)
    learned = pupil.drafter.layers[0].qkv.weight
    whole, = torch.autograd.grad(loss(both), learned)
    torch.testing.assert_close(whole, torch.autograd.grad((loss(alone[0]) + loss(alone[1])) / 2, learned)[0])
    assert rows_of(pupil, [one, other]) == rows_of(pupil, [one]) + rows_of(pupil, [other])


def test_states_of_layers_are_those_that_words_are_said_from(lab, taught):
    drafter, lesson = lab.drafter, taught[0]
    with torch.inference_mode():
        found = layer_states(drafter, lesson.visual[None], lesson.rows[None])
        assert torch.equal(found[0], drafter.embed(lesson.rows[None])) and len(found) == 1 + len(drafter.layers)
        assert torch.equal(found[-1], drafter.continue_from(lesson.visual[None], lesson.rows[None]))
    assert not drafter.layers[0]._forward_hooks and not drafter.layers[0]._forward_pre_hooks
    found = places(lab, lab.taught())
    assert torch.equal(found.fused[:, -found.hidden.shape[1]:], found.hidden)
    assert found.fused.shape[1] == (1 + len(drafter.layers)) * found.hidden.shape[1]


class _Counted(StateMaps):
    made: list[_Counted] = []

    def __init__(self, *given):
        super().__init__(*given)
        self.calls, self.first = 0, self.maps[0].weight.detach().clone()
        self.made.append(self)

    def forward(self, layers, states):
        self.calls += 1
        return super().forward(layers, states)


@pytest.mark.parametrize('name, calls', [('states first', 1), ('layer by layer', STEPS)])
def test_maps_to_states_learn_as_long_as_they_are_asked_for_and_are_no_part_of_the_pupil(name, calls, lab, taught,
                                                                                         monkeypatch):
    monkeypatch.setattr(_Counted, 'made', [])
    monkeypatch.setattr(pupil_methods, 'StateMaps', _Counted)
    pupil, plain = trained(lab, taught, METHODS[name], STEPS, 0), trained(lab, taught, Method(), STEPS, 0)
    maps, = _Counted.made
    assert maps.calls == calls and not torch.equal(maps.maps[0].weight, maps.first)
    assert pupil.state_dict().keys() == plain.state_dict().keys()
    assert not torch.equal(pupil.drafter.layers[0].out.weight, plain.drafter.layers[0].out.weight)


def test_each_layer_learns_from_one_of_the_verifiers_as_far_up():
    assert pairs_of(2, (1, 2, 4, FINAL)) == [(1, 1), (2, 3)] and pairs_of(1, (1, FINAL)) == [(1, 1)]
    assert pairs_of(3, (0, FINAL)) == [(1, 0), (2, 0), (3, 1)] and pairs_of(9, (0, FINAL))[0] == (1, 0)


def test_two_spans_are_twice_the_tokens_and_the_longest_caption_fits(lab, taught):
    both, cells = lessons(lab, lab.taught(), both_looks), taught[0].visual.shape[0]
    assert both[0].visual.shape[0] == 2 * cells and torch.equal(both[0].visual[cells:], taught[0].visual)
    pupil, config = trained(lab, both, METHODS['two spans of events'], STEPS, 0), lab.drafter.config
    longest = torch.zeros(1, config.max_question_tokens + config.max_caption_tokens, dtype=torch.long)
    assert pupil.drafter.continue_from(both[0].visual[None], longest).shape[1] == longest.shape[1]
    assert rows_of(pupil, both)[0]['tokens'] == len(both[0].said)
    other = replace(both[0], visual=both[0].visual.roll(cells, 0))
    assert not torch.equal(*(pupil.states(Batch.of([each]))[-1] for each in (both[0], other)))


def test_a_pupil_with_the_verifiers_eyes_learns_a_projection_of_the_newest_frame(lab):
    shown, scene = lessons(lab, lab.taught(), newest_frame), scenes_of(lab, lab.taught())[0]
    assert torch.equal(shown[0].visual, scene.visual[-scene.newest:].float())
    eyes = {weight: value.clone() for weight, value in lab.drafter.state_dict().items()}
    pupil, begun = (trained(lab, shown, Method(view=newest_frame), steps, 0) for steps in (STEPS, 1))
    assert not torch.equal(pupil.eyes[-1].weight, begun.eyes[-1].weight)
    assert all(torch.equal(value, lab.drafter.state_dict()[weight]) for weight, value in eyes.items())


@pytest.mark.parametrize('name', METHODS)
def test_every_way_of_learning_is_the_same_again_and_moves_the_pupil(name, lab):
    method = METHODS[name]
    shown = lessons(lab, lab.taught(), method.view)
    pupil, again, other = (trained(lab, shown, method, STEPS, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(pupil[weight], again[weight]) for weight in pupil)
    assert all(bool(weight.isfinite().all()) for weight in pupil.values())
    moved = 'drafter.layers.0.qkv.weight'
    assert not torch.equal(pupil[moved], other[moved])
    assert not torch.equal(pupil[moved], Pupil(lab.drafter, 0, len(shown[0].visual)).state_dict()[moved])
    assert method.note or method.view is newest_look and name != HARD


def test_low_rank_updates_begin_as_nothing_and_are_all_that_learns(lab, taught):
    batch = Batch.of(taught)
    made, learning = with_low_rank(lab.drafter, 0, 2)
    before = lab.drafter.continue_from(batch.visual, batch.rows)
    assert torch.equal(made.continue_from(batch.visual, batch.rows), before)
    shapes = [tuple(weight.shape) for weight in lab.drafter.layers.parameters() if weight.ndim == 2]
    assert sum(weight.numel() for weight in learning) == sum(2 * (rows + columns) for rows, columns in shapes)
    assert {id(weight) for weight in made.parameters() if weight.requires_grad} == set(map(id, learning))
    adapted, adapter = trained_low_rank(lab, STEPS, 0)
    after = batch.places(adapted.continue_from(batch.visual, batch.rows))
    assert not torch.equal(after, batch.places(before)) and adapter(after.detach()).shape[1] == batch.states.shape[-1]
    assert torch.equal(lab.drafter.continue_from(batch.visual, batch.rows), before)
