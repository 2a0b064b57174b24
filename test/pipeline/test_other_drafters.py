"""EventGPT and a video-language model beside the built-in kind of drafter: captions are those of the verifier alone."""
from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest
from tiny_eventgpt import write_eventgpt
from tiny_models import write_checkpoint
from tiny_pair import write_pair

from crossspec_ros.config import DrafterConfig, VerifierConfig, make
from crossspec_ros.pipeline.building import build_drafting, build_engine
from crossspec_ros.pipeline.direct import DirectReplay
from crossspec_ros.pipeline.verifying import VerifyingPipeline
from crossspec_ros.recordings.sources import WorldSource
from crossspec_ros.speculation.types import Draft, Verdict
from crossspec_ros.timing.window import WindowGrid

SECOND, PROMPT = 1_000_000_000, 'What is happening?'


@pytest.fixture(scope='module')
def folders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('models')
    verifier, drafter = write_pair(folder)
    write_eventgpt(folder / 'eventgpt')
    return {'verifier': verifier, 'event_drafter': drafter, 'eventgpt': folder / 'eventgpt',
            'same_words': write_checkpoint(folder / 'same', seed=3, context=1024),
            'other_words': write_checkpoint(folder / 'other', 'llava_onevision', seed=4, vocab_size=280, context=1024)}


class Recorded:
    """A drafting pipeline whose drafts are kept, with the verdicts that it was told."""

    def __init__(self, core) -> None:
        self.core, self.drafts, self.verdicts = core, [], []

    def __getattr__(self, name: str):
        return getattr(self.core, name)

    def draft(self, job, **options) -> Draft | None:
        made = self.core.draft(job, **options)
        self.drafts.append(made)
        return made

    def on_verdict(self, verdict: Verdict):
        self.verdicts.append(verdict)
        return self.core.on_verdict(verdict)


def drafting(folder: Path, source: str, speaks: str = '') -> Recorded:
    return Recorded(build_drafting(make(DrafterConfig, {
        'model.path': str(folder), 'draft.source': source, 'draft.max_tokens': 8, 'model.speaks': speaks})))


class Several:
    """Drafters of one window, as the graph has them: each gets every packet and every verdict."""

    def __init__(self, *cores: Recorded) -> None:
        self.cores, self.account = cores, cores[0].account

    def add_packet(self, packet):
        for core in self.cores[1:]:
            core.account.receive()
        return [core.add_packet(packet) for core in self.cores][0]

    def due(self, now_ns):
        return [(core, job) for core in self.cores for job in core.due(now_ns)]

    def take_changes(self):
        return []

    def draft(self, pair):
        core, job = pair
        return core.draft(job)

    def on_verdict(self, verdict):
        wanted = [(core, job) for core in self.cores if (job := core.on_verdict(verdict)) is not None]
        return wanted[0] if wanted else None

    def statistics(self):
        return {}


def captions(engine, messages, drafters=None) -> list[tuple[int, tuple[int, ...]]]:
    engine.reset()
    lines: list[dict] = []
    verifying = VerifyingPipeline(engine, WindowGrid(), PROMPT, newest_wins=False)
    DirectReplay(drafters, verifying, WindowGrid(), lines.append).run(messages)
    said = [line for line in lines if line['kind'] == 'caption']
    assert all(line['lossless'] for line in said)
    return [(line['window_id'], tuple(line['token_ids'])) for line in said]


@pytest.fixture(scope='module')
def engine(folders):
    return build_engine(make(VerifierConfig, {'model.path': str(folders['verifier']), 'decode.max_new_tokens': 12,
                                              'decode.sources': ['drafts']}))


@pytest.fixture(scope='module')
def messages() -> list:
    return list(takewhile(lambda m: m.due_ns <= 3.2 * SECOND, WorldSource(1_000_003, 96, 72).messages(0)))


@pytest.fixture(scope='module')
def alone(engine, messages) -> list[tuple[int, tuple[int, ...]]]:
    return captions(engine, messages)


@pytest.mark.parametrize('name', ['eventgpt', 'same_words'])
def test_verdicts_roll_a_drafter_back(folders, engine, messages, alone, name: str) -> None:
    core = drafting(folders[name], name, speaks=str(folders['verifier']))
    assert captions(engine, messages, core) == alone and len(alone) == 3
    whole = [draft for draft in core.drafts if draft is not None and not draft.base_length]
    again = [draft for draft in core.drafts if draft is not None and draft.base_length]
    assert len(whole) >= 6 and again and {draft.source for draft in core.drafts if draft} == {name}
    assert all(draft.trained_for == '' and not draft.other_verifier for draft in whole + again)
    told = {(verdict.window_id, verdict.committed) for verdict in core.verdicts}
    for draft in again:
        assert any(window == draft.window_id and len(committed) == draft.base_length for window, committed in told)
    counted = engine.statistics()['proposer']['sources']
    assert counted[name]['num_draft_tokens'] > 0


def test_words_of_another_vocabulary_are_tokenised_again_and_rolled_back(folders, engine, messages, alone) -> None:
    far = drafting(folders['other_words'], 'far')                   # it does not know the verifier's tokens
    assert captions(engine, messages, far) == alone
    assert {draft.tokenizer_key for draft in far.drafts} == {far.drafts[0].tokenizer_key} != {
        engine.target.tokenizer_key}
    assert all(not draft.base_length for draft in far.drafts)
    near = drafting(folders['other_words'], 'near', speaks=str(folders['verifier']))
    assert captions(engine, messages, near) == alone
    assert {draft.tokenizer_key for draft in near.drafts if draft} == {engine.target.tokenizer_key}
    assert any(draft.base_length for draft in near.drafts if draft)
    assert [draft.text for draft in far.drafts] == [draft.text for draft in near.drafts if not draft.base_length]


def test_several_drafters_of_a_window_are_counted_apart(folders, engine, messages, alone) -> None:
    names = ('event_drafter', 'eventgpt', 'other_words')
    several = Several(*(drafting(folders[name], name, str(folders['verifier'])) for name in names))
    assert captions(engine, messages, several) == alone
    counted = engine.statistics()['proposer']['sources']
    assert all(counted[name]['num_draft_tokens'] > 0 for name in names)
