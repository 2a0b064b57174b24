"""Heads themselves: what they say when they drive is what they said in training; folders; verifiers they refuse."""
from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads import KINDS, HeadConfig, load_head, load_heads, new_head, save_head
from crossspec_ros.models.heads.config import usual_layers
from crossspec_ros.models.heads.parallel import product_tree
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.sources.heads import FINAL

KEPT = range(6, 120)


@pytest.fixture(scope='module')
def target(tmp_path_factory):
    return load_target(tiny_models.write_checkpoint(tmp_path_factory.mktemp('verifier'), layers=4))


def head_of(kind, target, **shapes):
    return new_head(kind, target, KEPT, seed=2, **({'attention_heads': 4} | shapes)).eval()


def saved(head, folder):
    folder.mkdir(parents=True)
    save_head(head, folder)
    return folder


@pytest.fixture
def answer(target):
    torch.manual_seed(0)
    return torch.randint(6, 120, (1, 9)), lambda head: torch.randn(1, 9, len(head.layers), 32)


@pytest.mark.parametrize('kind', KINDS)
@torch.inference_mode()
def test_draft_begins_as_training_said(target, answer, kind):
    head = head_of(kind, target)
    ids, states = answer[0], answer[1](head)
    said = head(states, ids, torch.arange(9))
    context = head.read(None, states[0, :4], ids[0, :4].tolist())
    context = head.read(context, states[0, 4:5], ids[0, 4:5].tolist())
    context = head.read(context, states[0, 5:], ids[0, 5:].tolist())
    draft = head.draft(context, 4, 0.0)
    probs = torch.softmax(said[0].logits[0, -1], -1)
    roots = [(token, prob) for token, parent, prob in zip(draft.token_ids, draft.parents, draft.probs) if parent < 0]
    assert roots[0][0] == int(head.kept[probs.argmax()])
    for token, prob in roots:
        assert prob == pytest.approx(float(probs[(head.kept == token).nonzero()]), rel=1e-3)


@torch.inference_mode()
def test_eagle3_goes_on_as_it_was_rolled_out(target, answer):
    head = head_of('eagle3', target, depth=4)
    ids, states = answer[0].clone(), answer[1](head)
    # Of a path through the draft: the same tokens as truth, rolled out after the sixth token.
    context = head.read(None, states[0, :6], ids[0, :6].tolist())
    draft = head.draft(context, 4, 0.0)
    path, node = [], -1
    for step in range(3):
        node = next(child for child, parent in enumerate(draft.parents) if parent == node)     # the likeliest goes on
        path.append(node)
        ids[0, 6 + step] = draft.token_ids[node]
    said = head(states, ids, torch.arange(9))
    for step, node in enumerate(path):
        probs = torch.softmax(said[step].logits[0, 5], -1)
        assert draft.token_ids[node] == int(head.kept[probs.argmax()])
        assert draft.probs[node] == pytest.approx(float(probs.max()), rel=1e-3)


@torch.inference_mode()
def test_eagle1_goes_on_from_the_states_it_predicted(target, answer):
    head = head_of('eagle1', target)
    ids, states = answer[0], answer[1](head)
    context = head.read(None, states[0], ids[0].tolist())
    draft = head.draft(context, 2, 0.0)
    second = [prob for parent, prob in zip(draft.parents, draft.probs) if parent == 0]
    predicted = context.feature[None, None]
    longer = head.read(context, predicted[0][:, None], [draft.token_ids[0]])
    assert second[0] == pytest.approx(float(torch.softmax(head.said(longer.feature), -1).max()), rel=1e-3)


def test_product_tree_holds_the_likeliest_paths():
    draft = product_tree([[1, 2], [3, 4]], [[0.6, 0.3], [0.9, 0.05]], 0.05)
    paths = {}
    for node, (token, parent) in enumerate(zip(draft.token_ids, draft.parents)):
        paths[node] = (*paths.get(parent, ()), token)
    assert set(paths.values()) == {(1,), (1, 3), (2,), (2, 3)}
    assert list(paths.values())[0] == (1,) and not product_tree([], [], 0.0).token_ids
    broken = product_tree([[1], [2]], [[0.5], [float('nan')]], 0.0)
    assert len(broken.probs) == 1 and broken.probs[0] != broken.probs[0]


@pytest.mark.parametrize('kind', KINDS)
def test_folder_gives_the_same_head(target, tmp_path, kind):
    head = head_of(kind, target).half().float()
    again = load_head(saved(head, tmp_path / kind), target)
    assert again.config == head.config
    states, ids = torch.randn(1, 5, len(head.layers), 32), torch.randint(6, 120, (1, 5))
    for one, other in zip(head(states, ids, torch.arange(5)), again(states, ids, torch.arange(5))):
        torch.testing.assert_close(one.logits, other.logits)
    assert sum(weight.numel() for weight in again.parameters()) < 3_000_000


def test_folder_beside_another_verifier_is_refused(target, tmp_path):
    folder = saved(head_of('medusa', target), tmp_path / 'head')
    other = load_target(tiny_models.write_checkpoint(tmp_path / 'other', seed=5, layers=4))
    with pytest.raises(CrossSpecError, match='trained on the states of the verifier') as refused:
        load_head(folder, other)
    assert target.model_key in str(refused.value) and '\n' not in str(refused.value)


def test_two_heads_of_one_kind_are_refused(target, tmp_path):
    folder = saved(head_of('medusa', target), tmp_path / 'head')
    shutil.copytree(folder, tmp_path / 'copy')
    with pytest.raises(CrossSpecError, match='different kinds'):
        load_heads([folder, tmp_path / 'copy'], target)
    assert load_heads([''], target) == []


def _config(folder, **changes):
    path = folder / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text(encoding='utf-8')) | changes), encoding='utf-8')


BROKEN = {
    'no config': (lambda folder: (folder / 'config.json').unlink(), 'has no config.json'),
    'no weights': (lambda folder: (folder / 'model.safetensors').unlink(), 'has no model.safetensors'),
    'cut weights': (lambda folder: (folder / 'model.safetensors').write_bytes(b'abc'), 'copy or train it again'),
    'no json': (lambda folder: (folder / 'config.json').write_text('{'), 'JSON'),
    'another version': (lambda folder: _config(folder, width=3), 'another version'),
    'unknown kind': (lambda folder: _config(folder, kind='hydra'), 'kind of a head must be one of'),
    'another model': (lambda folder: _config(folder, model_type='llama'), 'model_type of a head'),
    'no layers': (lambda folder: _config(folder, layers=[]), 'layers of a head'),
    'negative': (lambda folder: _config(folder, mlp_dim=-1), 'mlp_dim of a head'),
    'text': (lambda folder: _config(folder, dim='32'), 'dim of a head'),
    'other shapes': (lambda folder: _config(folder, depth=9), 'copy or train it again'),
    'words beyond': (lambda folder: save_file(load_file(folder / 'model.safetensors')
                                              | {'kept': torch.arange(len(KEPT)) + 10_000},
                                              folder / 'model.safetensors'), 'must say tokens below 300'),
    'pointer': (lambda folder: (folder / 'model.safetensors').write_bytes(
        b'version https://git-lfs.github.com/spec/v1\n'), 'Git LFS pointer'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_folder_is_refused_in_a_sentence(target, tmp_path, name):
    folder = saved(head_of('medusa', target), tmp_path / 'head')
    change, match = BROKEN[name]
    change(folder)
    with pytest.raises(CrossSpecError, match=match):
        load_head(folder, target)


def test_head_of_another_width_is_refused(target, tmp_path):
    wide = load_target(tiny_models.write_checkpoint(tmp_path / 'wide', hidden=64, layers=4))
    folder = saved(head_of('medusa', wide), tmp_path / 'head')
    _config(folder, verifier_key=target.model_key)
    with pytest.raises(CrossSpecError, match='width'):
        load_head(folder, target)


@pytest.mark.parametrize('changes, match', [
    pytest.param(dict(kind='eagle1', layers=(0, FINAL)), 'last states', id='layers of eagle1'),
    pytest.param(dict(dim=30), 'multiple', id='attention heads'),
    pytest.param(dict(layers=(-2,)), 'layers', id='layer below'),
])
def test_config_that_does_not_go_together_is_refused(changes, match):
    fields = dict(kind='eagle3', verifier_key='k', layers=(0, FINAL), dim=32, words=9, mlp_dim=8, attention_heads=4)
    with pytest.raises(CrossSpecError, match=match):
        HeadConfig(**(fields | changes))


def test_usual_layers_are_spread_and_end_with_the_last_states():
    assert usual_layers('eagle3', 8) == (1, 4, FINAL) and usual_layers('block', 28) == (1, 14, FINAL)
    assert usual_layers('medusa', 28) == usual_layers('eagle3', 2) == (FINAL,)
