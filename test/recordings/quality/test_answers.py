"""Exact answers: what counts as the same text, and which choice a text names."""
from __future__ import annotations

import pytest

from crossspec_ros.recordings.quality.answers import chosen, exact, right
from crossspec_ros.recordings.quality.items import QualityItem

CHOICES = ('turning left', 'a red car', 'red')


@pytest.mark.parametrize('text, same', [
    pytest.param('The  Red car.', True, id='articles, case, space'),
    pytest.param('red-car', False, id='joined words'),
    pytest.param('red', False, id='a part'),
])
def test_exact_compares_words(text, same):
    assert exact(text, ('a red car', 'vehicle')) is same


@pytest.mark.parametrize('text, place', [
    pytest.param('B', 1, id='letter'),
    pytest.param('(C)', 2, id='in brackets'),
    pytest.param('B. something else', 1, id='letter and text'),
    pytest.param('The answer is A.', 0, id='sentence'),
    pytest.param('Answer: C', 2, id='label'),
    pytest.param('A red car', 1, id='text that begins with A'),
    pytest.param('It is turning left now', 0, id='text inside'),
    pytest.param('a red car turning left', None, id='two texts'),
    pytest.param('(A) or (B)', None, id='two letters'),
    pytest.param('Z', None, id='no such letter'),
    pytest.param('', None, id='nothing'),
])
def test_chosen_names_one_choice_or_none(text, place):
    assert chosen(text, CHOICES) == place


@pytest.mark.parametrize('text, choices, answers, said', [
    pytest.param('B', CHOICES, ('a red car',), True, id='choice'),
    pytest.param('A', CHOICES, ('a red car',), False, id='other choice'),
    pytest.param('Dog.', None, ('a dog', 'puppy'), True, id='free'),
    pytest.param('Dog.', None, (), None, id='no answer known'),
])
def test_right_is_judged_by_choice_or_text(text, choices, answers, said):
    assert right(text, QualityItem('1', None, None, 'What?', choices, answers, '', 'drive')) is said
