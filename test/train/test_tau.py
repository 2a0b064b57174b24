"""Counting target passes on known tokens, and the marking of corrected words."""
from __future__ import annotations

import pytest

from crossspec_ros.train.pictures import marked_words
from crossspec_ros.train.tau import TauCount, as_draft, count_window, make_proposer
from crossspec_ros.train.text_scores import text_scores

TRUTH = [10, 11, 12, 13, 14, 15, 1]


def _count(said: list[int]) -> TauCount:
    proposer, count, revision = make_proposer(('drafts',), 100, 'key'), TauCount(), iter(range(99))
    count_window(proposer, 1, 'describe', TRUTH, count,
                 redraft=lambda base: as_draft(1, next(revision), 'describe', 'key', base, said[len(base):]))
    return count


@pytest.mark.parametrize('said, passes', [
    pytest.param(TRUTH, 1, id='all_accepted'),
    pytest.param([10, 11, 99, 13, 14, 15, 1], 2, id='one_wrong'),
    pytest.param([99] * 7, 7, id='all_wrong'),
    pytest.param([], 7, id='empty'),
])
def test_count_window_counts_target_passes(said: list[int], passes: int) -> None:
    count = _count(said)
    assert (count.passes, count.tokens) == (passes, len(TRUTH))
    assert count.tau == pytest.approx(len(TRUTH) / passes)


def test_count_window_counts_acceptance_by_position() -> None:
    assert _count([10, 11, 99, 13, 14, 15, 1]).right == [1, 1, 0, 1, 1, 1, 1]


def test_marked_words_marks_only_what_was_corrected() -> None:
    left, right = marked_words('the car is red and it is day.', 'the car is blue and it is dusk.')
    assert [word for word, wrong in left if wrong] == ['red', 'day.']
    assert [word for word, wrong in right if wrong] == ['blue', 'dusk.']


def test_text_scores_of_equal_texts_are_the_best() -> None:
    texts = ['A red car is braking hard straight ahead.', 'A bus is crossing from the left.',
             'The road ahead is clear.']
    best, worse = text_scores(texts, texts), text_scores(texts[::-1], texts)
    assert best['bleu4'] == pytest.approx(100.0) and best['rouge_l'] == pytest.approx(1.0)
    assert all(worse[name] < best[name] for name in best)
