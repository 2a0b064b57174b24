"""Drafts that go on from verdicts, as the drafter's node makes them, and when they are there."""
from __future__ import annotations

from dataclasses import replace

import pytest

from crossspec_ros.bench.decode_schemes import Window, _Drafts
from crossspec_ros.bench.redrafts import MOST, Redrafter
from crossspec_ros.speculation.types import Draft, Verdict, prefix_hash

LATE = Draft(1, 1000, 1, 'asked', 'words', 'a b c', (5, 6, 7), (), (900, 800, 700), compute_ms=20.0)


def again(revision: int, committed: tuple[int, ...]) -> Draft:
    return replace(LATE, revision=revision, token_ids=(committed[-1] + 1,), weights=(900,), compute_ms=10.0,
                   base_length=len(committed), base_hash=prefix_hash(committed))


def verdict(*committed: int, final: bool = False) -> Verdict:
    return Verdict(1, 1000, committed, prefix_hash(committed), 1, final)


@pytest.mark.parametrize('committed, made', [
    pytest.param((), False, id='nothing said'),
    pytest.param((5, 6), False, id='as drafted'),
    pytest.param((5, 9), True, id='departs'),
    pytest.param((5, 6, 7, 8), True, id='longer than the draft')])
def test_redraft_where_the_verdict_departs_from_the_draft(committed, made):
    found = Redrafter(LATE, again).after(committed)
    assert (found is not None) == made
    if made:
        assert found.revision == 2 and found.base_length == len(committed)


def test_redrafts_follow_the_newest_draft_and_are_bounded():
    redrafter = Redrafter(LATE, again)
    assert redrafter.after((5, 9)).token_ids == (10,)
    assert redrafter.after((5, 9, 10)) is None                  # as the redraft says
    departing = [(5, 9, 10 + 3 * more) for more in range(1, MOST + 3)]
    assert sum(redrafter.after(committed) is not None for committed in departing) == MOST - 1


def test_drafts_are_there_once_they_could_be():
    drafts = _Drafts(Window(1, [], 'asked', LATE, LATE, lambda: Redrafter(LATE, again)))
    drafts.hear(verdict(5, 9), 5.0)                             # busy with the late draft until 20 ms
    assert drafts.there(21.9) == []
    assert drafts.there(22.0) == [LATE]
    assert drafts.there(31.9) == []
    assert [draft.base_length for draft in drafts.there(50.0)] == [2] and drafts.there(99.0) == []
