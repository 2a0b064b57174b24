"""A drafter with a part of the words: what it says, where it stops, what its folder must hold."""
from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import ESCAPE, FORMAT, EventDrafter, load_drafter
from crossspec_ros.train.recipe import save_drafter

KEPT = (1, 7, 40, 41, 42, 250)


@pytest.fixture
def pair(base):
    """A drafter with all words, and one with the same weights and some of the words."""
    whole = load_drafter(base)
    config = dataclasses.replace(whole.config, kept_ids=KEPT, verifier_key='feed', format=FORMAT)
    part = EventDrafter(config, whole.tokenizer).eval()
    weights = {name: value for name, value in whole.state_dict().items() if name != 'embed.weight'}
    part.load_state_dict(weights, strict=False)
    with torch.no_grad():
        part.embed.weight[ESCAPE] = 0.0
        part.embed.weight[1:] = whole.embed.weight[list(KEPT)]
    return whole, part


def _voxel(drafter, seed=0):
    return np.random.default_rng(seed).normal(0, 3, drafter.shape).astype(np.float32)


def test_words_are_ids_of_the_verifiers_vocabulary_and_a_table_is_as_small_as_they_are_few(pair):
    whole, part = pair
    assert part.embed.weight.shape[0] == len(KEPT) + 1 < whole.embed.weight.shape[0]
    drafts = [part.draft(_voxel(part, seed), prompt='red', max_tokens=20) for seed in range(8)]
    said = {token for draft in drafts for token in draft.token_ids}
    assert said and said <= set(KEPT)
    assert part.rows_of([7, 8, 250]) == [2, ESCAPE, 6]


def test_logits_of_the_words_kept_are_those_of_the_whole_drafter(pair):
    whole, part = pair
    voxel, ids = torch.from_numpy(_voxel(whole))[None], [7, 41, 250]
    full = whole.logits(whole(voxel, torch.tensor([whole.rows_of(ids)])))
    cut = part.logits(part(voxel, torch.tensor([part.rows_of(ids)])))
    assert torch.allclose(cut[..., 1:], full[..., list(KEPT)], atol=1e-5)


def test_draft_ends_where_a_word_is_missing(pair, monkeypatch):
    _, part = pair
    laws = iter([[0.0, 0, 9, 8, 0, 0, 0], [8.0, 0, 0, 9, 7, 0, 0], [9.0, 8, 0, 0, 0, 0, 0]])
    monkeypatch.setattr(part, 'logits', lambda hidden: torch.tensor(next(laws)))
    steps = list(part.draft_stream(_voxel(part), prompt='red', prefix_ids=[9, 7]))
    assert [(first, second) for first, _, second, _ in steps] == [(7, 40), (40, 41)]     # the escape is nobody's word
    assert next(laws, None) is None


def test_folder_carries_the_words_and_the_verifiers_key(pair, tmp_path):
    _, part = pair
    save_drafter(part, tmp_path / 'learned')
    loaded = load_drafter(tmp_path / 'learned')
    assert loaded.config.kept_ids == KEPT and loaded.verifier_key == 'feed'
    voxel = _voxel(part)
    with torch.no_grad():                                       # stored in 16 bits
        part.load_state_dict({name: value.half().float() for name, value in part.state_dict().items()})
    assert loaded.draft(voxel, prompt='red').token_ids == part.draft(voxel, prompt='red').token_ids


@pytest.mark.parametrize(('values', 'word'), [
    pytest.param({'format': FORMAT + 1}, 'another version of crossspec_ros', id='newer'),
    pytest.param({'format': 'x'}, 'format in', id='no number'),
    pytest.param({'kept_ids': [7, 1]}, 'must rise', id='not rising'),
    pytest.param({'kept_ids': [7, 40]}, 'hold the end token', id='no end'),
    pytest.param({'kept_ids': [1, 4000]}, 'must rise from 0 to', id='beyond the vocabulary'),
    pytest.param({'kept_ids': 'many'}, 'must be a list', id='no list')])
def test_folders_of_another_kind_are_refused(pair, tmp_path, values, word):
    save_drafter(pair[1], tmp_path / 'learned')
    path = tmp_path / 'learned' / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text(encoding='utf-8')) | values), encoding='utf-8')
    with pytest.raises(CrossSpecError, match=word):
        load_drafter(tmp_path / 'learned')


def test_folders_of_before_still_load(base, tmp_path):
    values = json.loads((base / 'config.json').read_text(encoding='utf-8'))
    for name in ('kept_ids', 'verifier_key', 'verifier', 'format'):
        values.pop(name, None)
    for path in base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / 'config.json').write_text(json.dumps(values), encoding='utf-8')
    assert load_drafter(tmp_path).config.kept_ids == () and load_drafter(tmp_path).verifier_key == ''
