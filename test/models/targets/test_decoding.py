"""Masks, positions and rows: what a decoder is handed for new tokens."""
from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets.decoding import (FULL, NO_TREE, ONE_KIND, SLIDING, DecoderStyle, FeatureForm,
                                                   MaskKind, Placement, style_of, tree_mask)
from crossspec_ros.models.targets.packing import RowFormat
from crossspec_ros.models.targets.watching import _feature_form
from crossspec_ros.speculation.tree import TokenTree

TREE = TokenTree((5, 6, 7), (-1, 0, -1), (1,) * 3, (1.0,) * 3, ('a',))


def test_window_counts_from_the_depth_of_a_node():
    mask, index = tree_mask(4, 4, TREE, 8)                    # one row before the tree, at 4; nodes at 5, 6 and 5
    seen = DecoderStyle.mask(MaskKind(3), mask, index, 4, None)
    assert index.tolist() == [4, 5, 6, 5]
    assert seen.int().tolist() == [[0, 0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 0],
                                   [0, 0, 0, 1, 1, 0, 0, 1]]


@pytest.mark.parametrize('kind, first, last', [
    pytest.param(MaskKind(), [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], id='causal'),
    pytest.param(MaskKind(blocks='runs'), [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], id='runs'),
    pytest.param(MaskKind(blocks='all'), [1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1], id='all'),
    pytest.param(MaskKind(2, 'all'), [1, 1, 1, 0, 1, 1], [0, 1, 1, 0, 1, 1], id='all, windowed elsewhere'),
    pytest.param(MaskKind(2, 'all', True), [1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 1, 1], id='all, cut')])
def test_blocks_see_forward(kind, first, last):
    mask, index = tree_mask(1, 5, NO_TREE, 6)
    flags = torch.tensor([True, True, False, True, True])
    seen = DecoderStyle.mask(kind, mask, index, 1, flags).int().tolist()
    assert seen[0] == first and seen[-1] == last


def test_masks_by_name_and_as_summands():
    style = DecoderStyle({FULL: MaskKind(), SLIDING: MaskKind(1)}, additive=True)
    mask, index = tree_mask(0, 2, NO_TREE, 2)
    made = style.masks(mask, index, 0, None, torch.zeros(1, dtype=torch.float16))
    assert set(made) == {FULL, SLIDING} and made[FULL].shape == (1, 1, 2, 2)
    lowest = torch.finfo(torch.float16).min
    assert made[FULL][0, 0].tolist() == [[0, lowest], [0, 0]]
    assert made[SLIDING][0, 0].tolist() == [[0, lowest], [lowest, 0]]


def test_placement_goes_on_after_the_prompt():
    placement = Placement(torch.tensor([[0, 1, 1, 2], [0, 1, 2, 3]]), torch.tensor([[-2], [-1]]))
    assert placement.positions(torch.tensor([2, 3, 4, 5])).tolist() == [[1, 2, 2, 3], [2, 3, 3, 4]]


@pytest.mark.parametrize('settings, kinds', [
    pytest.param({}, {ONE_KIND: MaskKind()}, id='full'),
    pytest.param(dict(sliding_window=8), {ONE_KIND: MaskKind(8)}, id='one window'),
    pytest.param(dict(sliding_window=8, use_sliding_window=False), {ONE_KIND: MaskKind()}, id='window not used'),
    pytest.param(dict(sliding_window=8, layer_types=[FULL, FULL]), {ONE_KIND: MaskKind()}, id='full by type'),
    pytest.param(dict(sliding_window=8, layer_types=[FULL, SLIDING]), {FULL: MaskKind(), SLIDING: MaskKind(8)},
                 id='mixed')])
def test_style_of_a_config(settings, kinds):
    assert dict(style_of(LlamaConfig(num_hidden_layers=2, **settings)).kinds) == kinds


@pytest.mark.parametrize('settings, match', [
    pytest.param(dict(layer_types=[FULL, 'linear_attention']), 'got linear_attention', id='recurrent'),
    pytest.param(dict(num_kv_shared_layers=1), 'num_kv_shared_layers', id='shared keys')])
def test_layers_that_cannot_be_cut_back_are_refused(settings, match):
    config = LlamaConfig(num_hidden_layers=2)
    for name, value in settings.items():
        setattr(config, name, value)
    with pytest.raises(CrossSpecError, match=match):
        style_of(config)


def test_plain_rows_are_the_embeddings_themselves():
    rows, embeddings = RowFormat(4), torch.randn(3, 4)
    assert rows.text(embeddings) is embeddings and rows.embeddings(embeddings) is embeddings
    assert rows.features(embeddings) is None and rows.blocks(embeddings) is None


def test_packed_rows_give_back_what_was_put_in():
    rows, text, pictures = RowFormat(4, 2, True), torch.randn(2, 4), torch.randn(3, 4)
    layers = [torch.randn(3, 4), torch.randn(3, 4)]
    packed = torch.cat([rows.text(text), rows.pictures(pictures, layers)])
    where = torch.tensor([False, False, True, True, True])
    assert torch.equal(rows.prompt(torch.cat([text, pictures]), (where, layers), where), packed)
    assert torch.equal(rows.embeddings(packed), torch.cat([text, pictures]))
    assert torch.equal(rows.blocks(packed), where) and rows.blocks(packed[:2]) is None
    found, given = rows.features(packed)
    assert torch.equal(found, where) and all(map(torch.equal, given, layers)) and rows.features(packed[:2]) is None


@pytest.mark.parametrize('form', [
    pytest.param(FeatureForm(), id='list'), pytest.param(FeatureForm('seen', 'deep', (0, 3), True), id='dict, wide')])
def test_form_of_features_is_found_again(form):
    where, layers = torch.tensor([False, True, True, False]), [torch.randn(2, 8), torch.randn(2, 8)]
    handed = form.handed(where, layers)
    assert _feature_form(handed, torch.zeros(1, 4, 8)) == form
    assert _feature_form({form.mask: handed[form.mask]}, torch.zeros(1, 4, 8)) is None
