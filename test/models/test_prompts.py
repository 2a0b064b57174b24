"""A question reaches the model through the first chat template that takes it, in the form that the template wants."""
from __future__ import annotations

import json
import logging

import pytest

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.prompts import check_question, render, starts_itself

QUESTION = 'What is ahead?'
PARTS = ("{% for m in messages %}{% for c in m.content %}{% if c.type == 'video' %}<video>{% elif c.type == 'image' %}"
         "<image>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %} NAME")
TEXT = ("{% for m in messages %}{% if m.content.startswith('/') %}x{% endif %}USER: {{ m['content'].strip() }} "
        "{% endfor %}ASSISTANT:")
RAISES = "{{ raise_exception('roles must alternate') }}"
PRINTS = '{% for m in messages %}<video> {{ m.content }}{% endfor %}'
FALLBACK = 'USER: {video}\n{question} ASSISTANT:'


@pytest.fixture
def tokenizer():
    return tiny_models.build_tokenizer(280)


def ask(tokenizer, folder, question=QUESTION, frames=4, fallback=None, placeholder='<video>', **options):
    return render(None, tokenizer, folder, question, frames, fallback, placeholder, **options)


def test_templates_are_tried_in_order(tokenizer, tmp_path):
    tokenizer.chat_template = PARTS.replace('NAME', 'tokenizer')
    assert ask(tokenizer, tmp_path, fallback=FALLBACK) == f'<video>{QUESTION} tokenizer'
    (tmp_path / 'processor_config.json').write_text(json.dumps({'chat_template': PARTS.replace('NAME', 'config')}))
    assert ask(tokenizer, tmp_path).endswith('config')
    (tmp_path / 'chat_template.json').write_text(json.dumps({'chat_template': PARTS.replace('NAME', 'json')}))
    assert ask(tokenizer, tmp_path).endswith('json')
    (tmp_path / 'chat_template.jinja').write_text(PARTS.replace('NAME', 'jinja'))
    assert ask(tokenizer, tmp_path).endswith('jinja')


def test_the_processors_own_method_comes_first(tokenizer, tmp_path):
    class Processor:
        chat_template = PARTS

        def apply_chat_template(self, conversation, **options):
            return f'introduction <video> {conversation[0]["content"][-1]["text"]}'

    (tmp_path / 'chat_template.jinja').write_text(PARTS)
    assert render(Processor(), tokenizer, tmp_path, QUESTION, 4, None, '<video>') == f'introduction <video> {QUESTION}'


@pytest.mark.parametrize('template', [pytest.param(TEXT, id='calls text methods'), pytest.param(
    "{% for m in messages %}{{ 'USER: ' + m.content + ' ' }}{% endfor %}ASSISTANT:", id='adds text'), pytest.param(
    "{% for m in messages %}{% if m.content is not string %}{{ raise_exception('text only') }}{% endif %}"
    "USER: {{ m.content }} {% endfor %}ASSISTANT:", id='raises for parts'), pytest.param(
    '{% for m in messages %}USER: {{ m.content }} {% endfor %}ASSISTANT:', id='prints parts')])
def test_templates_that_want_text_get_text(tokenizer, tmp_path, template):
    (tmp_path / 'chat_template.jinja').write_text(template)
    assert ask(tokenizer, tmp_path) == f'USER: <video>\n{QUESTION} ASSISTANT:'


def test_a_list_printed_beside_a_placeholder_is_no_prompt(tokenizer, tmp_path):
    (tmp_path / 'chat_template.jinja').write_text(PRINTS)
    assert '[{' not in ask(tokenizer, tmp_path)


def test_frames_are_images_where_the_placeholder_is_one_frame(tokenizer, tmp_path):
    tokenizer.chat_template = PARTS
    assert ask(tokenizer, tmp_path, frames=3, placeholder='<image>', each_frame=True).count('<image>') == 3
    tokenizer.chat_template = TEXT
    assert ask(tokenizer, tmp_path, frames=3, placeholder='<image>', each_frame=True).count('<image>') == 3


def test_words_that_a_template_adds_stay(tokenizer, tmp_path):
    tokenizer.chat_template = 'SYSTEM: You drive.\n' + PARTS
    assert ask(tokenizer, tmp_path).startswith('SYSTEM: You drive.')


def test_a_prompt_with_the_placeholder_is_whole(tokenizer, tmp_path):
    tokenizer.chat_template = RAISES
    assert ask(tokenizer, tmp_path, 'Look <video> and say') == 'Look <video> and say'


@pytest.mark.parametrize('template, reason', [
    pytest.param(RAISES, 'TemplateError: roles must alternate', id='raises'),
    pytest.param('{{ messages[0].content.x.y }}', 'UndefinedError', id='undefined'),
    pytest.param('{% for m in messages %}', 'TemplateSyntaxError', id='syntax'),
    pytest.param('{{ 1 + messages[0].content }}', 'TypeError', id='type'),
    pytest.param('no room for anything', 'leaves out the frames', id='leaves out'),
    pytest.param(None, 'none', id='none')])
def test_no_way_is_one_line_that_says_what_to_do(tokenizer, tmp_path, template, reason):
    tokenizer.chat_template = template
    with pytest.raises(CrossSpecError, match='give a whole prompt that holds <video>') as caught:
        ask(tokenizer, tmp_path)
    assert reason in str(caught.value) and '\n' not in str(caught.value)


def test_the_adapters_template_is_last_and_said(tokenizer, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert ask(tokenizer, tmp_path, fallback=FALLBACK) == f'USER: <video>\n{QUESTION} ASSISTANT:'
        assert not caplog.records
        tokenizer.chat_template = RAISES
        text = ask(tokenizer, tmp_path, '{odd} question', fallback=FALLBACK)
        assert text == 'USER: <video>\n{odd} question ASSISTANT:'
    assert 'roles must alternate' in caplog.text


@pytest.mark.parametrize('question, match', [
    pytest.param(['What?'], 'must be a text, got list', id='list'), pytest.param(b'What?', 'got bytes', id='bytes'),
    pytest.param(None, 'got NoneType', id='none'), pytest.param(' \n', 'must not be empty', id='blank'),
    pytest.param('a\ud800b', 'surrogate .* at character 1', id='surrogate'),
    pytest.param('x' * 100_001, 'at most 100000 characters', id='too many')])
def test_a_question_that_is_no_text_is_refused(tokenizer, tmp_path, question, match):
    with pytest.raises(CrossSpecError, match=match):
        check_question(question)
    with pytest.raises(CrossSpecError, match=match):
        ask(tokenizer, tmp_path, question, fallback=FALLBACK)


@pytest.mark.parametrize('name, content, match', [
    pytest.param('chat_template.json', '{"chat_template": 5}', 'must be a text, got int', id='number'),
    pytest.param('chat_template.json', '{', 'JSON object', id='no json'),
    pytest.param('chat_template.jinja', 'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull', id='pointer')])
def test_broken_template_files_are_named(tokenizer, tmp_path, name, content, match):
    (tmp_path / name).write_text(content)
    with pytest.raises(CrossSpecError, match=match):
        ask(tokenizer, tmp_path)


def test_named_templates_give_the_default(tokenizer, tmp_path):
    tokenizer.chat_template = {'default': PARTS, 'tool_use': RAISES}
    assert ask(tokenizer, tmp_path).startswith(f'<video>{QUESTION}')


def test_starts_itself_with_the_first_special_token(tokenizer):
    assert starts_itself(tokenizer, '<s>USER:') and not starts_itself(tokenizer, 'USER: <s>')
