"""Answers of a form: token for token what generate says with the same mask, whatever the drafts."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation import constraint as forms
from crossspec_ros.speculation.tree import TokenTree
from engine_harness import QUESTION, TOKENS, clip_of, draft_of, make_engine, strip

pytest.importorskip('llguidance', reason='the grammar library llguidance is not installed')
from crossspec_ros.models.forms import GrammarConstraint, parse_form  # noqa: E402

SCHEMA = json.dumps({'type': 'object', 'additionalProperties': False, 'required': ['hazard', 'object'], 'properties': {
    'hazard': {'type': 'boolean'}, 'object': {'enum': ['car', 'child', 'dog']}}})
FORMS = {'choices': '["a car", "a dog", "A car crosses.", "nothing"]', 'schema': SCHEMA,
         'regex': '/[a-z]{3,5}( [a-z]+)*/'}


class Mask(LogitsProcessor):
    """The form for `generate`: each call masks by all tokens after the prompt."""

    def __init__(self, constraint: GrammarConstraint, prompt: int) -> None:
        self._constraint, self._prompt = constraint, prompt

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        assert self._constraint.follow(input_ids[0, self._prompt:].tolist())
        allowed = torch.from_numpy(self._constraint.allowed(scores.shape[1]))
        return scores.masked_fill(~allowed, float('-inf'))


def constraint_of(target, text: str) -> GrammarConstraint:
    return GrammarConstraint(parse_form(text), target)


def oracle(target, clip, text: str) -> tuple[int, ...]:
    prompt = target.adapter.inputs(QUESTION, clip)['input_ids'].shape[1]
    processors = LogitsProcessorList([Mask(constraint_of(target, text), prompt)])
    return strip(target, target.generate(clip, QUESTION, TOKENS, logits_processor=processors))


def answer(engine, window, clip, text, rehearse=False):
    target = engine.target
    session = engine.open(window, window * 10**9, QUESTION, constraint_of(target, text))
    for slot, frame in enumerate(clip):
        session.add_frame(slot, window * 10**9 + slot, frame)
        if rehearse:
            session.rehearse()
    *_, final = session.answer()
    session.close()
    return final


@pytest.mark.parametrize('settings', [{}, {'max_nodes': 6, 'first_nodes': 3}, {'fused': False}, {'speculate': False},
                                      {'exactness': 'certified', 'block': 4}], ids=str)
@pytest.mark.parametrize('form', FORMS)
def test_an_answer_of_a_form_is_generates_with_the_same_mask(target, form, settings):
    generator, engine = np.random.default_rng(3), make_engine(target, **settings)
    clips = [clip_of(generator) for _ in range(3)]
    expected = [oracle(target, clip, FORMS[form]) for clip in clips]
    for window, number in enumerate((0, 1, 2, 0, 1, 2)):        # the second time the memory drafts
        wrong = generator.integers(6, target.vocab_size, 8).tolist()
        engine.offer(draft_of(target, window, expected[number][:3] + tuple(wrong)))
        final = answer(engine, window, clips[number], FORMS[form], rehearse=window % 2 == 1)
        assert final.token_ids == expected[number] and final.lossless
        assert engine.audit(clips[number], QUESTION, window, constraint_of(target, FORMS[form])) == expected[number]


def test_what_the_form_leaves_no_choice_in_is_drafted(target):
    clip, engine = clip_of(np.random.default_rng(4)), make_engine(target)
    final = answer(engine, 0, clip, '["nothing to be seen here"]')
    assert final.text == 'nothing to be seen here'
    assert final.target_passes < len(final.token_ids)


def test_an_answer_of_a_form_can_be_read(target):
    final = answer(make_engine(target, max_new_tokens=64), 0, clip_of(np.random.default_rng(5)), SCHEMA)
    content = json.loads(final.text)
    assert isinstance(content['hazard'], bool) and content['object'] in ('car', 'child', 'dog')


def test_forms_are_remembered_apart_and_free_captions_stay_free(target):
    clip, engine = clip_of(np.random.default_rng(6)), make_engine(target)
    free = strip(target, target.generate(clip, QUESTION, TOKENS))
    for window in range(4):
        text = (FORMS['choices'], FORMS['regex'])[window % 2]
        assert answer(engine, 2 * window, clip, text).token_ids == oracle(target, clip, text)
        session = engine.open(2 * window + 1, 0, QUESTION)
        for slot, frame in enumerate(clip):
            session.add_frame(slot, slot, frame)
        *_, final = session.answer()
        session.close()
        assert final.token_ids == free


def test_fit_keeps_what_the_form_allows_and_its_room(target):
    constraint = constraint_of(target, '["ab", "ac", "b"]')
    tokens = {text: target.encode_text(text) for text in ('ab', 'ac', 'b', 'zz')}
    chain = TokenTree.chain((*tokens['ab'], *tokens['zz']))
    fitted = forms.fit(constraint, chain, (), 64)
    fitted.check()
    assert constraint.follow(fitted.token_ids)
    assert len(forms.fit(constraint, chain, (), 1)) <= 1 and not len(forms.fit(constraint, chain, (), 0))
    assert not len(forms.fit(constraint, chain, tokens['zz'], 64))


@pytest.mark.parametrize('text, rule', [
    ('[]', 'choices must be 1 to'), ('["a", 3]', 'choices must be'), ('3', 'form must be a JSON list'),
    ('{"type": "nonsense"}', 'form must be one that the grammar library takes'), ('{"a"', 'form must be a JSON list'),
    ('/[/', 'form must be one that the grammar library takes'), ('x' * 200_000, 'at most 100000 characters')])
def test_what_is_no_form_is_refused_in_a_line(text, rule):
    with pytest.raises(CrossSpecError, match=rule) as refusal:
        parse_form(text)
    assert '\n' not in str(refusal.value)


def test_no_form_is_none():
    assert parse_form('  ') is None


def test_the_builtin_verifier_answers_in_a_form():
    target = load_target('builtin')
    generator = np.random.default_rng(7)
    clip = [generator.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(8)]
    engine = make_engine(target, window_frames=8)
    assert answer(engine, 0, clip, SCHEMA).token_ids == oracle(target, clip, SCHEMA)
