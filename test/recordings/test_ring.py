"""The ring holds what it says, in its bounds; a moment holds what the ring held and what came after."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings import ring as rings
from crossspec_ros.recordings.caption_rules import RuleBook, parse
from crossspec_ros.recordings.ring import Kept, Ring

S = 1_000_000_000


def message(at_s: float, size: int = 10, topic: str = '/a') -> Kept:
    return Kept(topic, 'std_msgs/msg/String', round(at_s * S), bytes(size))


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 400)), max_size=60))
def test_a_ring_holds_the_newest_that_fit_and_counts_what_found_no_room(steps):
    ring, at_s, sent = Ring(5.0, 1000), 0.0, []
    for wait_s, size in steps:
        at_s += wait_s
        sent.append(message(at_s, size))
        ring.add(sent[-1])
    held = ring.messages()
    assert held == sent[len(sent) - len(held):]
    assert ring.size == sum(len(m.cdr) for m in held) <= 1000
    assert ring.span_s <= 5.0 + 1e-6
    young = [m for m in sent if sent[-1].log_ns - m.log_ns <= 5 * S]
    assert len(young) - len(held) <= ring.pushed_out <= len(sent) - len(held)


def test_a_message_larger_than_the_ring_leaves_it_empty_and_is_counted():
    ring = Ring(5.0, 100)
    ring.add(message(0, 200))
    assert not len(ring) and ring.size == 0 and ring.pushed_out == 1


def test_a_moment_holds_the_ring_and_what_comes_after_up_to_its_room():
    ring = Ring(10.0, 100)
    for at in range(5):
        ring.add(message(at))
    moment = rings.begin(ring, 'service', 4 * S, 2.0)
    for at in (5, 6):
        moment.add(message(at, 60))
    assert [m.log_ns // S for m in moment.messages] == [0, 1, 2, 3, 4, 5] and moment.left_out == 1
    moment.extend('word:dog', 9 * S)
    assert moment.end_ns == 9 * S and moment.reasons == ['service', 'word:dog']


@pytest.mark.parametrize('text', ['', 'word', 'word:', 'field:mode', 'field:=x', 'colour:red', 'change:a=b'])
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(CrossSpecError, match='keep.rules must hold word:TEXT'):
        parse(text)


def test_a_word_is_a_whole_word_whatever_its_case():
    book = RuleBook(('word:dog',))
    assert book.judge('A Dog crosses.') == ['word:dog']
    assert not book.judge('A hotdog stand.') and not book.judge('Dogs bark.')


def test_a_field_of_the_message_or_of_a_caption_that_is_json():
    book = RuleBook(('field:mode=draft_only', 'field:hazard=true', 'field:object=child'))
    assert book.judge('words', {'mode': 'draft_only'}) == ['field:mode=draft_only']
    assert book.judge('{"hazard": true, "object": "child"}') == ['field:hazard=true', 'field:object=child']
    assert not book.judge('{not json', {'mode': 'cross_modal'})


def test_a_change_needs_a_caption_before_it():
    book = RuleBook(('change', 'change:mode'))
    assert not book.judge('a', {'mode': 'x'})
    assert book.judge('b', {'mode': 'x'}) == ['change']
    assert book.judge('b', {'mode': 'y'}) == ['change:mode']
    book.forget()
    assert not book.judge('c', {'mode': 'z'})
