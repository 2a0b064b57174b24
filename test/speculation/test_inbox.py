"""The inbox: every cause of refusal, drafters side by side, and offers from many threads."""
from __future__ import annotations

import dataclasses
import threading
from collections import Counter

import pytest

from crossspec_ros.speculation.inbox import Admission, Inbox
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.sources import REGISTRY, SOURCE_NAMES
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.types import Draft, Mode, Verdict, prefix_hash
from engine_harness import TOKENS, caption_of, draft_of, feed, make_engine, without_clock

WORDS = (5, 6, 7, 8)


def draft(window_id=3, **changes) -> Draft:
    fields = dict(window_end_ns=0, revision=0, prompt_key='q', tokenizer_key='t', text='text', token_ids=WORDS,
                  source='one')
    return Draft(window_id, **(fields | changes))


def opened(committed=(), **admission) -> Inbox:
    """An inbox at window 3, at the question 'q', with so much of the caption said."""
    inbox = Inbox(Admission(**(dict(vocab_size=1000, tokenizer_key='t', banned_ids=frozenset({42})) | admission)),
                  reserved={'memory', 'drafts'})
    inbox.begin(3, 'q')
    inbox.commit(committed)
    return inbox


@pytest.mark.parametrize('offered, cause', [
    pytest.param(draft(token_ids=(1,) * 513), 'malformed', id='too long'),
    pytest.param(draft(parents=(1, 2, 3, 0)), 'malformed', id='cycle'),
    pytest.param(draft(parents=(-1, 0)), 'malformed', id='parents too short'),
    pytest.param(draft(parents=(-2, 0, 1, 2)), 'malformed', id='parent before the prefix'),
    pytest.param(draft(weights=(1, 0, 1, 1)), 'malformed', id='weight of zero'),
    pytest.param(draft(weights=(1,)), 'malformed', id='weights too short'),
    pytest.param(draft(base_length=-1), 'malformed', id='negative base'),
    pytest.param(draft(base_hash=7), 'malformed', id='hash of no prefix'),
    pytest.param(draft(token_ids=('a',)), 'malformed', id='words for tokens'),
    pytest.param(draft(token_ids=(5.0,)), 'malformed', id='fractions for tokens'),
    pytest.param(draft(token_ids=None), 'malformed', id='no tokens'),
    pytest.param(draft(window_id='3'), 'malformed', id='a text for the window'),
    pytest.param(draft(revision=None), 'malformed', id='no revision'),
    pytest.param(draft(text=b'text'), 'malformed', id='bytes'),
    pytest.param(draft(text='a\ud800', tokenizer_key='other'), 'malformed', id='lone surrogate'),
    pytest.param(draft(prompt_key=['q']), 'malformed', id='a list for the question'),
    pytest.param(draft(token_ids=(5, 1000)), 'vocabulary', id='out of vocabulary'),
    pytest.param(draft(token_ids=(5, -1)), 'vocabulary', id='negative token'),
    pytest.param(draft(token_ids=(5, 42)), 'vocabulary', id='placeholder'),
    pytest.param(draft(tokenizer_key='other'), 'tokenizer', id='tokenizer'),
    pytest.param(draft(source=''), 'source', id='no name'),
    pytest.param(draft(source='memory'), 'source', id='name of a source'),
    pytest.param(draft(source='drafts'), 'source', id='name of all drafters'),
    pytest.param(draft(source='One'), 'source', id='capital'),
    pytest.param(draft(source='one/two'), 'source', id='slash'),
    pytest.param(draft(source='one\n'), 'source', id='line break'),
    pytest.param(draft(source='x' * 33), 'source', id='long name'),
    pytest.param(draft(prompt_key='other'), 'foreign_prompt', id='question'),
    pytest.param(draft(12), 'foreign_window', id='too far ahead'),
    pytest.param(draft(2), 'late', id='late'),
    pytest.param(draft(base_length=2, base_hash=prefix_hash((5, 9))), 'stale', id='other prefix'),
    pytest.param(draft(base_length=9, base_hash=1), 'stale', id='beyond what was said'),
    pytest.param(draft(), None, id='good'),
    pytest.param(draft(token_ids=()), None, id='empty'),
    pytest.param(draft(11), None, id='ahead'),
    pytest.param(draft(4, prompt_key='other'), None, id='another question, later'),
    pytest.param(draft(token_ids=[5, 6]), None, id='list'),
    pytest.param(draft(base_length=2, base_hash=prefix_hash((5, 6))), None, id='continuation')])
def test_offer_says_why_and_counts(offered, cause):
    inbox = opened(committed=(5, 6))
    assert inbox.offer(offered) == cause
    assert inbox.refusals == {cause or 'taken': 1} and inbox.taken == (cause is None)
    assert inbox.drafted(offered.window_id) == (cause is None)
    assert [source.name for source in inbox.sources] == ['one'] * (cause is None)


def test_offer_revisions_are_counted_by_drafter():
    inbox = opened()
    assert inbox.offer(draft(revision=4)) is None and inbox.offer(draft(revision=4)) == 'stale'
    assert inbox.offer(draft(revision=3)) == 'stale' and inbox.offer(draft(revision=5)) is None
    assert inbox.offer(draft(revision=0, source='two')) is None, 'revisions of another drafter'
    assert inbox.offer(draft(4, revision=0)) is None, 'revisions of another window'


def test_offer_before_any_window_holds_a_bounded_number_of_windows():
    inbox = Inbox(Admission(windows_ahead=3))
    assert [inbox.offer(draft(window)) for window in (50, 60, 70)] == [None] * 3
    assert inbox.offer(draft(40)) == 'late' and inbox.offer(draft(60, revision=1)) is None
    assert inbox.offer(draft(60, source='two')) is None, 'another drafter of a window that is held'
    assert inbox.sizes()['waiting_drafts'] == 4


def test_offer_before_any_window_the_newest_are_held():
    inbox = Inbox(Admission(windows_ahead=3))
    for window in range(50, 60):
        assert inbox.offer(draft(window)) is None, 'a drafter speaks before the camera does'
    assert inbox.sizes()['waiting_drafts'] == 3 and inbox.refusals['late'] == 7
    assert inbox.offer(draft(50, revision=9)) == 'late'
    inbox.begin(58, 'q')
    assert inbox.sizes()['waiting_drafts'] == 2


def test_offer_more_drafters_than_allowed_are_refused_and_the_others_go_on():
    inbox = opened(max_drafters=2)
    assert inbox.offer(draft(source='one')) is None and inbox.offer(draft(source='two')) is None
    assert inbox.offer(draft(source='three')) == 'source'
    assert inbox.offer(draft(source='two', revision=1)) is None
    assert [source.name for source in inbox.sources] == ['one', 'two']
    inbox.reset()
    inbox.begin(1, 'q')
    assert inbox.offer(draft(source='three')) == 'source' and inbox.offer(draft(source='one')) is None


@pytest.mark.parametrize('name', ['drafts', *REGISTRY])
@pytest.mark.parametrize('sources', [('drafts',), SOURCE_NAMES], ids=['drafts alone', 'all'])
def test_offer_under_the_name_of_a_source_is_refused(sources, name):
    proposer = Proposer(ProposerConfig(sources))
    proposer.begin(Opening(3, 'q'))
    assert proposer.inbox.offer(draft(source=name)) == 'source'


def test_offer_foreign_tokenizer_is_cut_where_it_is_too_long():
    inbox = opened(tokenize=lambda text: range(100, 900), max_nodes=10)
    assert inbox.offer(draft(tokenizer_key='other')) is None
    assert inbox.sources[0].start(()) == (-1, 0)
    assert inbox._newest('one', ()).token_ids == tuple(range(100, 110))


def both(engine, target, window, expected, good=True, bad=True) -> None:
    """Offers for a window: the right words, and wrong ones."""
    wrong = tuple((token + 7) % 200 + 20 for token in expected)
    if bad:
        assert engine.offer(draft_of(target, window, wrong, source='bad')) is None
    if good:
        assert engine.offer(draft_of(target, window, expected, source='good')) is None


def last_verdict(engine, target, window, clip, expected, **offers) -> tuple[Verdict, int]:
    """The verdict at a caption's end, and the passes it took."""
    both(engine, target, window, expected, **offers)
    session = feed(engine, window, clip)
    *_, verdict, final = session.answer()
    session.close()
    assert final.token_ids == verdict.committed == expected and verdict.final
    assert final.mode is Mode.CROSS_MODAL
    return verdict, final.target_passes


def test_two_drafters_of_a_window_are_two_sources(target, scenes):
    engine = without_clock(make_engine(target, sources=['drafts']))
    clip, expected = scenes[0]
    verdict, passes = last_verdict(engine, target, 1, clip, expected)
    assert passes <= 2
    assert verdict.accepted == {'good': verdict.drafted['good']} and verdict.accepted['good'] >= len(expected) - 2
    assert verdict.drafted['bad'] > 0
    engine.proposer.begin(Opening(2, ''))                       # what was said of a caption is counted after it
    sources = engine.statistics()['proposer']['sources']
    assert set(sources) == {'good', 'bad'}
    assert sources['good']['num_accepted_tokens'] == verdict.accepted['good']
    assert sources['bad']['num_accepted_tokens'] == 0 < sources['bad']['num_draft_tokens']
    assert engine.statistics()['proposer']['offers'] == {'taken': 2}


def test_two_drafters_that_agree_share_a_node_and_are_both_counted(target, scenes):
    engine = without_clock(make_engine(target, sources=['drafts']))
    clip, expected = scenes[0]
    for name in ('one', 'two'):
        assert engine.offer(draft_of(target, 1, expected, source=name)) is None
    session = feed(engine, 1, clip)
    *_, verdict, final = session.answer()
    assert verdict.accepted['one'] == verdict.accepted['two'] == final.accepted
    assert final.drafted == verdict.drafted['one'] == verdict.drafted['two']


def test_the_better_drafter_is_used_and_goes_on_when_the_other_stops(target, scenes):
    engine = without_clock(make_engine(target, sources=['drafts'], max_nodes=TOKENS, first_nodes=TOKENS))
    for window in range(60):                                    # room for one draft only: the wrong one loses it
        clip, expected = scenes[window % 4]
        verdict, passes = last_verdict(engine, target, window, clip, expected)
    assert passes <= 2 and 'bad' not in verdict.drafted, 'worth is measured: no room goes to wrong words any more'
    sources = engine.statistics()['proposer']['sources']
    assert sources['good']['on'] and not sources['bad']['on']
    for window in range(60, 64):
        clip, expected = scenes[window % 4]
        verdict, passes = last_verdict(engine, target, window, clip, expected, bad=False)
        assert passes <= 2 and verdict.accepted['good'] >= len(expected) - 2
    for window in range(64, 68):
        clip, expected = scenes[window % 4]
        verdict, _ = last_verdict(engine, target, window, clip, expected, good=False)
        assert not verdict.accepted


def test_offers_from_four_threads_lose_no_count(target, scenes):
    engine = make_engine(target, max_nodes=3, first_nodes=3)
    done, told = threading.Event(), [Counter() for _ in range(4)]

    def hammer(number: int) -> None:
        revision = 0
        while not done.is_set():
            for window, (_, expected) in enumerate(scenes):
                revision += 1
                good = draft_of(target, window, expected[::-1 if revision % 3 else 1], revision=revision,
                                source=f'drafter_{number}')
                for offered in (good, dataclasses.replace(good, token_ids=(10**6,)),
                                dataclasses.replace(good, source='memory')):
                    told[number][engine.offer(offered) or 'taken'] += 1

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for window, (clip, expected) in enumerate(scenes):
            assert caption_of(engine, window, clip, rehearse=True).token_ids == expected
    finally:
        done.set()
        for thread in threads:
            thread.join()
    offers = engine.statistics()['proposer']['offers']
    assert offers == sum(told, Counter()) and {'taken', 'vocabulary', 'source', 'late'} <= set(offers)


def test_mode_is_verifier_only_where_drafters_are_not_listened_to(target, scenes):
    engine = make_engine(target, sources=('memory',))
    session = feed(engine, 1, scenes[0][0])
    assert engine.offer(draft_of(target, 1, (10, 11))) is None
    *_, final = session.answer()
    assert final.mode is Mode.VERIFIER_ONLY
