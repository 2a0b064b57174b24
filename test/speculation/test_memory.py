"""Caption memory: counts of the automaton against counting by hand, bounds, followers."""
from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossspec_ros.speculation.memory import START, CaptionMemory, SuffixAutomaton


def counted(captions) -> dict[tuple[int, ...], dict[int, float]]:
    """Weight of each follower of each context, by looking at every substring."""
    table: dict = defaultdict(lambda: defaultdict(float))
    for caption, weight in captions:
        text = [START, *caption]
        for end in range(1, len(text)):
            for begin in range(end + 1):
                table[tuple(text[begin:end])][text[end]] += weight
    return table


def weights_of(automaton, context):
    state = 0
    for token in context:
        state = automaton._next[state][token]
    return automaton._weights[state]


CAPTIONS = st.lists(st.lists(st.integers(0, 2), max_size=9), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(CAPTIONS, st.data())
def test_automaton_weights_are_the_counts_of_every_context(captions, data):
    automaton = SuffixAutomaton()
    weighted = [(caption, 1.1 ** place) for place, caption in enumerate(captions)]
    for caption, weight in weighted:
        automaton.insert(caption, weight)
    gone = data.draw(st.integers(0, len(captions) - 1))
    for caption, weight in weighted[:gone]:
        automaton.remove(caption, weight)
    expected = counted(weighted[gone:])
    for context, followers in counted(weighted).items():
        assert weights_of(automaton, context) == pytest.approx(dict(expected.get(context, {})))
    assert len(automaton) <= 2 * sum(len(caption) + 1 for caption in captions) + 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=60))
def test_memory_renewed_knows_what_it_keeps(captions):
    memory = CaptionMemory(5, growth=1.0)
    for caption in captions:
        memory.add(caption)
    kept = captions[-5:]
    assert len(memory) == len(kept)
    expected = counted([(caption, 1.0) for caption in kept])
    for context, followers in expected.items():
        if context:
            assert weights_of(memory._now.automaton, context) == pytest.approx(dict(followers))


def test_memory_stays_bounded_on_a_long_drive():
    rng = np.random.default_rng(0)
    memory = CaptionMemory(16)
    states = []
    for _ in range(400):
        memory.add(rng.integers(0, 50, 20).tolist())
        states.append(memory.states)
    assert max(states[200:]) <= max(states[:200]) * 1.05
    assert max(states) <= 2 * 21 * 16 * 6


def test_memory_proposes_the_begin_from_the_start_mark_only():
    memory = CaptionMemory()
    memory.add([1, 2, 3])
    memory.add([1, 5, 6])
    tokens = [token for token, _, _ in memory.followers(memory.start([]))]
    assert tokens[0] == 1
    assert {token for token, _, _ in memory.followers(memory.start([1]))[:2]} == {2, 5}


def test_memory_newer_captions_weigh_more():
    memory = CaptionMemory(growth=1.5)
    for caption in ([1, 2], [1, 3]):
        memory.add(caption)
    assert memory.followers(memory.start([1]))[0][0] == 3


def test_memory_backs_off_to_shorter_contexts():
    memory = CaptionMemory()
    memory.add([1, 2, 3, 4])
    assert memory.followers(memory.start([9, 2, 3]))[0][0] == 4
    assert memory.followers(memory.start([2, 3]))[0][0] == 4


def test_memory_followers_are_a_distribution_in_falling_order():
    rng = np.random.default_rng(1)
    memory = CaptionMemory()
    for _ in range(30):
        memory.add(rng.integers(0, 6, 12).tolist())
    for prefix in ([], [1], [1, 2], [3, 3, 3], [7]):
        probs = [prob for _, prob, _ in memory.followers(memory.start(prefix))]
        assert probs == sorted(probs, reverse=True) and 0 < sum(probs) <= 1 + 1e-9
        tokens = [token for token, _, _ in memory.followers(memory.start(prefix))]
        assert len(set(tokens)) == len(tokens) and START not in tokens


def test_memory_of_one_repeated_token_neither_overflows_nor_crawls():
    memory = CaptionMemory(4)
    for _ in range(12):
        memory.add([7] * 300)
    assert memory.followers(memory.start([7] * 299))[0][0] == 7
    assert memory.states < 4 * 300 * 3


def test_memory_empty():
    memory = CaptionMemory()
    assert memory.followers(memory.start([1, 2])) == [] and len(memory) == 0
    memory.add([])
    assert memory.followers(memory.start([])) == []
