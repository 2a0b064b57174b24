"""What the generic adapter learns of models that were changed on purpose: who depends on whom, and what it refuses."""
from __future__ import annotations

import pytest
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import load_target
from crossspec_ros.models.targets.checking import fault
from crossspec_ros.models.targets.generic import GenericAdapter
from crossspec_ros.models.targets.transformers_target import TransformersTarget
from crossspec_ros.models.targets.watching import runs_of
from families import write_family
from target_driving import answer, bushy, frames_of

QUESTION = 'What is it?'


@pytest.fixture
def parts(tmp_path):
    """A checkpoint whose frames are one run of placeholders each, freshly loaded."""
    return load_target(write_family(tmp_path / 'model', 'llava_next_video', seed=3)).adapter.parts


def change_features(model, change) -> None:
    """Let ``change`` work on the features (n, F, D) of the frames of a clip."""
    model.model.multi_modal_projector.register_forward_hook(lambda module, arguments, output: change(output))


def assert_equal_to_generate(target) -> None:
    for seed in range(2):
        frames = frames_of(seed, 4, 60, 80)
        expected = list(target.generate(frames, QUESTION, 8))
        got, _ = answer(target, frames, QUESTION, 8, lambda done: bushy(expected[len(done):len(done) + 3], seed, 250))
        assert got == expected


def test_rows_that_know_their_place_are_not_shared_between_windows(parts):
    change_features(parts.model, lambda frames: frames + torch.arange(len(frames))[:, None, None])
    adapter = GenericAdapter(parts)
    assert not adapter.abilities.frame_cache and adapter.abilities.anticipatory
    assert 'its place' in adapter.abilities.notes[0]
    assert fault(adapter) is None
    assert_equal_to_generate(TransformersTarget(adapter))


def test_rows_that_know_other_frames_are_encoded_together(parts):
    change_features(parts.model, lambda frames: frames + 3 * frames.mean(0, keepdim=True))
    adapter = GenericAdapter(parts)
    assert not adapter.abilities.frame_cache and not adapter.abilities.anticipatory
    assert [group.frames for group in adapter.layout(QUESTION, 4, 60, 80).groups] == [4]
    assert fault(adapter) is None
    assert_equal_to_generate(TransformersTarget(adapter))


def test_attention_that_is_written_out_gets_its_masks_as_summands(parts):
    parts.model.set_attn_implementation('eager')
    adapter = GenericAdapter(parts)
    assert adapter.style.additive and fault(adapter) is None
    assert_equal_to_generate(TransformersTarget(adapter, lean=False))


def test_an_argument_that_nobody_can_make_is_refused(parts):
    decoder = parts.model.get_decoder()
    forward = decoder.forward

    def hand_more(module, arguments, handed):
        return arguments, handed | {'audio_states': torch.ones(1, 2)}
    decoder.register_forward_pre_hook(hand_more, with_kwargs=True)
    decoder.forward = lambda *arguments, audio_states=None, **options: forward(*arguments, **options)
    with pytest.raises(CrossSpecError, match='audio_states'):
        GenericAdapter(parts)


def test_a_decoder_that_does_something_else_fails_its_trial(parts):
    adapter = GenericAdapter(parts)
    decoder = parts.model.get_decoder()

    def louder(module, arguments, output):                # only where a prompt is seen whole, as in generate
        if output.last_hidden_state.shape[1] > 20:
            output.last_hidden_state = output.last_hidden_state.flip(-1)
        return output
    decoder.register_forward_hook(louder)
    assert 'logits are off' in fault(adapter)


@pytest.mark.parametrize('rows, parts_, expected', [
    pytest.param([3, 4, 5, 6], 2, ((3, 5), (5, 7)), id='side by side'),
    pytest.param([3, 4, 7, 8], 2, ((3, 5), (7, 9)), id='text between'),
    pytest.param([3, 5, 9, 11], 2, ((3, 6), (9, 12)), id='marks within')])
def test_runs_of_rows(rows, parts_, expected):
    assert runs_of(rows, parts_) == expected


@pytest.mark.parametrize('rows', [pytest.param([], id='none'), pytest.param([1, 2, 3], id='remainder')])
def test_runs_that_do_not_split_are_refused(rows):
    with pytest.raises(CrossSpecError, match='split evenly'):
        runs_of(rows, 2)
