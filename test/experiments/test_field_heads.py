"""Heads that only experiments have: they draft what they said in training, see no more than there is, and train."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_settings import tiny

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.registry import experiments
from crossspec_ros.experiments.scenes import Scene, scenes_of
from crossspec_ros.experiments.trained_heads import EYES, FIELD, field_source
from crossspec_ros.models.heads import new_head

LENGTH, KEPT = 9, range(6, 120)
FORMS = FIELD | EYES


@pytest.fixture(scope='module')
def lab(pair, tmp_path_factory):
    return Lab(replace(tiny(experiments()['sources'], pair), windows=1, drives=1), tmp_path_factory.mktemp('lab'))


@pytest.fixture
def scenes():
    draw = torch.Generator().manual_seed(1)
    shapes = (15, 32), (2, 19 + LENGTH, 8), (2, 19 + LENGTH, 8)
    parts = [[torch.randn(shape, generator=draw).half() for shape in shapes] for _ in range(2)]
    return [Scene(visual, 5, keys, values, 20) for visual, keys, values in parts]


def made(name, lab, scenes=()):
    form = FORMS[name]
    head = new_head(form.kind, lab.target, KEPT, 2, lambda config: form.build(config, 8), attention_heads=4).eval()
    draw = torch.Generator().manual_seed(3)
    for weight in head.parameters():                       # what begins at zero would hide a mistake
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.3, generator=draw)
    if form.sees:
        head.look_at(scenes)
    return head


@pytest.fixture
def answer():
    draw = torch.Generator().manual_seed(0)
    return torch.randint(6, 120, (1, LENGTH), generator=draw), torch.randn(1, LENGTH, 1, 32, generator=draw)


def read(head, ids, states, upto):
    context = head.read(None, states[0, :3], ids[0, :3].tolist())
    return head.read(context, states[0, 3:upto], ids[0, 3:upto].tolist())


@pytest.mark.parametrize('name', FORMS)
@torch.inference_mode()
def test_draft_begins_as_training_said(name, lab, scenes, answer):
    ids, states = answer
    head = made(name, lab, scenes[:1])
    said = head(states, ids, torch.arange(LENGTH))[0]
    draft = head.draft(read(head, ids, states, 5), 4, 0.0)          # a row that begins a block of four
    probs = torch.softmax(said.logits[0, 4], -1)
    roots = [(token, prob) for token, parent, prob in zip(draft.token_ids, draft.parents, draft.probs) if parent < 0]
    assert roots[0][0] == int(head.kept[probs.argmax()])
    assert [prob for _, prob in roots] == pytest.approx(probs.topk(len(roots)).values.tolist(), rel=1e-3)


@torch.inference_mode()
def test_hydra_goes_on_from_the_words_it_drafted(lab, answer):
    ids, states = answer[0].clone(), answer[1]
    head = made('hydra', lab)
    draft = head.draft(read(head, ids, states, 5), 4, 0.0)
    node = -1
    for place in range(4):
        node = next(child for child, parent in enumerate(draft.parents) if parent == node)      # the likeliest goes on
        said = head(states, ids, torch.arange(LENGTH))[place]
        probs = torch.softmax(said.logits[0, 4], -1)
        assert draft.token_ids[node] == int(head.kept[probs.argmax()]) and said.ahead == place + 1
        assert draft.probs[node] == pytest.approx(float(probs.max()), rel=1e-3)
        ids[0, 5 + place] = draft.token_ids[node]
    assert draft.forwards == 4


@torch.inference_mode()
def test_glide_sees_the_keys_of_all_words_but_the_last(lab, scenes, answer):
    ids, states = answer
    head, scene = made('glide', lab, scenes[:1]), scenes[0]
    before = head.draft(read(head, ids, states, 5), 2, 0.0).probs
    for changed, same in ((scene.prompt + 4, True), (scene.prompt + 3, False), (0, False)):
        keys = scene.keys.clone()
        keys[:, changed] += 3.0
        head.look_at([replace(scene, keys=keys)])
        assert (head.draft(read(head, ids, states, 5), 2, 0.0).probs == before) == same


@torch.inference_mode()
def test_glide_hides_in_training_what_is_not_there_when_it_drafts(lab, scenes, answer):
    ids, states = answer
    head, scene = made('glide', lab, scenes[:1]), scenes[0]
    before = head(states, ids, torch.arange(LENGTH))[0].logits
    keys = scene.keys.clone()
    keys[:, scene.prompt + 4] += 3.0                                # of the word that begins the second block
    head.look_at([replace(scene, keys=keys)])
    after = head(states, ids, torch.arange(LENGTH))[0].logits
    assert torch.equal(before[0, :8], after[0, :8]) and not torch.equal(before[0, 8], after[0, 8])


@pytest.mark.parametrize('name', EYES)
@torch.inference_mode()
def test_eyes_look_at_the_scene_of_each_answer(name, lab, scenes, answer):
    ids, states = answer[0].repeat(2, 1), answer[1].repeat(2, 1, 1, 1)
    logits = made(name, lab, scenes)(states, ids, torch.arange(LENGTH))[0].logits
    one, other = (made(name, lab, [scene])(states[:1], ids[:1], torch.arange(LENGTH))[0].logits for scene in scenes)
    torch.testing.assert_close(logits, torch.cat((one, other)))
    assert not torch.allclose(one, other)


def test_scenes_are_what_the_verifier_keeps_along_its_answer_and_are_made_once(lab, monkeypatch):
    seen = lab.windows('brisk')
    (scene,), target = scenes_of(lab, seen), lab.target
    assert scene.keys.shape[1] == scene.prompt + len(seen[0].window.token_ids) - 1
    assert scene.visual.shape == (8 * scene.newest, 32)
    monkeypatch.setattr(target, 'encode_all', None)
    again, = scenes_of(lab, seen)
    assert torch.equal(scene.values, again.values) and again.prompt == scene.prompt
    next(lab.records.glob('*.scenes.npz')).write_bytes(b'abc')
    with pytest.raises(CrossSpecError, match='delete it'):
        scenes_of(lab, seen)
    for path in lab.records.glob('*.scenes.npz'):
        path.unlink()


def test_answers_of_other_frames_are_refused(lab):
    seen, = lab.windows('brisk')
    ids = seen.window.token_ids
    other = replace(seen, window=replace(seen.window, token_ids=(ids[0] + 1, *ids[1:])))
    with pytest.raises(CrossSpecError, match='not what the verifier says'):
        scenes_of(lab, [other])


@pytest.mark.parametrize('name', ['hydra', 'glide', 'vectors1'])
def test_trained_heads_draft_and_change_nothing(name, lab):
    source = field_source(lab, name, FORMS[name], 0, lab.windows('brisk'), True)
    rows, statistics = lab.decoded('brisk', (), more=[source])      # asserts equal tokens
    assert rows[0]['drafted'] > 0 and name in statistics['sources'] and not source.counts()['failed']
    lab.live('brisk', 1, (), more=[source])                          # raises where the verifier says other tokens
    weights = source._head.state_dict()
    again = field_source(lab, name, FORMS[name], 0, lab.windows('brisk'), True)._head.state_dict()
    assert all(torch.equal(weights[each], again[each]) for each in weights)
    assert np.isfinite(sum(float(weight.float().sum()) for weight in weights.values()))
