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
