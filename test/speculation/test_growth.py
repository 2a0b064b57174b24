"""Growth: best first, merged by (parent, token), bounded."""
from __future__ import annotations

from crossspec_ros.speculation.growth import Growth, grow


class Table:
    """A source whose followers are a table of state -> steps."""

    def __init__(self, name, steps):
        self.name, self._steps = name, steps

    def step(self, state):
        return self._steps.get(state, ())


A = Table('a', {0: [(1, 0.6, 1), (2, 0.3, 2)], 1: [(3, 0.9, None)], 2: [(4, 0.5, None)]})
B = Table('b', {0: [(2, 0.8, 5)], 5: [(4, 0.9, None), (6, 0.05, None)]})


def test_grow_takes_the_likeliest_paths_first():
    tree = grow([A], [(0, 0)], 3)
    assert tree.token_ids == (1, 3, 2) and tree.parents == (-1, 0, -1)
    assert tree.probs == (0.6, 0.54, 0.3)


def test_grow_merges_sources_by_parent_and_token():
    tree = grow([A, B], [(0, 0), (1, 0)], 10)
    tree.check()
    assert sorted(tree.tokens_to(node) for node in range(len(tree))) == [[1], [1, 3], [2], [2, 4], [2, 6]]
    node = tree.child(tree.child(-1, 2), 4)
    assert tree.names(node) == ('a', 'b') and abs(tree.probs[node] - 0.8 * 0.9) < 1e-12
    assert tree.names(tree.child(-1, 1)) == ('a',)


def test_grow_survival_falls_along_the_order():
    tree = grow([A, B], [(0, 0), (1, 0)], 10)
    assert list(tree.probs) == sorted(tree.probs, reverse=True)


def test_grow_obeys_its_bounds():
    assert len(grow([A], [(0, 0)], 0)) == 0 and len(grow([A], [], 9)) == 0
    assert grow([A], [(0, 0)], 9, max_depth=1).token_ids == (1, 2)
    assert grow([A], [(0, 0)], 9, banned_ids={1}).token_ids == (2, 4)
    loop = Table('loop', {0: [(1, 1.0, 0)]})
    assert len(grow([loop], [(0, 0)], 50)) == 50


def test_growth_in_steps_is_growth_at_once():
    for stops in ([1, 2, 3, 4, 5], [2, 5], [3, 9]):
        growth = Growth([A, B], [(0, 0), (1, 0)])
        for stop in stops:
            growth.extend(stop)
            assert len(growth) <= stop
        whole = grow([A, B], [(0, 0), (1, 0)], stops[-1])
        assert growth.tree(len(growth)) == whole and growth.tree(2) == whole.head(2)
