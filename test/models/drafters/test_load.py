"""A drafter's folder is recognised for what it is; a video-language model drafts from pictures of events."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_eventgpt import write_eventgpt
from tiny_models import write_checkpoint
from tiny_pair import write_pair

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import DrafterConfig, EventDrafter
from crossspec_ros.models.drafters.kinds import EVENT_DRAFTER, EVENTGPT, VIDEO_MODEL, describe, drafts_only, kind_of
from crossspec_ros.models.drafters.load import PICTURES, load_any_drafter
from crossspec_ros.models.drafters.retold import FolderWords, RetoldDrafter, retell

QUESTION = 'What is happening?'


def seen(seed: int = 0) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(seed)
    return tuple(generator.integers(0, 256, (PICTURES.height, PICTURES.width, 3), dtype=np.uint8)
                 for _ in range(PICTURES.count))


def test_kinds_are_told_from_the_folder(tmp_path: Path) -> None:
    verifier, drafter = write_pair(tmp_path / 'pair')
    write_eventgpt(tmp_path / 'gpt')
    assert [kind_of(each) for each in (verifier, drafter, tmp_path / 'gpt')] == [VIDEO_MODEL, EVENT_DRAFTER, EVENTGPT]
    assert [drafts_only(each) for each in (verifier, drafter, tmp_path / 'gpt', 'builtin', tmp_path)] == [
        False, True, True, False, False]
    assert '300 words' in describe(drafter) and 'EventGPT' in describe(tmp_path / 'gpt')
    assert json.loads((drafter / 'config.json').read_text())['model_type'] == DrafterConfig.model_type
    assert isinstance(load_any_drafter(drafter), EventDrafter)


@pytest.mark.parametrize('config, words', [
    pytest.param({'model_type': 'bert', 'architectures': ['BertModel']}, "model_type 'bert'", id='text'),
    pytest.param({'model_type': 'llama', 'architectures': ['LlamaForCausalLM']}, "model_type 'llama'", id='llama'),
    pytest.param({'kind': 'eagle3', 'layers': []}, 'model_type None', id='a head'),
    pytest.param(None, 'has none', id='no config')])
def test_other_folders_are_refused_in_a_sentence(tmp_path: Path, config, words: str) -> None:
    if config is not None:
        (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(CrossSpecError, match=words) as caught:
        load_any_drafter(tmp_path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('kind', ['video_llava', 'llava_onevision'])
def test_a_video_model_drafts_what_its_generate_says(tmp_path: Path, kind: str) -> None:
    drafter = load_any_drafter(write_checkpoint(tmp_path / kind, kind, seed=2, context=1024))
    for number in range(3):
        pictures = seen(number)
        expected = drafter.target.generate(pictures, QUESTION, 10)
        made = drafter.draft(pictures, prompt=QUESTION, max_tokens=10)
        assert made.token_ids == expected and made.complete == (expected[-1] in drafter.target.eos_ids)
        assert made.text == drafter.target.decode(expected)
        later = drafter.draft(pictures, prompt=QUESTION, prefix_ids=expected[:3], max_tokens=7)
        assert later.token_ids == expected[3:]
    assert drafter.draft(seen(), prompt=QUESTION, prefix_ids=[drafter.target.eos_ids[0]]).token_ids == ()


def test_bad_input_is_refused(tmp_path: Path) -> None:
    drafter = load_any_drafter(write_checkpoint(tmp_path / 'vlm', context=1024))
    with pytest.raises(CrossSpecError, match='another tokenizer'):
        drafter.draft(seen(), prompt=QUESTION, prefix_ids=[100_000])
    with pytest.raises(CrossSpecError, match='max_tokens'):
        drafter.draft(seen(), prompt=QUESTION, max_tokens=0)
    with pytest.raises(CrossSpecError, match='4bit is for EventGPT'):
        load_any_drafter(tmp_path / 'vlm', dtype='4bit')
    with pytest.raises(CrossSpecError, match='dtype must be one of'):
        load_any_drafter(tmp_path / 'vlm', dtype='int8')
    with pytest.raises(CrossSpecError, match='must be float32 or auto'):
        load_any_drafter('builtin', dtype='bfloat16')


def test_a_drafter_of_another_vocabulary_speaks_the_verifiers_and_goes_on_from_its_verdicts(tmp_path: Path) -> None:
    own = write_checkpoint(tmp_path / 'vlm', vocab_size=300, context=1024)
    verifier = write_checkpoint(tmp_path / 'verifier', vocab_size=280)
    plain = load_any_drafter(own)
    told = load_any_drafter(own, speaks=str(verifier))
    words = FolderWords(verifier)
    assert isinstance(told, RetoldDrafter) and told.tokenizer_key == words.key != plain.tokenizer_key
    pictures = seen(4)
    said, made = (each.draft(pictures, prompt=QUESTION, max_tokens=12) for each in (plain, told))
    assert made.text == said.text and words.decode(made.token_ids) == said.text
    assert len(made.token_ids) and max(made.token_ids) < 280
    committed = words.encode('a car ahead')
    later = told.draft(pictures, prompt=QUESTION, prefix_ids=committed, max_tokens=6)
    mine = plain.draft(pictures, prompt=QUESTION, prefix_ids=plain.target.encode_text('a car ahead'), max_tokens=6)
    assert later.text == mine.text and later.text.startswith('a car ahead')
    assert words.decode([*committed, *later.token_ids]) == later.text
    assert told.draft(pictures, prompt=QUESTION, prefix_ids=[words.eos_id]).token_ids == ()


def test_a_drafter_of_the_same_vocabulary_is_left_as_it_is(tmp_path: Path) -> None:
    own = write_checkpoint(tmp_path / 'vlm', context=1024)
    assert not isinstance(load_any_drafter(own, speaks=str(own)), RetoldDrafter)


class Letters:
    """A vocabulary of letters, in which ``ab`` is one token."""

    key, eos_id = 'letters', 0

    def encode(self, text):
        return tuple(map(ord, text.replace('ab', '#')))

    def decode(self, token_ids):
        return ''.join(map(chr, token_ids)).replace('#', 'ab')


@pytest.mark.parametrize('text, before, complete, expected', [
    pytest.param('xaby', '', False, 'x#y', id='whole'), pytest.param('xaby', '', True, 'x#y\0', id='with its end'),
    pytest.param('xaby', 'x', True, '#y\0', id='after a prefix'),
    pytest.param('xaby', 'xa', False, 'by', id='in a token'),
    pytest.param('xaby', 'z', True, '', id='another beginning')])
def test_retell(text: str, before: str, complete: bool, expected: str) -> None:
    assert ''.join(map(chr, retell(Letters(), text, before, complete))) == expected
