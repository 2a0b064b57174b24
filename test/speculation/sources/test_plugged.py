"""Draft sources of other packages: found by name, and whatever they say, captions are those of generate."""
from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

import tiny_models
from crossspec_ros.config import VerifierConfig, make
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import load_target
from crossspec_ros.pipeline.building import build_engine
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources import SOURCE_NAMES
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.sources.plugged import PluggedSource, Surroundings
from engine_harness import FRAMES, QUESTION, TOKENS, caption_of, clip_of, strip, without_clock
from lab_package import install_lab

LAB = '''
class Counting:
    """Says that the next token is the one after the last."""

    def __init__(self, told):
        self.told = told

    def start(self, committed):
        return committed[-1] if committed else 5

    def step(self, state):
        following = (state + 1) % self.told.vocab_size
        return [(following, 0.5, following)]

def broken(told):
    raise ZeroDivisionError('no\\nweights')

def half(told):
    return object()

def greedy(told):
    source = Counting(told)
    source.needs = {'everything'}
    return source
'''
ENTRIES = ('[crossspec.draft_sources]\nlab = lab_drafts:Counting\nbroken = lab_drafts:broken\nhalf = lab_drafts:half\n'
           'gone = lab_nowhere:make\ngreedy = lab_drafts:greedy\nmemory = lab_drafts:broken\n')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def target(folder):
    return load_target(folder)


@pytest.fixture(scope='module')
def scenes(target):
    generator = np.random.default_rng(5)
    return [(clip, strip(target, target.generate(clip, QUESTION, TOKENS)))
            for clip in (clip_of(generator) for _ in range(3))]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    install_lab(tmp_path, monkeypatch, LAB, ENTRIES)


def engine_of(target, source, name='lab', **options):
    """An engine with the usual sources and one of another package, whose trees do not hang on measured times."""
    plugged = PluggedSource(name, source, Surroundings('', target.vocab_size, frozenset(target.banned_ids)), **options)
    config = EngineConfig(window_frames=FRAMES, max_new_tokens=TOKENS)
    return without_clock(CaptionEngine(target, config, more=[plugged]))


def say_all(engine, scenes, rounds=1):
    """Every scene, again and again, against generate."""
    for window in range(rounds * len(scenes)):
        clip, said = scenes[window % len(scenes)]
        assert caption_of(engine, window + 1, clip, rehearse=window % 2 == 1).token_ids == said


class Scripted:
    """Says at every state what it is told to."""

    def __init__(self, say, **functions):
        self.say, self.asked = say, 0
        vars(self).update(functions)

    def start(self, committed):
        self.asked += 1
        return 0

    def step(self, state):
        return self.say(state)


def fail(*_):
    raise RuntimeError('lost')


def leave(*_):
    sys.exit('bye')


def endless(state):
    while True:
        yield 7, 0.5, state + 1


def breaks_off(state):
    yield 7, 0.2, state + 1
    yield 8, 0.9, state + 1
    raise KeyError('lost')


class Spoiler(Scripted):
    """Writes over what it is shown."""

    needs, layers = ('hidden', 'topk'), (0,)

    def observe(self, outcome):
        with torch.inference_mode():
            for tensor in (outcome.logits, outcome.states, *outcome.layers.values()):
                tensor.fill_(0.0)


@pytest.mark.parametrize('source, cause', [
    pytest.param(Scripted(lambda state: [(-1, 0.5, 1), (10**12, 0.5, 1)]), 'vocabulary', id='no tokens'),
    pytest.param(Scripted(lambda state: [(8.5, 0.5, 1), ('the', 0.5, 1), (None, 0.5, 1)]), 'malformed', id='words'),
    pytest.param(Scripted(lambda state: [(7, 0.5), 7, None, (7, 0.5, 1, 1)]), 'malformed', id='no triples'),
    pytest.param(Scripted(lambda state: np.ones((3, 5))), 'malformed', id='an array'),
    pytest.param(Scripted(lambda state: [(7, math.nan, 1), (8, math.inf, 1), (9, -1.0, 1), (10, 2.0, 1)]), 'not_finite',
                 id='weights'),
    pytest.param(Scripted(lambda state: [(7, torch.tensor(0.5), 1), (7, 0.9, 1), (8, 0.0, 1)]), None, id='twice'),
    pytest.param(Scripted(endless), None, id='endless'),
    pytest.param(Scripted(breaks_off), 'failed', id='breaks off'),
    pytest.param(Scripted(lambda state: 7), 'failed', id='no list'),
    pytest.param(Scripted(fail), 'failed', id='step'),
    pytest.param(Scripted(leave), 'failed', id='leaves'),
    pytest.param(Scripted(lambda state: None, begin=fail), 'failed', id='begin'),
    pytest.param(Scripted(lambda state: [(7, 0.5, 1)], observe=fail, feedback=fail), 'failed', id='observe'),
    pytest.param(Scripted(lambda state: None, finish=fail, rehearsed=fail), 'failed', id='finish'),
    pytest.param(Spoiler(lambda state: [(7, 0.5, 1)]), None, id='writes over'),
])
def test_captions_are_generates_whatever_a_source_says(source, cause, target, scenes):
    engine = engine_of(target, source)
    say_all(engine, scenes)
    counts = engine.proposer.counts()
    assert set(counts) == {f'lab_{what}' for what in ('drafts', 'not_asked', 'not_finite', 'malformed', 'vocabulary',
                                                      'failed', 'off')}
    wrong = {what: counts[f'lab_{what}'] for what in ('not_finite', 'malformed', 'vocabulary', 'failed')}
    assert {what for what, count in wrong.items() if count} == ({cause} if cause else set())


def test_banned_tokens_are_counted_and_not_checked(target, scenes):
    engine = engine_of(target, Scripted(lambda state: [(target.banned_ids[0], 0.9, 1)]))
    say_all(engine, scenes[:1])
    assert engine.proposer.counts()['lab_vocabulary'] > 0


def test_a_source_that_fails_is_silent_for_the_window_and_then_for_good(target, scenes, caplog):
    source = Scripted(fail)
    engine = engine_of(target, source)
    say_all(engine, scenes[:1], rounds=3)
    assert source.asked == engine.proposer.counts()['lab_failed'] == 3 and not engine.proposer.counts()['lab_off']
    say_all(engine_of(target, source), scenes[:1], rounds=12)
    assert source.asked == 3 + 8 and 'off until the next start' in caplog.text


def test_a_window_without_failure_begins_the_count_anew(target, scenes):
    source = Scripted(lambda state: fail() if source.asked % 4 else None)
    engine = engine_of(target, source)
    say_all(engine, scenes[:1], rounds=16)
    assert engine.proposer.counts()['lab_failed'] > 8 and not engine.proposer.counts()['lab_off']


def test_a_source_that_knows_saves_passes_and_is_credited(target, scenes):
    (clip, said), *_ = scenes
    plain = caption_of(engine_of(target, Scripted(lambda state: None)), 1, clip).target_passes
    engine = engine_of(target, Scripted(lambda state: [(said[state], 0.9, state + 1)] if state < len(said) else None,
                                        start=len))
    final = caption_of(engine, 1, clip)
    assert final.token_ids == said and final.target_passes < plain
    lab = engine.statistics()['proposer']['sources']['lab']
    assert lab['num_accepted_tokens'] > 0 and lab['on']


def test_a_slow_source_that_gains_nothing_is_asked_seldom(target, scenes):
    now = iter(range(0, 10**15, 10**9))
    source = Scripted(lambda state: [(7, 0.5, None)])
    engine = engine_of(target, source, clock=lambda: next(now))
    say_all(engine, scenes, rounds=6)
    counts = engine.proposer.counts()
    assert counts['lab_not_asked'] > counts['lab_drafts'] >= 16
    plugged = next(each for each in engine.proposer.sources if each.name == 'lab')
    assert plugged.spent_ms >= 1000.0 * counts['lab_drafts']


def test_what_a_source_believes_is_measured():
    source = PluggedSource('lab', Scripted(lambda state: [(7, 1.0, None), (8, 0.1, None)]), Surroundings())
    source.begin(Opening(1, 'key'))
    assert [token for token, _, _ in source.step(source.start(()))] == [7, 8]
    for _ in range(200):
        source.feedback(source.start(()), 8)
    assert [token for token, _, _ in source.step(source.start(()))] == [8, 7]


def test_named_by_parameter_it_drafts(folder, lab):
    engine = build_engine(make(VerifierConfig, {'model.path': str(folder), 'decode.max_new_tokens': 12,
                                                'decode.sources': ['memory', 'lab:7', 'drafts']}))
    clip = clip_of(np.random.default_rng(1), 8)
    assert caption_of(engine, 1, clip).token_ids == strip(engine.target, engine.target.generate(clip, QUESTION, 12))
    assert set(engine.statistics()['proposer']['sources']) == {'memory', 'lab'}
    assert engine.proposer.counts()['lab_drafts'] > 0
    told = engine.proposer.sources[1]._functions['start'].__self__.told
    assert told.argument == '7' and told.vocab_size == engine.target.vocab_size
    assert told.eos_ids == tuple(engine.target.eos_ids)
    assert told.tokenize('a road') == engine.target.encode_text('a road')


@pytest.mark.parametrize('names, text', [
    pytest.param(['labs'], 'did you mean lab', id='unknown'),
    pytest.param(['memori'], 'did you mean memory', id='unknown built-in'),
    pytest.param(['memory:3'], 'sources must be among', id='argument of a built-in'),
    pytest.param(['lab:1', 'lab:2'], 'named once each', id='twice'),
])
def test_names_that_are_none_are_refused_at_once(names, text, lab):
    with pytest.raises(CrossSpecError, match=text):
        make(VerifierConfig, {'decode.sources': [*SOURCE_NAMES, *names]})


@pytest.mark.parametrize('name, text', [
    pytest.param('broken', 'lab_drafts:broken .*ZeroDivisionError: no weights', id='raises'),
    pytest.param('half', 'has no start, step', id='no source'),
    pytest.param('gone', 'No module named', id='does not load'),
    pytest.param('greedy', 'needs must be among topk, hidden, got everything', id='needs'),
])
def test_what_is_no_source_is_refused_in_one_line(name, text, target, lab):
    with pytest.raises(CrossSpecError, match=text) as refused:
        CaptionEngine(target, EngineConfig(sources=(name,)))
    assert '\n' not in str(refused.value)
