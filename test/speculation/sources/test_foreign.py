"""Drafts from outside as a source: trees, what is measured of their weights, and going on after a word that differs."""
from __future__ import annotations

import pytest

from crossspec_ros.speculation.inbox import Admission, Inbox
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.sources.foreign import ForeignDraft
from crossspec_ros.speculation.types import Draft, prefix_hash

TREE = dict(token_ids=(5, 6, 7, 8, 16, 17), parents=(-1, 0, 1, 2, 0, 4), weights=(990, 600, 900, 900, 300, 800))
"""5 6 7 8, and 16 17 for 6 7."""


def draft(window_id=1, base=(), **changes) -> Draft:
    fields = dict(window_end_ns=0, revision=0, prompt_key='q', tokenizer_key='t', text='', token_ids=(5, 6, 7, 8),
                  source='one', base_length=len(base), base_hash=prefix_hash(base))
    return Draft(window_id, **(fields | changes))


def heard(*drafts: Draft) -> ForeignDraft:
    """The source of a drafter that said so much of window 1."""
    inbox = Inbox(Admission(vocab_size=1000, tokenizer_key='t'))
    inbox.begin(1, 'q')
    for each in drafts:
        assert inbox.offer(each) is None
    return inbox.sources[0]


def words(source: ForeignDraft, committed: tuple[int, ...]) -> list[int]:
    """The best words after the committed ones."""
    found, state = [], source.start(committed)
    while state is not None:
        steps = source.step(state)
        found.append(steps[0][0])
        state = steps[0][2]
    return found


@pytest.mark.parametrize('committed, expected', [
    pytest.param((), [5, 6, 7, 8], id='begin'),
    pytest.param((5, 16), [17], id='second choice'),
    pytest.param((5, 6, 9), [8], id='one word replaced'),
    pytest.param((5, 6, 7, 8), [], id='used up'),
    pytest.param((5, 6, 7, 9), [], id='replaced at the end'),
    pytest.param((9, 10, 6, 7), [8], id='aligned'),
    pytest.param((5, 9, 10), [], id='two words further'),
])
def test_foreign_goes_on_where_it_can(committed, expected):
    assert words(heard(draft(**TREE)), committed) == expected


def test_foreign_second_choice_stands_beside_the_first():
    source = heard(draft(**TREE))
    (first, prob, _), (second, less, _) = source.step(source.start((5,)))
    assert (first, second) == (6, 16) and 0 < less < prob < 1


def told(proposer: Proposer, window: int, offered: Draft, said: tuple[int, ...]) -> None:
    """A window whose caption is ``said``."""
    proposer.begin(Opening(window, 'q'))
    proposer.inbox.offer(offered)
    committed = []
    while len(committed) < len(said):
        tree = proposer.propose(tuple(committed), 16)
        nodes = tree.along(said[len(committed):])
        emitted = said[len(committed):len(committed) + len(nodes) + 1]
        committed += emitted
        proposer.observe(PassOutcome(tree, tuple(nodes[:len(emitted)]), tuple(emitted)), committed)
    proposer.finish(said)


def test_foreign_weights_count_by_what_came_of_such_words():
    proposer = Proposer(ProposerConfig(('drafts',)), Admission(vocab_size=1000, tokenizer_key='t'))
    for window in range(60):                                    # what it is certain of comes, what it doubts does not
        told(proposer, window, draft(window, weights=(9000, 9000, 4000, 9000)), (5, 6, 40 + window, 8))
    proposer.begin(Opening(99, 'q'))
    proposer.inbox.offer(draft(99, weights=(9000, 4000, 9000, 9000)))
    source, = proposer.inbox.sources
    state = source.start(())
    shares = []
    while state is not None:
        (_, prob, state), = source.step(state)
        shares.append(prob)
    assert shares[0] > 0.8 and shares[2] > 0.8 and shares[1] < 0.3


def test_foreign_weights_of_any_size_are_probabilities():
    source = heard(draft(weights=(1, 2**32 - 1, 1, 7)))
    state = source.start(())
    while state is not None:
        (_, prob, state), = source.step(state)
        assert 0 < prob <= 1


def test_foreign_earlier_draft_is_used_where_the_newest_departs_from_what_was_said():
    early, late = draft(), draft(revision=1, token_ids=(5, 9, 9, 9))
    source = heard(early, late)
    assert words(source, ()) == [5, 9, 9, 9] and words(source, (5, 6)) == [7, 8]


def test_foreign_redraft_goes_on_from_its_base():
    again = draft(base=(5, 9), revision=1, token_ids=(10, 11, 12), parents=(-1, 0, -1), weights=(5, 5, 1))
    inbox = Inbox(Admission(vocab_size=1000, tokenizer_key='t'))
    inbox.begin(1, 'q')
    assert inbox.offer(draft(**TREE)) is None
    inbox.commit((5, 9))
    assert inbox.offer(again) is None
    source, = inbox.sources
    assert words(source, (5, 9)) == [10, 11] and words(source, (5, 9, 10)) == [11]
    steps = source.step(source.start((5, 9)))
    assert [step[0] for step in steps] == [10, 12]
