"""The lean forward is the one of transformers, bit for bit where the machine allows, and steps aside elsewhere."""
from __future__ import annotations

import pytest
import torch

import tiny_models
from crossspec_ros.models.lean import supports
from crossspec_ros.models.verifier import load_verifier


@pytest.fixture(scope='module', params=['video_llava', 'llava_onevision'])
def folder(request, tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize('cache_kind', ['dynamic', 'static'])
def test_lean_forward_equals_transformers(folder, cache_kind):
    results = []
    for lean in (True, False):
        verifier = load_verifier(folder, cache=cache_kind, lean=lean)
        cache = verifier.new_cache(80)
        verifier.extend(cache, verifier.embed(range(10, 40)))
        tree = verifier.verify(cache, verifier.embed(range(50, 56)), (-1, 0, 0, 2, -1), 6)
        cache.keep(cache.length - 5, (0, 2, 3))
        results += [tree, verifier.verify(cache, verifier.embed([60]), (), 1)]
    for lean, plain in zip(results[:2], results[2:]):
        assert torch.equal(lean.argmax(-1), plain.argmax(-1))
        torch.testing.assert_close(lean, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('change', [
    pytest.param(lambda model: model.double(), id='another type'),
    pytest.param(lambda model: setattr(model.config, 'hidden_act', 'gelu'), id='another activation'),
    pytest.param(lambda model: setattr(model.rotary_emb, 'rope_type', 'yarn'), id='other positions')])
def test_supports_what_it_cannot_do_is_left_to_transformers(folder, change):
    model = load_verifier(folder, lean=False).adapter.language_model
    assert supports(model)
    change(model)
    assert not supports(model)
