"""Heads as draft sources: whatever they say, captions are those of generate, and states are the target's own."""
from __future__ import annotations

import itertools

import pytest
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads import KINDS, new_head
from crossspec_ros.models.heads.recording import AnswerRecorder
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.sources.heads import FINAL, HeadDraft, HeadSource
from crossspec_ros.speculation.sources.recorder import Recorder
from crossspec_ros.speculation.types import Stage
from crossspec_ros.speculation.worth import Worth
from engine_harness import QUESTION, TOKENS, caption_of, draft_of, feed, make_engine, strip, without_clock

LAYERS = (0, FINAL)


class Scripted:
    """A head that reads states and says what it is told to."""

    def __init__(self, say, layers=LAYERS):
        self.name, self.layers, self._say = 'scripted', layers, say
        self.heard: list[tuple[tuple[int, ...], torch.Tensor]] = []

    def read(self, context, states, token_ids):
        tokens, before = context or ((), states[:0])
        return (*tokens, *token_ids), torch.cat([before, states])

    def draft(self, context, depth, least):
        self.heard.append(context)
        return self._say(context[0])


def engine_with(target, *heads, **settings):
    """An engine with these heads, asked in any case, and trees that do not hang on measured times."""
    config = make_engine(target, **settings).config
    sources = [HeadSource(head, target.vocab_size, worth=Worth(trial=10**9)) for head in heads]
    return without_clock(CaptionEngine(target, config, more=sources))


def chain(tokens, prob=0.9):
    return HeadDraft(tuple(tokens), tuple(range(-1, len(tokens) - 1)), (prob,) * len(tokens))


def states_of_generate(target, clip, layers, tokens=TOKENS):
    """States (T, K, D) from which transformers' own generate says each token."""
    said = target.model.generate(**target.adapter.inputs(QUESTION, clip), do_sample=False, max_new_tokens=tokens,
                                 suppress_tokens=list(target.banned_ids), eos_token_id=list(target.eos_ids),
                                 output_hidden_states=True, return_dict_in_generate=True)
    # Of each step: the embeddings, then states after each layer, the last one after the final norm.
    return torch.stack([torch.stack([step[-1 if layer == FINAL else layer + 1][0, -1] for layer in layers])
                        for step in said.hidden_states])


@pytest.mark.parametrize('kind', KINDS)
def test_answer_untrained_head_equals_generate(target, scenes, kind):
    head = new_head(kind, target, range(6, 290), seed=3, attention_heads=4)
    for sources in ((), ('memory', 'drafts', 'recycling', 'rehearsal')):
        engine = engine_with(target, head, sources=sources)
        for window, (clip, expected) in enumerate(scenes + scenes):
            engine.offer(draft_of(target, window, [*expected[:6], 99, *expected[7:]]))
            assert caption_of(engine, window, clip, rehearse=window % 2 == 0).token_ids == expected
        assert engine.proposer.counts()[f'{kind}_drafts'] > 0


def test_answer_all_heads_together_equal_generate(target, scenes):
    heads = [new_head(kind, target, range(6, 290), attention_heads=4) for kind in KINDS]
    engine = engine_with(target, *heads)
    for window, (clip, expected) in enumerate(scenes + scenes):
        assert caption_of(engine, window, clip).token_ids == expected


@pytest.mark.parametrize('settings', [
    pytest.param({}, id='all'), pytest.param(dict(sources=()), id='alone'),
    pytest.param(dict(fused=False), id='not fused'),
    pytest.param(dict(anticipatory=False), id='not ahead'), pytest.param(dict(frame_cache=False), id='no frame cache'),
    pytest.param(dict(exactness='certified', block=8), id='certified'),
    pytest.param(dict(max_nodes=2, first_nodes=2), id='small trees')])
def test_states_that_a_head_reads_are_those_of_generate(target, scenes, settings):
    expected_of = {expected: clip for clip, expected in scenes}

    def half_right(tokens):
        """The right tokens with a wrong one among them, and a wrong one beside the first."""
        text = next((text for text in expected_of if text[:len(tokens)] == tokens), ())
        right = text[len(tokens):len(tokens) + 3]
        path = (*right, 9)                               # nodes 1 and on, below the committed text
        return HeadDraft((7, *path), (-1, -1, *range(1, len(path))), (0.5, *[0.9] * len(right), 0.5))

    head = Scripted(half_right)
    engine, checked = engine_with(target, head, **settings), 0
    for window, (clip, expected) in enumerate(scenes + scenes[:1]):
        head.heard.clear()
        assert caption_of(engine, window, clip, rehearse=True).token_ids == expected
        truth = states_of_generate(target, clip, LAYERS)
        for tokens, states in head.heard:
            assert tokens == expected[:len(tokens)]
            torch.testing.assert_close(states, truth[:len(tokens)], rtol=1e-3, atol=1e-3)
            checked += 1
    assert checked > 1


def test_states_through_transformers_layers_are_those_of_generate(folder, scenes):
    target = load_target(folder, lean=False)
    head = Scripted(lambda tokens: chain([8, 9]))
    engine = engine_with(target, head, sources=('memory',))
    for window, (clip, expected) in enumerate(scenes[:2] * 2):
        assert caption_of(engine, window, clip).token_ids == expected
        tokens, states = head.heard[-1]
        torch.testing.assert_close(states, states_of_generate(target, clip, LAYERS)[:len(tokens)], rtol=1e-3, atol=1e-3)


HOSTILE = {
    'nan': (lambda tokens: chain([8, 9], float('nan')), 'not_finite'),
    'more than certain': (lambda tokens: chain([8, 9], 2.0), 'not_finite'),
    'out of vocabulary': (lambda tokens: chain([8, 10**6]), 'vocabulary'),
    'negative': (lambda tokens: chain([8, -1]), 'vocabulary'),
    'cycle': (lambda tokens: HeadDraft((8, 9), (1, 0), (0.5, 0.5)), 'malformed'),
    'too many': (lambda tokens: chain(range(6, 290)), 'malformed'),
    'lengths': (lambda tokens: HeadDraft((8, 9), (-1,), (0.5, 0.5)), 'malformed'),
    'broken': (lambda tokens: 1 / 0, 'failed'),
    'nothing': (lambda tokens: None, 'failed'),
    'placeholder': (lambda tokens: chain([5, 4, 3]), 'drafts'),
    'twins': (lambda tokens: HeadDraft((8, 8, 8), (-1, -1, 0), (0.5, 0.5, 0.5)), 'drafts'),
    'end token': (lambda tokens: chain([1, 1, 1]), 'drafts'),
    'empty': (lambda tokens: chain([]), 'drafts'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_answer_hostile_head_changes_nothing_and_is_counted(target, scenes, name):
    say, cause = HOSTILE[name]
    engine = engine_with(target, Scripted(say), sources=('memory',))
    for window, (clip, expected) in enumerate(scenes[:2] * 2):
        assert caption_of(engine, window, clip).token_ids == expected
    counts = engine.proposer.counts()
    assert counts[f'scripted_{cause}'] > 0
    assert sum(counts.values()) == counts[f'scripted_{cause}']


@pytest.mark.parametrize('kind', KINDS)
def test_answer_head_of_nan_weights_is_dropped(target, scenes, kind):
    head = new_head(kind, target, range(6, 290), attention_heads=4)
    with torch.no_grad():
        for weight in head.parameters():
            weight.fill_(float('nan'))
    engine = engine_with(target, head, sources=())
    for window, (clip, expected) in enumerate(scenes[:2]):
        assert caption_of(engine, window, clip).token_ids == expected
    counts = engine.proposer.counts()
    assert counts[f'{kind}_not_finite'] > 0 and counts[f'{kind}_drafts'] == 0


def test_answer_head_that_knows_takes_few_passes(target, scenes):
    right = {expected[:length]: expected[length:] for _, expected in scenes for length in range(1, len(expected))}
    engine = engine_with(target, Scripted(lambda tokens: chain(right.get(tokens, ()))), sources=())
    for window, (clip, expected) in enumerate(scenes):
        final = caption_of(engine, window, clip)
        assert final.token_ids == expected and final.target_passes < len(expected) / 3
    report = engine.statistics()['proposer']['sources']['scripted']
    assert report['num_accepted_tokens'] > 0 and report['exclusive_accepted_tokens'] > 0


def test_answer_windows_in_turn_keep_their_states_apart(target, scenes):
    heads = Scripted(lambda tokens: chain([8]))
    engine = engine_with(target, heads, sources=())
    sessions = [feed(engine, window, clip) for window, (clip, _) in enumerate(scenes)]
    answers = [session.answer() for session in sessions]
    for _ in range(2 * TOKENS):
        for answer in answers:
            next(answer, None)
    assert [session.token_ids for session in sessions] == [expected for _, expected in scenes]
    truths = [states_of_generate(target, clip, LAYERS) for clip, _ in scenes]
    read = [[torch.allclose(states, truth[:len(states)], rtol=1e-3, atol=1e-3)
             and tokens == expected[:len(tokens)] for truth, (_, expected) in zip(truths, scenes)]
            for tokens, states in heads.heard if len(tokens) > 3]
    assert all(sum(one) == 1 for one in read)                    # each of exactly one window
    assert all(sum(one[place] for one in read) > 3 for place in range(len(scenes)))


def test_answer_window_opened_again_with_its_number_is_drafted_anew(target, scenes):
    head = Scripted(lambda tokens: chain([8]))
    engine = engine_with(target, head, sources=())
    session = feed(engine, 1, scenes[0][0])
    next(session.answer())
    session.close()
    assert caption_of(engine, 1, scenes[1][0]).token_ids == scenes[1][1]
    assert [len(tokens) for tokens, _ in head.heard][-1] > 2


@pytest.mark.parametrize('acceptance', ['gumbel', 'rejection'])
def test_answer_sampled_with_heads(target, scenes, acceptance):
    heads = [new_head(kind, target, range(6, 290), attention_heads=4) for kind in KINDS]
    with_heads = engine_with(target, *heads, acceptance=acceptance, seed=3)
    plain = make_engine(target, acceptance=acceptance, seed=3, speculate=False)
    for window, (clip, _) in enumerate(scenes):
        said = caption_of(with_heads, window, clip)
        assert said.stage is Stage.FINAL
        if acceptance == 'gumbel':                    # the target's own seeded sample, whatever drafts came
            assert said.token_ids == caption_of(plain, window, clip).token_ids


def test_engine_without_heads_taps_nothing(folder, scenes, monkeypatch):
    target = load_target(folder)
    monkeypatch.setattr(type(target), 'tap', lambda *_: pytest.fail('nobody asked for states of layers'))
    seen = []
    verify = target.verify
    monkeypatch.setattr(target, 'verify', lambda *args: seen.append(verify(*args)) or seen[-1])
    assert caption_of(make_engine(target), 1, scenes[0][0]).token_ids == scenes[0][1]
    assert seen and all(judged.layers == {} for judged in seen)


def test_engine_layers_that_are_not_there_are_refused(target):
    with pytest.raises(CrossSpecError, match='layers must be 0 to 1'):
        engine_with(target, Scripted(lambda tokens: chain([]), layers=(7,)))


def test_engine_two_heads_of_one_name_are_refused(target):
    with pytest.raises(CrossSpecError, match='once each'):
        engine_with(target, Scripted(None), Scripted(None))


def test_recorder_keeps_every_answer_with_its_states(target, scenes):
    config = make_engine(target).config
    recorder = AnswerRecorder(target, LAYERS, config)
    for window, (clip, expected) in enumerate(scenes + scenes):
        answer = recorder.record(window, clip, QUESTION, rehearse=True)
        assert strip(target, answer.token_ids) == expected and len(answer.states) == len(answer.token_ids)
        torch.testing.assert_close(answer.states, states_of_generate(target, clip, LAYERS), rtol=1e-3, atol=1e-3)
    assert recorder.engine.sizes()['recorder_windows'] <= 16


@pytest.mark.parametrize('layers', [(), LAYERS], ids=['tokens', 'tokens and states'])
def test_recorder_keeps_what_the_target_thought_likely(target, scenes, layers):
    recorder = AnswerRecorder(target, layers, make_engine(target).config, likely=3)
    for window, (clip, _) in enumerate(scenes + scenes):                   # the second time the memory drafts
        answer = recorder.record(window, clip, QUESTION)
        assert (answer.states is not None) is bool(layers)
        assert answer.likely[:, 0].tolist() == list(answer.token_ids)
        law = target.adapter.head(states_of_generate(target, clip, (FINAL,))[:, 0]).float()
        law[:, list(target.banned_ids)] = -torch.inf
        best = law.topk(3)
        assert torch.equal(answer.likely, best.indices)
        torch.testing.assert_close(answer.log_probs, torch.log_softmax(law, -1).topk(3).values, rtol=1e-3, atol=1e-2)


def test_states_held_are_bounded(target):
    source = HeadSource(Scripted(lambda tokens: chain([8])), target.vocab_size)
    for window in range(100):
        source.begin(Opening(window, 'q'))
    assert source.sizes()['scripted_windows'] <= 16
    recorder = Recorder(lambda *_: None, LAYERS)
    for window in range(100):
        recorder.begin(Opening(window, 'q'))
    assert recorder.sizes()['recorder_windows'] <= 16


def test_answer_head_that_does_not_pay_is_seldom_asked(target, scenes):
    ticks = itertools.count(step=10**9)                  # a second a look at the clock: dearer than any pass
    source = HeadSource(Scripted(lambda tokens: chain([8])), target.vocab_size, worth=Worth(trial=4, every=8),
                        clock=lambda: next(ticks))
    engine = without_clock(CaptionEngine(target, make_engine(target, sources=()).config, more=[source]))
    clips = [*scenes, *scenes]
    for window, (clip, expected) in enumerate(clips):
        assert caption_of(engine, window, clip).token_ids == expected
    counts = source.counts()
    assert 0 < counts['drafts'] < counts['not_asked']
    source.reset()
    assert source.start([5]) is None and caption_of(engine, 100, clips[0][0]).token_ids == clips[0][1]


def test_answer_head_that_always_fails_is_seldom_asked(target, scenes):
    source = HeadSource(Scripted(lambda tokens: chain([8], float('nan'))), target.vocab_size,
                        worth=Worth(trial=4, every=8))
    engine = CaptionEngine(target, make_engine(target, sources=()).config, more=[source])
    for window, (clip, expected) in enumerate(scenes):
        assert caption_of(engine, window, clip).token_ids == expected
    assert 4 <= source.counts()['not_finite'] < source.counts()['not_asked']


def test_worth_asks_while_it_pays_and_tries_again():
    worth = Worth(trial=4, every=5)
    assert worth.pays is None and worth.asks()
    for _ in range(4):
        worth.passed(2, 10.0)
        worth.spent(3.0)
        worth.gained(0)
    assert worth.pays is False and worth.token_ms == pytest.approx(5.0)
    assert [worth.asks() for _ in range(10)] == [False, False, False, False, True] * 2
    for _ in range(40):
        worth.spent(3.0)
        worth.gained(2)
    assert worth.pays and all(worth.asks() for _ in range(10))
