"""The proposer: merged sources, offers from outside, self-switching."""
from __future__ import annotations

import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.inbox import Admission
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.sources import SOURCE_NAMES
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.types import Draft, prefix_hash

CAPTION = (5, 6, 7, 8, 9, 10, 11, 2)


def draft(tokens=CAPTION, window_id=0, revision=0, prompt_key='q', tokenizer_key='t', **more) -> Draft:
    return Draft(window_id, 0, revision, prompt_key, tokenizer_key, 'text', tuple(tokens), **more)


def say(proposer, caption, window_id=0, max_nodes=64):
    """Decode a caption that the target would say; returns the number of passes."""
    passes, done = 0, 0
    while done < len(caption):
        tree = proposer.propose(caption[:done], max_nodes)
        tree.check()
        assert len(tree) <= max_nodes
        node, nodes, emitted = -1, [], []
        while node is not None and done < len(caption):
            token = caption[done]
            emitted.append(token)
            done += 1
            node = tree.child(node, token)
            if node is not None:
                nodes.append(node)
        proposer.observe(PassOutcome(tree, tuple(nodes), tuple(emitted)), caption[:done])
        passes += 1
    proposer.finish(caption)
    return passes


@pytest.mark.parametrize('sources', [pytest.param((name,), id=name) for name in SOURCE_NAMES] + [
    pytest.param(SOURCE_NAMES, id='all')])
def test_proposer_empty_without_anything_known(sources):
    proposer = Proposer(ProposerConfig(sources=sources))
    proposer.begin(Opening(0, 'q'))
    assert len(proposer.propose((), 64)) == 0


@pytest.mark.parametrize('source', ['memory', 'previous'])
def test_proposer_repeated_caption_takes_one_pass(source):
    proposer = Proposer(ProposerConfig(sources=(source,)))
    proposer.begin(Opening(0, 'q'))
    assert say(proposer, CAPTION) == len(CAPTION)
    proposer.begin(Opening(1, 'q'))
    assert say(proposer, CAPTION) == 1


def test_proposer_memory_is_by_prompt():
    proposer = Proposer(ProposerConfig(sources=('memory', 'previous')))
    proposer.begin(Opening(0, 'q'))
    say(proposer, CAPTION)
    proposer.begin(Opening(1, 'another question'))
    assert len(proposer.propose((), 64)) == 0


def test_proposer_takes_a_draft_between_passes_and_reroots_it():
    proposer = Proposer(ProposerConfig())
    proposer.begin(Opening(0, 'q'))
    tree = proposer.propose((), 64)
    proposer.observe(PassOutcome(tree, (), CAPTION[:1]), CAPTION[:1])
    assert proposer.inbox.offer(draft()) is None
    tree = proposer.propose(CAPTION[:1], 64)
    assert tree.token_ids == CAPTION[1:] and tree.names(0) == ('event_drafter',)


def test_proposer_draft_realigned_after_mismatch():
    proposer = Proposer(ProposerConfig(sources=('drafts',)))
    proposer.begin(Opening(0, 'q'))
    proposer.inbox.offer(draft())
    tree = proposer.propose((5, 6, 99, 7, 8), 64)
    assert tree.token_ids[:2] == (9, 10)


@pytest.mark.parametrize('offered, cause', [
    pytest.param(draft(window_id=2), 'late', id='late'),
    pytest.param(draft(window_id=99), 'foreign_window', id='foreign window'),
    pytest.param(draft(window_id=3, prompt_key='other'), 'foreign_prompt', id='foreign prompt'),
    pytest.param(draft(window_id=3, tokenizer_key='other'), 'tokenizer', id='tokenizer'),
    pytest.param(draft((1, 1000), window_id=3), 'vocabulary', id='out of vocabulary'),
    pytest.param(draft((1, 42), window_id=3), 'vocabulary', id='placeholder'),
    pytest.param(draft((1, 2), window_id=3, parents=(1, 0)), 'malformed', id='cycle'),
    pytest.param(draft((1, 2), window_id=3, weights=(0, 1)), 'malformed', id='zero weight'),
    pytest.param(draft([1] * 600, window_id=3), 'malformed', id='too long'),
    pytest.param(draft((8,), window_id=3, base_length=2, base_hash=prefix_hash((5, 9))), 'stale', id='other prefix'),
    pytest.param(draft((8,), window_id=3, base_length=9, base_hash=1), 'stale', id='beyond the prefix'),
    pytest.param(draft(window_id=3), None, id='good'),
    pytest.param(draft(window_id=5), None, id='early'),
    pytest.param(draft((8,), window_id=3, base_length=2, base_hash=prefix_hash((5, 6))), None, id='continuation'),
])
def test_proposer_offer(offered, cause):
    proposer = Proposer(admission=Admission(1000, 't', frozenset({42})))
    proposer.begin(Opening(3, 'q'))
    proposer.observe(PassOutcome(proposer.propose((), 64), (), (5, 6)), (5, 6))
    assert proposer.inbox.offer(offered) == cause
    assert proposer.statistics()['offers'] == {cause or 'taken': 1}
    proposer.propose((5, 6), 64).check()


def test_proposer_older_revision_is_stale():
    proposer = Proposer()
    proposer.begin(Opening(0, 'q'))
    assert proposer.inbox.offer(draft(revision=1)) is None
    assert proposer.inbox.offer(draft(revision=1)) == 'stale' and proposer.inbox.offer(draft(revision=0)) == 'stale'
    assert proposer.inbox.offer(draft(revision=2)) is None


def test_proposer_foreign_tokenizer_is_tokenised_again():
    proposer = Proposer(admission=Admission(tokenizer_key='t', tokenize=lambda text: CAPTION))
    proposer.begin(Opening(0, 'q'))
    assert proposer.inbox.offer(draft((1, 2, 3), tokenizer_key='other')) is None
    assert proposer.propose((), 64).token_ids == CAPTION


def test_proposer_rejects_unknown_source():
    with pytest.raises(CrossSpecError, match='sources must be among'):
        ProposerConfig(sources=('oracle',))


def prepared_proposer() -> Proposer:
    proposer = Proposer(ProposerConfig(sources=('memory', 'drafts', 'rehearsal')))
    proposer.begin(Opening(0, 'q'))
    say(proposer, CAPTION)
    proposer.begin(Opening(1, 'q'))
    return proposer


def test_prepare_gives_the_tree_that_propose_would():
    grown = prepared_proposer().propose((), 64, max_depth=9, fused_tokens=5)
    proposer = prepared_proposer()
    assert proposer.prepare(64, max_depth=9, fused_tokens=5)
    assert not proposer.prepare(64, max_depth=9, fused_tokens=5), 'it is there already'
    proposer._grown = None                                      # nothing is to be grown any more
    assert proposer.propose((), 64, max_depth=9, fused_tokens=5) == grown
    proposer.observe(PassOutcome(grown, (), CAPTION[:1]), CAPTION[:1])
    proposer.finish(CAPTION[:1])
    assert proposer.statistics()['sources']['memory']['num_draft_tokens'] == len(grown)


@pytest.mark.parametrize('change', [
    pytest.param(lambda proposer: proposer.inbox.offer(draft((91, 92), window_id=1)), id='a draft came'),
    pytest.param(lambda proposer: proposer.rehearsed((91, 92)), id='a rehearsal came'),
])
def test_prepared_tree_is_not_used_once_something_came(change):
    proposer = prepared_proposer()
    proposer.prepare(64)
    change(proposer)
    assert 91 in proposer.propose((), 64).token_ids


def test_prepared_tree_is_for_its_bounds_and_its_window():
    proposer = prepared_proposer()
    proposer.prepare(64)
    assert len(proposer.propose((), 2)) == 2
    proposer.prepare(64)
    proposer.begin(Opening(2, 'another question'))
    assert len(proposer.propose((), 64)) == 0
    proposer.begin(Opening(3, 'q'))
    proposer.prepare(64)
    proposer.reset()
    proposer.begin(Opening(4, 'q'))
    assert len(proposer.propose((), 64)) == 0
