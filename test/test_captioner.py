"""Ten lines of Python: a checkpoint folder, frames and a prompt give the captions that generate gives."""
from __future__ import annotations

import numpy as np
import pytest

import tiny_models
from crossspec_ros.captioner import DEFAULT_PROMPT, Captioner
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Stage

CONFIG = EngineConfig(window_frames=2, max_new_tokens=12)


@pytest.fixture(scope='module', params=['video_llava', 'llava_onevision'])
def captioner(request, tmp_path_factory):
    return Captioner(tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param), config=CONFIG)


@pytest.fixture(scope='module')
def clips():
    generator = np.random.default_rng(1)
    return [[generator.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(2)] for _ in range(3)]


def expected(captioner, clip, prompt=DEFAULT_PROMPT):
    tokens = captioner.target.generate(clip, prompt, CONFIG.max_new_tokens)
    return tokens[:-1] if tokens[-1] in captioner.target.eos_ids else tokens


def test_caption_equals_generate(captioner, clips):
    for clip in clips + clips:
        caption = captioner.caption(clip)
        assert caption.token_ids == expected(captioner, clip)
        assert caption.text == captioner.target.decode(caption.token_ids)


def test_caption_draft_makes_no_difference_to_the_text(captioner, clips):
    text = captioner.target.decode(expected(captioner, clips[0], 'Who?'))
    for draft in (text, 'a red car', 'x' * 500):
        assert captioner.caption(clips[0], 'Who?', draft).token_ids == expected(captioner, clips[0], 'Who?')


def test_stream_ends_with_the_final_caption(captioner, clips):
    *earlier, final = captioner.stream(clips[0], 'Where?')
    assert final.stage is Stage.FINAL and final.token_ids == expected(captioner, clips[0], 'Where?')
    assert all(getattr(output, 'stage', None) is not Stage.FINAL for output in earlier)


def test_push_gives_the_caption_with_the_last_frame(captioner, clips):
    for clip in clips:
        assert captioner.push(clip[0]) is None
        assert captioner.push(clip[1]).token_ids == expected(captioner, clip)


def test_push_bad_frame_is_refused_and_the_stream_goes_on(captioner, clips):
    for _ in range(20):
        with pytest.raises(CrossSpecError, match='rgb must be'):
            captioner.push(np.zeros(3))
    assert captioner.push(clips[0][0]) is None
    with pytest.raises(CrossSpecError, match='rgb must be'):
        captioner.push(np.zeros(3))
    assert captioner.push(clips[0][1]).token_ids == expected(captioner, clips[0])


@pytest.mark.parametrize('count', [0, 1, 3])
def test_caption_wrong_number_of_frames_is_refused(captioner, clips, count):
    with pytest.raises(CrossSpecError, match='frames must be 2'):
        captioner.caption(clips[0][:1] * count)


def test_push_goes_on_after_a_clip_in_between(captioner, clips):
    for _ in range(2):
        assert captioner.push(clips[0][0], 'Who?') is None
        assert captioner.caption(clips[1], 'Where?', 'a red car').token_ids == expected(captioner, clips[1], 'Where?')
        assert [output for output in captioner.stream(clips[2])][-1].token_ids == expected(captioner, clips[2])
        assert captioner.push(clips[0][1]).token_ids == expected(captioner, clips[0], 'Who?')
    assert captioner.engine.sizes()['windows'] == 0


def test_push_goes_on_after_a_clip_that_was_left_unread(captioner, clips):
    assert captioner.push(clips[0][0]) is None
    unread = captioner.stream(clips[1])
    next(unread)
    unread.close()
    assert captioner.push(clips[0][1]).token_ids == expected(captioner, clips[0])
    assert captioner.engine.sizes()['windows'] == 0


FRAME = np.zeros((30, 40, 3), np.uint8)


@pytest.mark.parametrize('frame', [
    pytest.param(FRAME[..., 0], id='grey'), pytest.param(FRAME.astype(np.float32), id='float'),
    pytest.param(FRAME[:1], id='one line'), pytest.param(FRAME[:0], id='empty'), pytest.param(None, id='none'),
    pytest.param(FRAME.tolist(), id='list'), pytest.param(np.zeros((30, 40, 4), np.uint8), id='four channels')])
def test_push_refused_frame_is_as_if_it_had_not_been_given(captioner, clips, frame):
    for when in range(2):
        for place, sound in enumerate(clips[2]):
            if place == when:
                with pytest.raises(CrossSpecError, match='rgb must be'):
                    captioner.push(frame)
            caption = captioner.push(sound)
        assert caption.token_ids == expected(captioner, clips[2])
    with pytest.raises(CrossSpecError, match='rgb must be'):
        captioner.caption([clips[0][0], frame])
    assert captioner.engine.sizes()['windows'] == 0


BAD = {
    'generator': (lambda clip: dict(frames=(frame for frame in clip)), 'frames must be a list'),
    'no frames': (lambda clip: dict(frames=None), 'frames must be a list'),
    'a text for frames': (lambda clip: dict(frames='ab'), 'frames must be a list'),
    'a list for the prompt': (lambda clip: dict(prompt=['What?']), 'prompt must be a text'),
    'bytes for the prompt': (lambda clip: dict(prompt=b'What?'), 'prompt must be a text'),
    'an empty prompt': (lambda clip: dict(prompt=' '), 'prompt must not be empty'),
    'a lone surrogate in the prompt': (lambda clip: dict(prompt='What\ud800?'), 'prompt must be .* lone surrogate'),
    'a lone surrogate in the draft': (lambda clip: dict(draft='a\udfff car'), 'draft must be .* lone surrogate'),
    'bytes for the draft': (lambda clip: dict(draft=b'a car'), 'draft must be a text, got bytes'),
    'no draft': (lambda clip: dict(draft=None), 'draft must be a text'),
}


@pytest.mark.parametrize('change, match', [pytest.param(*bad, id=name) for name, bad in BAD.items()])
def test_caption_bad_argument_is_one_error_and_everything_goes_on(captioner, clips, change, match):
    clip = clips[0]
    given = dict(frames=clip) | change(clip)
    assert captioner.push(clips[1][0]) is None
    with pytest.raises(CrossSpecError, match=match):
        captioner.caption(**given)
    if 'draft' in given:
        with pytest.raises(CrossSpecError, match=match):
            captioner.push(clips[1][1], draft=given['draft'])
    assert captioner.caption(clip).token_ids == expected(captioner, clip)
    assert captioner.push(clips[1][1]).token_ids == expected(captioner, clips[1])
    if 'prompt' in given:
        with pytest.raises(CrossSpecError, match=match):
            captioner.push(clip[0], given['prompt'])
        assert captioner.push(clip[0]) is None and captioner.push(clip[1]).token_ids == expected(captioner, clip)
    assert captioner.engine.sizes()['windows'] == 0


def test_stop_strings_that_are_a_text_are_refused():
    with pytest.raises(CrossSpecError, match="stop_strings must be a list of strings, got 'abc'"):
        EngineConfig(stop_strings='abc')
