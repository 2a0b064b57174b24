"""The token tree and the checks on foreign ones."""
from __future__ import annotations

import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.tree import TokenTree, tree_fault, vocabulary_fault

#        7 ── 8 ── 9
#  -1 ──<      └── 5
#        3 ── 8
TREE = TokenTree((7, 3, 8, 8, 9, 5), (-1, -1, 0, 1, 2, 2), (1, 2, 3, 2, 1, 1), (.6, .3, .5, .2, .3, .1), ('a', 'b'))


def test_tree_paths_and_children():
    assert TREE.path(4) == [0, 2, 4] and TREE.tokens_to(4) == [7, 8, 9] and TREE.path(-1) == []
    assert TREE.children(-1) == (0, 1) and TREE.children(2) == (4, 5) and TREE.children(5) == ()
    assert TREE.child(-1, 3) == 1 and TREE.child(1, 8) == 3 and TREE.child(1, 9) is None
    assert TREE.names(2) == ('a', 'b') and TREE.names(3) == ('b',)


def test_tree_ancestor_mask_is_the_set_of_paths():
    expected = np.zeros((6, 6), bool)
    for node in range(6):
        expected[node, TREE.path(node)] = True
    np.testing.assert_array_equal(TREE.ancestor_mask(), expected)
    np.testing.assert_array_equal(TREE.depths(), [0, 0, 1, 1, 2, 2])


def test_tree_empty():
    tree = TokenTree()
    assert len(tree) == 0 and tree.ancestor_mask().shape == (0, 0) and tree.depths().shape == (0,)
    assert tree.children(-1) == () and tree.child(-1, 1) is None
    tree.check()


def test_tree_chain():
    tree = TokenTree.chain([4, 5, 6])
    assert tree.parents == (-1, 0, 1) and tree.path(2) == [0, 1, 2]
    tree.check()


@pytest.mark.parametrize('tree, words', [
    pytest.param(TokenTree((1, 2), (-1, 1), (1, 1), (1., 1.)), r'parents\[1\]', id='own parent'),
    pytest.param(TokenTree((1, 2), (-1,), (1, 1), (1., 1.)), 'long', id='short parents'),
    pytest.param(TokenTree((1, 1), (-1, -1), (1, 1), (1., 1.)), 'siblings', id='twins'),
    pytest.param(TokenTree((1, 2), (-1, 0), (1,), (1., 1.)), 'sources', id='short sources'),
])
def test_tree_check_refuses(tree, words):
    with pytest.raises(CrossSpecError, match=words):
        tree.check()


@pytest.mark.parametrize('parents, weights, words', [
    pytest.param((1, 0), (), 'parents', id='cycle'),
    pytest.param((-2, 0), (), 'parents', id='below the prefix'),
    pytest.param((-1, 5), (), 'parents', id='unknown parent'),
    pytest.param((), (1, 0), 'weights', id='zero weight'),
    pytest.param((), (1, -3), 'weights', id='negative weight'),
    pytest.param((), (1,), 'weights', id='short weights'),
])
def test_tree_fault_names_the_rule(parents, weights, words):
    assert words in tree_fault((1, 2), parents, weights)


def test_tree_fault_accepts_chain_and_bounds_length():
    assert tree_fault((1, 2), (), ()) is None
    assert 'at most 1' in tree_fault((1, 2), (), (), max_nodes=1)


@pytest.mark.parametrize('tokens, words', [
    pytest.param((1, 10), r'\[1\]', id='too big'), pytest.param((-1,), r'\[0\]', id='negative'),
    pytest.param((1, 2, 9), 'placeholder', id='banned'),
])
def test_vocabulary_fault(tokens, words):
    import re
    assert re.search(words, vocabulary_fault(tokens, 10, {9}))
    assert vocabulary_fault((1, 2, 8), 10, {9}) is None


@pytest.mark.parametrize('said, nodes', [
    pytest.param([5, 7, 9], [0, 2], id='branch'), pytest.param([5, 6], [0, 1], id='whole'),
    pytest.param([6], [], id='not at the root'), pytest.param([], [], id='nothing')])
def test_along_goes_as_far_as_the_tree_has_the_tokens(said, nodes):
    tree = TokenTree((5, 6, 7), (-1, 0, 0), (1, 1, 1), (1.0, 1.0, 1.0), ('a',))
    assert tree.along(said) == nodes and TokenTree().along(said) == []


def test_trunk_takes_the_likeliest_child():
    tree = TokenTree((5, 6, 7, 8), (-1, 0, 0, 2), (1, 2, 1, 3), (0.9, 0.3, 0.6, 0.2), ('a', 'b'))
    chain = tree.trunk()
    assert chain.token_ids == (5, 7, 8) and chain.parents == (-1, 0, 1) and chain.sources == (1, 1, 3)
    assert tree.trunk(1).token_ids == (5,) and len(tree.trunk(0)) == 0
