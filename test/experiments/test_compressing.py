"""A drafter with the verifier's eyes: what each compressor keeps, how the gate mixes, and that drafting is training."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_settings import tiny

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.compressing import (
    ATTENDED, COMPRESSORS, GATE, NONE, POOL, PRUNE, SceneDrafter, Shapes, Sight, compressor, novelty)
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.pupils import Batch
from crossspec_ros.experiments.scenes import scenes_of
from crossspec_ros.experiments.studies import compressors

SHAPES = Shapes(visual=15, newest=5, wide=6, dim=8, kept=4)


@pytest.fixture(scope='module')
def lab(pair, tmp_path_factory):
    return Lab(tiny(compressors.EXPERIMENT, pair), tmp_path_factory.mktemp('lab'))


@pytest.fixture
def sight():
    draw = torch.Generator().manual_seed(0)
    return Sight(torch.randn(2, 15, 8, generator=draw), torch.randn(2, 15, 6, generator=draw),
                 torch.rand(2, 15, generator=draw), torch.randn(2, 8, generator=draw))


def of(form, shapes=SHAPES):
    torch.manual_seed(1)
    return compressor(form, shapes, 2)


@pytest.mark.parametrize('form', COMPRESSORS)
@pytest.mark.parametrize('kept', [1, 4, 7, 15])
def test_as_many_tokens_come_out_as_are_to_be_kept_and_depend_on_the_window(form, kept, sight):
    made = of(form, replace(SHAPES, kept=kept))(sight)
    assert made.shape == (2, kept, 8) and not torch.allclose(made[0], made[1])


def test_none_keeps_all_and_more_than_all_is_refused(sight):
    assert of(NONE)(sight) is sight.tokens
    for kept in (0, 16):
        with pytest.raises(CrossSpecError, match='kept must be 1 to the 15'):
            replace(SHAPES, kept=kept)


def test_pruned_are_the_most_attended_in_their_order(sight):
    attention = torch.zeros(2, 15)
    attention[0, [11, 2, 7, 3]], attention[1, [0, 14, 5, 6]] = 1.0, 1.0
    made = of(ATTENDED)(replace(sight, attention=attention))
    assert torch.equal(made[0], sight.tokens[0, [2, 3, 7, 11]])
    assert torch.equal(made[1], sight.tokens[1, [0, 5, 6, 14]])


def test_novel_is_what_differs_from_the_same_place_of_the_frame_before(sight):
    rows = sight.rows[:, :5].repeat(1, 3, 1)
    rows[:, [6, 13]] *= -1                                   # differs, and differs again where it turns back
    made = of(PRUNE)(replace(sight, rows=rows))
    assert torch.equal(made, sight.tokens[:, [6, 11, 13, 14]])           # of what stands still the newest
    assert (novelty(rows, 5)[:, :5] < 1e-6).all()


def test_pooled_are_means_of_neighbours(sight):
    made = of(POOL, replace(SHAPES, kept=5))(sight)
    torch.testing.assert_close(made, sight.tokens.unflatten(1, (5, 3)).mean(2))


def test_the_gate_is_a_convex_mix_that_begins_even_and_hears_window_and_question(sight):
    gate = of(GATE)
    forms = torch.stack([form(sight) for form in gate.forms], 1)
    torch.testing.assert_close(gate(sight), forms.mean(1))
    torch.nn.init.normal_(gate.weigh.weight)
    weights = gate.weights(sight)
    assert weights.shape == (2, 4) and (weights > 0).all() and torch.allclose(weights.sum(-1), torch.ones(2))
    torch.testing.assert_close(gate(sight), torch.einsum('bf,bfkd->bkd', weights, forms))
    assert not torch.allclose(weights[0], weights[1])
    assert not torch.allclose(weights, gate.weights(replace(sight, asked=-sight.asked)))
    with torch.no_grad():
        gate.weigh.weight.zero_()
        gate.weigh.bias.copy_(torch.tensor([0.0, 90.0, 0.0, 0.0]))
    torch.testing.assert_close(gate(sight), gate.forms[1](sight))


def test_looks_are_the_scene_and_the_attention_of_the_question_kept_beside_the_records(lab, monkeypatch):
    seen = lab.windows('brisk')
    looked, newest = compressors.eyed(lab, seen)
    scene, *_ = scenes_of(lab, seen)
    assert looked[0].look.shape == (8 * newest, 33) and np.array_equal(looked[0].look[:, :-1], scene.visual.numpy())
    attention = looked[0].look[:, -1]
    assert attention.astype(float).mean() == pytest.approx(1.0, abs=1e-2) and attention.std() > 0
    monkeypatch.setattr(compressors, 'question_attention', None)
    again, _ = compressors.eyed(lab, seen)
    assert all(np.array_equal(one.look, other.look) for one, other in zip(looked, again))
    path = next(lab.records.glob('*.attention.npy'))
    kept = path.read_bytes()
    path.write_bytes(b'abc')
    with pytest.raises(CrossSpecError, match='delete it'):
        compressors.eyed(lab, seen)
    path.write_bytes(kept)


@pytest.mark.parametrize('form', [NONE, ATTENDED, GATE])
def test_a_trained_drafter_says_token_by_token_what_it_says_at_once(form, lab):
    pupil = compressors.trained(lab, form, 4, 0)
    seen, _ = compressors.eyed(lab, lab.windows('brisk'))
    look, prompt = seen[0].look, lab.settings.prompt
    draft = pupil.draft(look, prompt=prompt, max_tokens=5)
    assert draft.token_ids and pupil.question_ids(prompt) == lab.drafter.question_ids(prompt)
    rows = torch.tensor([pupil.rows_of([*pupil.question_ids(prompt), *draft.token_ids[:-1]])])
    with torch.inference_mode():
        hidden = pupil(torch.from_numpy(look.astype(np.float32))[None], rows)[0, -len(draft.token_ids):]
        said = pupil.logits(hidden).argmax(-1)
    assert said.tolist() == pupil.rows_of(draft.token_ids)
    with pytest.raises(CrossSpecError, match='shape'):
        pupil.draft(look[:-1], prompt=prompt)


def _fresh(lab: Lab) -> SceneDrafter:
    taught, newest = compressors.taught_by_eyes(lab)
    shapes = Shapes(len(taught[0].visual), newest, 32, lab.drafter.config.dim, 4)
    return SceneDrafter(lab.drafter, POOL, shapes, lab.settings.prompt, 0)


def test_a_padded_lesson_weighs_as_it_does_alone(lab):
    first, second = compressors.taught_by_eyes(lab)[0][:2]
    short = replace(first, rows=first.rows[:-2], **{name: getattr(first, name)[:-2]
                                                    for name in ('said', 'likely', 'probs', 'states')})
    pupil = _fresh(lab).eval()
    with torch.no_grad():
        together = compressors.batch_loss(pupil, Batch.of([short, second]))
        alone = [compressors.batch_loss(pupil, Batch.of([each])) for each in (short, second)]
    assert float(together) == pytest.approx(float(sum(alone)) / 2, rel=1e-4)


def test_training_is_repeatable_and_lowers_the_loss(lab):
    longer = Lab(replace(lab.settings, steps=12), lab.records.parent)
    one, other = (compressors.trained(longer, POOL, 4, 0).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    fresh, batch = _fresh(lab), Batch.of(compressors.taught_by_eyes(lab)[0])
    before = compressors.batch_loss(fresh, batch).item()
    fresh.load_state_dict(one)
    assert compressors.batch_loss(fresh, batch).item() < before
