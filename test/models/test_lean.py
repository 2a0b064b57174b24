"""The lean forward is the one of transformers, bit for bit where the machine allows, and steps aside elsewhere."""
from __future__ import annotations

import pytest
import torch

import tiny_models
from crossspec_ros.models.lean import supports
from crossspec_ros.models.targets import load_target
from crossspec_ros.models.targets.decoding import NO_TREE
from crossspec_ros.speculation.tree import TokenTree


@pytest.fixture(scope='module', params=['video_llava', 'llava_onevision'])
def folder(request, tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize('cache_kind', ['dynamic', 'static'])
def test_lean_forward_equals_transformers(folder, cache_kind):
    results = []
    tree = TokenTree((51, 52, 53, 54, 55), (-1, 0, 0, 2, -1), (1,) * 5, (1.0,) * 5, ('test',))
    for lean in (True, False):
        target = load_target(folder, cache=cache_kind, lean=lean)
        assert (target._lean is not None) == lean
        cache = target.new_cache(target.layout('What?', 1, 30, 40), 80)
        target.extend(cache, target.embed(range(10, 40)))
        judged = target.verify(cache, target.embed(range(50, 56)), tree, ())
        cache.keep(cache.length - 5, (0, 2, 3))
        results += [judged.logits, target.verify(cache, target.embed([60]), NO_TREE, ()).logits]
    for lean, plain in zip(results[:2], results[2:]):
        assert torch.equal(lean.argmax(-1), plain.argmax(-1))
        torch.testing.assert_close(lean, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('change', [
    pytest.param(lambda model: model.double(), id='another type'),
    pytest.param(lambda model: setattr(model.config, 'hidden_act', 'gelu'), id='another activation'),
    pytest.param(lambda model: setattr(model.rotary_emb, 'rope_type', 'yarn'), id='other positions')])
def test_supports_what_it_cannot_do_is_left_to_transformers(folder, change):
    model = load_target(folder, lean=False).adapter.language_model
    assert supports(model)
    change(model)
    assert not supports(model)
