"""Sources that follow one sequence, and the target's bigrams."""
from __future__ import annotations

import pytest

from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.sources.chain import PreviousCaption, PromptLookup, Rehearsal, align
from crossspec_ros.speculation.sources.recycling import TokenRecycling
from crossspec_ros.speculation.tree import TokenTree


@pytest.mark.parametrize('sequence, committed, expected', [
    pytest.param([5, 6, 7], [], (0, 0), id='begin'),
    pytest.param([], [], (-1, 0), id='nothing'),
    pytest.param([5, 6, 7], [5, 6], (2, 2), id='agrees'),
    pytest.param([5, 6, 7, 8], [5, 9, 6, 7], (3, 2), id='a word inserted'),
    pytest.param([5, 6, 7], [9], (-1, 0), id='unknown'),
    pytest.param([1, 2, 3, 1, 2, 4], [0, 0, 0, 1, 2], (5, 2), id='nearest of equals'),
    pytest.param([1, 2, 3, 9, 2, 4], [1, 2], (2, 2), id='longest match'),
])
def test_align(sequence, committed, expected):
    assert align(sequence, committed) == expected


def walk(source, committed):
    """Tokens that the source would propose as a chain."""
    tokens, state = [], source.start(committed)
    while state is not None:
        (token, prob, state), = source.step(state)
        assert 0 < prob <= 1
        tokens.append(token)
    return tokens


def test_previous_caption_goes_on_after_a_mismatch():
    source = PreviousCaption()
    source.begin(Opening(0, 'q'))
    source.finish([1, 2, 3, 4, 5])
    source.begin(Opening(1, 'q'))
    assert walk(source, []) == [1, 2, 3, 4, 5]
    assert walk(source, [1, 9, 3]) == [4, 5]
    assert walk(source, [1, 2, 3, 4, 5]) == []


def test_previous_caption_holds_a_bounded_number_of_prompts():
    source = PreviousCaption(max_prompts=2)
    for number in range(5):
        source.begin(Opening(number, f'q{number}'))
        source.finish([number])
    assert len(source._captions) == 2
    source.begin(Opening(9, 'q0'))
    assert source.start([]) is None


def test_chain_feedback_moves_the_probability():
    source = PreviousCaption()
    source.begin(Opening(0, 'q'))
    source.finish([1, 2, 3])
    state = source.start([1])
    before = source.step(state)[0][1]
    for _ in range(20):
        source.feedback(state, 9)
    assert source.step(state)[0][1] < before / 2


def test_rehearsal_is_for_its_window_only():
    source = Rehearsal()
    source.begin(Opening(0, 'q'))
    source.rehearsed([1, 2])
    assert walk(source, []) == [1, 2]
    source.begin(Opening(1, 'q'))
    assert source.start([]) is None


def test_prompt_lookup_needs_words_in_common():
    source = PromptLookup()
    source.begin(Opening(0, 'q', (1, 2, 3, 4)))
    assert source.start([]) is None and source.start([9, 2]) is None
    assert walk(source, [1, 2]) == [3, 4]


def outcome(read, topk) -> PassOutcome:
    return PassOutcome(TokenTree(), (), (0,), read=tuple(read), topk=tuple(map(tuple, topk)))


def test_recycling_proposes_the_targets_runners_up():
    source = TokenRecycling(width=2, max_tokens=2)
    assert source.start([1]) is None
    source.observe(outcome([1, 2], [[2, 3, 4], [5, 6]]))
    steps = source.step(source.start([0, 1]))
    assert [token for token, _, _ in steps] == [2, 3] and steps[0][2] == 2 and steps[1][2] is None
    source.observe(outcome([7], [[8]]))
    assert source.start([1]) is None and source.start([7]) is not None  # the oldest row made room
