"""Each way in which generation_config.json can change greedy decoding, obeyed in every row of a tree.

The oracle is transformers' own `generate` on the prompt's ids, with a processor of our own at the end of its list that
only makes it walk down a given path: what it chooses after the path, and the scores it ranks, are what a row must hold.
"""
from __future__ import annotations

import json

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import generation
from crossspec_ros.speculation.tree import TokenTree

NEW = 8                                 # tokens of the longest answer
PROMPTS = [tuple(torch.randint(10, 250, (9,), generator=torch.Generator().manual_seed(seed)).tolist())
           for seed in range(12)]


class Walk(LogitsProcessor):
    """Makes `generate` say ``path`` and leaves the choice after it as it is."""

    def __init__(self, start: int, path: list[int]) -> None:
        self.start, self.path = start, path

    def __call__(self, input_ids, scores):
        step = input_ids.shape[1] - self.start
        if step >= len(self.path):
            return scores
        forced = torch.full_like(scores, float('-inf'))
        forced[:, self.path[step]] = 0.0
        return forced


@pytest.fixture(scope='module')
def tiny():
    return tiny_models.build_model('video_llava', seed=3, spread=0.15)         # goes round in circles soon


@pytest.fixture
def model(tiny):
    before = tiny.generation_config
    yield tiny
    tiny.generation_config = before


def ask(model, **settings):
    """Give the model these settings, as its generation_config.json would."""
    model.generation_config = GenerationConfig.from_dict({'eos_token_id': 1, 'pad_token_id': 3} | settings)


def decoded(model, prompt, path=(), **options):
    """Tokens after ``path``, and the scores ranked first there, of the model's own generate."""
    walk = LogitsProcessorList([Walk(len(prompt), list(path))])
    ids = torch.tensor([prompt])
    output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False,
                            logits_processor=walk, return_dict_in_generate=True, output_scores=True, **options)
    return output.sequences[0, len(prompt) + len(path):].tolist(), output.scores[len(path)][0]


def said_before(model, prompt):
    """A prompt that holds what the model goes on to say, so that it repeats itself."""
    ask(model)
    return tuple(model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0].tolist())


def raw_rows(model, prompt, committed, tree):
    """Logits (n + 1, V) of the model's own forward after the prefix and each path."""
    with torch.inference_mode():
        return torch.stack([model(input_ids=torch.tensor([[*prompt, *committed, *tree.tokens_to(node)]])).logits[0, -1]
                            for node in range(-1, len(tree))]).to(torch.float32)


def bushy(tokens, committed, ends):
    """A tree along ``tokens`` with branches that are not in it, some of which repeat what was said."""
    chain = [token for token in tokens[committed:] if token not in ends]
    wrong = [token for token in (tokens[0], 77, 130, 201) if token not in ends]
    ids, parents, parent = [], [], -1
    for depth, token in enumerate(chain):
        for other in {wrong[depth % len(wrong)], wrong[(depth + 1) % len(wrong)]} - {token}:
            ids.append(other)
            parents.append(parent)
        ids.append(token)
        parents.append(parent)
        parent = len(ids) - 1
    ids.append(wrong[1])                 # two deep below a hostile branch
    parents.append(0)
    count = len(ids)
    tree = TokenTree(tuple(ids), tuple(parents), (1,) * count, (1.0,) * count, ('test',))
    tree.check()
    return tree


def assert_rows_are_generates(model, prompt, tokens, committed, ends):
    tree = bushy(tokens, committed, ends)
    nodes = [node for node in range(-1, len(tree)) if committed + len(tree.tokens_to(node)) < NEW]
    given = raw_rows(model, prompt, tokens[:committed], tree)
    before = given.clone()
    scorer = generation.make_scorer(model, None, NEW)
    scored = scorer(given, prompt, tokens[:committed], tree)
    assert torch.equal(given, before) or given.isnan().any(), 'the logits given must be left as they are'
    assert len(nodes) > 3
    for node in nodes:
        after, scores = decoded(model, prompt, [*tokens[:committed], *tree.tokens_to(node)])
        assert int(scored[node + 1].argmax()) == after[0], f'node {node}'
        torch.testing.assert_close(scored[node + 1], scores, atol=2e-3, rtol=1e-4)


def settings_of(name, plain, prompt):
    """Settings under which the plain answer comes out differently."""
    return {
        'repetition_penalty': dict(repetition_penalty=4.0),
        'encoder_repetition_penalty': dict(encoder_repetition_penalty=5.0),
        'no_repeat_ngram_size 1': dict(no_repeat_ngram_size=1),
        'no_repeat_ngram_size 2': dict(no_repeat_ngram_size=2),
        'encoder_no_repeat_ngram_size': dict(encoder_no_repeat_ngram_size=1),
        'min_length': dict(min_length=len(prompt) + 5, eos_token_id=[plain[1], 1]),
        'min_new_tokens': dict(min_new_tokens=4, eos_token_id=[plain[1], plain[2]]),
        'suppress_tokens': dict(suppress_tokens=[plain[0], plain[1]]),
        'begin_suppress_tokens': dict(begin_suppress_tokens=[plain[0]]),
        'forced_eos_token_id': dict(forced_eos_token_id=40),
        'bad_words_ids of one token': dict(bad_words_ids=[[plain[0]]]),
        'bad_words_ids of two tokens': dict(bad_words_ids=[[plain[0], plain[1]]]),
        'sequence_bias': dict(sequence_bias=[[[plain[1]], -50.0], [[plain[0], 60], 100.0]]),
        'exponential_decay_length_penalty': dict(exponential_decay_length_penalty=[2, 4.0], eos_token_id=[2, 1]),
        'several': dict(repetition_penalty=3.0, min_new_tokens=3, eos_token_id=plain[2], forced_eos_token_id=40,
                        sequence_bias=[[[plain[0]], -3.0]], renormalize_logits=True, remove_invalid_values=True),
    }[name]


NAMES = ['repetition_penalty', 'encoder_repetition_penalty', 'no_repeat_ngram_size 1', 'no_repeat_ngram_size 2',
         'encoder_no_repeat_ngram_size', 'min_length', 'min_new_tokens', 'suppress_tokens', 'begin_suppress_tokens',
         'forced_eos_token_id', 'bad_words_ids of one token', 'bad_words_ids of two tokens', 'sequence_bias',
         'exponential_decay_length_penalty', 'several']


@pytest.mark.parametrize('name', NAMES)
def test_rows_hold_what_generate_ranks(model, name):
    for prompt in (*PROMPTS, *(said_before(model, prompt) for prompt in PROMPTS)):
        ask(model)
        plain, _ = decoded(model, prompt)
        if len(plain) < NEW:
            continue
        settings = settings_of(name, plain, prompt)
        ask(model, eos_token_id=settings.get('eos_token_id', 1))
        unasked, _ = decoded(model, prompt)
        ask(model, **settings)
        tokens, _ = decoded(model, prompt)
        if tokens != unasked:
            break
    else:
        pytest.fail('no prompt shows that the setting changes anything')
    ends = set(generation.end_ids(model, None))
    for committed in (0, 2):
        assert_rows_are_generates(model, prompt, tokens, committed, ends)


def test_forced_bos_token_id_after_a_prompt_of_one_token(model):
    ask(model, forced_bos_token_id=44)
    tokens, _ = decoded(model, (0,))
    assert tokens[0] == 44
    assert_rows_are_generates(model, (0,), tokens, 0, {1})


def test_renormalize_logits_gives_log_probabilities(model):
    ask(model, renormalize_logits=True)
    tokens, scores = decoded(model, PROMPTS[0])
    assert float(scores.exp().sum()) == pytest.approx(1.0, abs=1e-4)
    assert_rows_are_generates(model, PROMPTS[0], tokens, 1, {1})


def test_remove_invalid_values_takes_nan_for_nought():
    model = tiny_models.build_model('video_llava', seed=3)
    with torch.no_grad():
        model.lm_head.weight[7] = float('nan')
    ask(model)
    assert decoded(model, PROMPTS[0])[0][0] == 7
    ask(model, remove_invalid_values=True)
    tokens, _ = decoded(model, PROMPTS[0])
    assert tokens[0] != 7
    assert_rows_are_generates(model, PROMPTS[0], tokens, 1, {1})


@pytest.mark.parametrize('settings', [
    pytest.param({}, id='nothing'),
    pytest.param(dict(repetition_penalty=1.0, max_length=20, min_length=0), id='defaults'),
    pytest.param(dict(do_sample=True, temperature=0.2, top_k=3, top_p=0.5, min_p=0.1, typical_p=0.9), id='sampling'),
    pytest.param(dict(prompt_lookup_num_tokens=3), id='prompt lookup'),
    pytest.param(dict(max_new_tokens=4), id='max_new_tokens'), pytest.param(dict(use_cache=False), id='no cache')])
def test_settings_that_do_nothing_cost_nothing(model, settings):
    ask(model)
    plain, _ = decoded(model, PROMPTS[1])
    ask(model, **settings)
    assert generation.make_scorer(model, None, NEW) is None
    if not settings.get('prompt_lookup_num_tokens'):       # assisted decoding gives no scores of the first row alone
        assert decoded(model, PROMPTS[1])[0] == plain


def test_scorer_forgets_one_prompt_for_the_next(model):
    ask(model, repetition_penalty=4.0, encoder_repetition_penalty=0.5)
    scorer = generation.make_scorer(model, None, NEW)
    for prompt in (PROMPTS[2], PROMPTS[3], PROMPTS[2]):
        rows = raw_rows(model, prompt, (), TokenTree())
        assert int(scorer(rows, list(prompt), [], TokenTree())[0].argmax()) == decoded(model, prompt)[0][0]


def test_scorer_refuses_rows_that_do_not_fit_the_tree(model):
    ask(model, repetition_penalty=4.0)
    scorer = generation.make_scorer(model, None, NEW)
    with pytest.raises(CrossSpecError, match='a row for the prefix and each of 2 nodes'):
        scorer(torch.zeros(2, 300), PROMPTS[0], [], TokenTree.chain([5, 6]))


def test_banned_ids_are_suppressed_with_those_of_the_file(model):
    ask(model, suppress_tokens=[9], renormalize_logits=True)
    banned = decoded(model, PROMPTS[4])[0][:1]
    given = generation.suppressed_ids(model, banned)
    after, scores = decoded(model, PROMPTS[4], suppress_tokens=given)
    scorer = generation.make_scorer(model, None, NEW, banned_ids=banned)
    row = scorer(raw_rows(model, PROMPTS[4], (), TokenTree()), PROMPTS[4], [], TokenTree())[0]
    assert int(row.argmax()) == after[0] and row[[9, *banned]].isinf().all()
    torch.testing.assert_close(row, scores, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize('field, value', [
    ('num_beams', 4), ('guidance_scale', 1.5), ('watermarking_config', {'bias': 2.0}), ('penalty_alpha', 0.6),
    ('dola_layers', 'high'), ('force_words_ids', [[4]]), ('max_time', 3.0), ('token_healing', True),
    ('is_assistant', True), ('cache_implementation', 'quantized'), ('assistant_ensemble_weight', 0.5)])
def test_settings_that_cannot_be_obeyed_are_named(model, field, value):
    ask(model, **{field: value})
    assert [sentence.split()[0] for sentence in generation.refusals(model)] == [field]
    with pytest.raises(CrossSpecError, match=f'{field} must'):
        generation.make_scorer(model, None, NEW)


def test_num_return_sequences_is_named(model):
    ask(model, num_return_sequences=2, do_sample=True)
    with pytest.raises(CrossSpecError, match='num_return_sequences must be 1'):
        generation.make_scorer(model, None, NEW)


@pytest.mark.parametrize('settings, match', [
    pytest.param({'repetition_penalty': '5'}, "repetition_penalty .* number .* got '5'", id='text'),
    pytest.param({'repetition_penalty': 2}, 'repetition_penalty .* decimal point, got 2', id='whole'),
    pytest.param({'eos_token_id': 'end'}, 'eos_token_id .* token id', id='eos'),
    pytest.param({'suppress_tokens': 5}, 'suppress_tokens .* list', id='suppress'),
    pytest.param({'bad_words_ids': [5]}, 'bad_words_ids .* list of lists', id='bad words'),
    pytest.param({'no_repeat_ngram_size': 1.5}, 'no_repeat_ngram_size .* whole', id='ngram'),
    pytest.param({'sequence_bias': [[[5], 3]]}, 'sequence_bias .* decimal', id='bias'),
    pytest.param({'stop_strings': [3]}, 'stop_strings .* text', id='stop'),
    pytest.param({'num_beams': True}, 'num_beams .* whole', id='switch'),
    pytest.param({'num_beams': 3}, 'num_beams must be 1', id='beams'),
    pytest.param({'min_new_tokens': -1}, 'min_new_tokens .* >= 0', id='negative')])
def test_generation_file_with_wrong_values_is_named(tmp_path, settings, match):
    (tmp_path / 'generation_config.json').write_text(json.dumps(settings))
    with pytest.raises(CrossSpecError, match=match):
        generation.check_generation_file(tmp_path)


@pytest.mark.parametrize('content, match', [
    pytest.param('{"eos_token_id": 1,', 'JSON object, got what is no JSON', id='cut'),
    pytest.param('[1, 2]', 'JSON object, got a list', id='list'), pytest.param('', 'no JSON', id='empty'),
    pytest.param('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n', 'git lfs pull', id='pointer')])
def test_generation_file_that_is_no_object_is_named(tmp_path, content, match):
    (tmp_path / 'generation_config.json').write_text(content)
    with pytest.raises(CrossSpecError, match=match):
        generation.check_generation_file(tmp_path)


@pytest.mark.parametrize('settings', [
    pytest.param({'sequence_bias': [[[900], -1.0]]}, id='bias'), pytest.param({'bad_words_ids': [[900]]}, id='word'),
    pytest.param({'forced_eos_token_id': 900}, id='forced end')])
def test_settings_with_ids_outside_of_the_vocabulary_are_named(model, settings):
    ask(model, **settings)
    with pytest.raises(CrossSpecError, match=next(iter(settings))):
        generation.make_scorer(model, None, NEW)


@pytest.mark.parametrize('value, expected', [(None, ()), ('.', ('.',)), (['.', '!'], ('.', '!'))])
def test_stop_strings_are_a_tuple_of_texts(model, value, expected):
    ask(model, stop_strings=value)
    assert generation.stop_strings(model) == expected


@pytest.mark.parametrize('value', [pytest.param([], id='empty'), pytest.param([''], id='empty text'),
                                   pytest.param(5, id='number')])
def test_stop_strings_of_another_type_are_refused(model, value):
    ask(model)
    model.generation_config.stop_strings = value
    with pytest.raises(CrossSpecError, match='stop_strings'):
        generation.stop_strings(model)


def test_end_ids_may_be_several(model):
    ask(model, eos_token_id=[7, 1])
    assert generation.end_ids(model, None) == (7, 1)


def test_suppressed_ids_keep_those_of_the_file(model):
    ask(model, suppress_tokens=[9, 4])
    assert generation.suppressed_ids(model, (5, 4)) == [4, 5, 9]
