"""The built-in pair on drives it has never seen: the engine's captions are those of generate, drafts or not."""
from __future__ import annotations

import pytest

from crossspec_ros.bench.decode import make_windows
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.builtin import builtin_path
from crossspec_ros.models.drafter import load_drafter
from crossspec_ros.models.heads import KINDS, new_head
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.sources.heads import HeadSource
from crossspec_ros.speculation.worth import Worth
from crossspec_ros.world import DESCRIBE, EVALUATION_SEED, QUESTIONS


@pytest.fixture(scope='module')
def pair():
    try:
        builtin_path('verifier')
    except CrossSpecError as error:
        pytest.skip(str(error))
    return load_target('builtin'), load_drafter('builtin')


def check(pair, count: int, question: str, seed: int, more=()) -> float:
    """Tokens a pass over ``count`` windows, each compared with generate."""
    target, drafter = pair
    engine = CaptionEngine(target, more=more)
    for window in make_windows(count, seed, 1, question, drafter):
        expected = target.generate(window.frames, question, 96)
        session = engine.open(window.window_id, 0, question)
        assert engine.offer(window.early) is None
        for slot, frame in enumerate(window.frames):
            session.add_frame(slot, window.window_id * 8 + slot, frame)
            session.rehearse()
        *_, final = session.answer()
        session.close()
        assert final.token_ids == tuple(token for token in expected if token not in target.eos_ids)
        assert engine.audit(window.frames, question) == final.token_ids
    return engine.statistics()['mean_acceptance_length']


def test_engine_builtin_pair_equals_generate(pair):
    assert check(pair, 3, DESCRIBE, EVALUATION_SEED + 500) > 1.5


def test_engine_builtin_pair_with_untrained_heads_equals_generate(pair):
    heads = [new_head(kind, pair[0], range(6, 900)) for kind in KINDS]
    sources = [HeadSource(head, pair[0].vocab_size, worth=Worth(trial=10**9)) for head in heads]
    assert check(pair, 2, DESCRIBE, EVALUATION_SEED + 510, sources) > 1.0
    assert all(source.counts()['drafts'] > 0 and source.counts()['failed'] == 0 for source in sources)


@pytest.mark.long
@pytest.mark.parametrize('question', QUESTIONS)
def test_engine_builtin_pair_equals_generate_for_every_question(pair, question):
    assert check(pair, 25, question, EVALUATION_SEED + 600) > 1.5
