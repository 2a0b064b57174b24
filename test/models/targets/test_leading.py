"""A model that two processes share over gloo says what its own generate says; and no process outlives another."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from crossspec_ros.errors import CrossSpecError, ModelLost
from crossspec_ros.models.devices import is_sharded
from crossspec_ros.models.ranks import lead
from crossspec_ros.models.targets import load_target
from crossspec_ros.models.targets.load import check_shared, load_leading
from engine_harness import QUESTION, caption_of, clip_of, make_engine, strip
from families import write_family

pytestmark = pytest.mark.timeout(900)            # two processes take turns at one busy core
pytest.importorskip('accelerate', reason='transformers shares models with accelerate only')

FAMILIES = ('video_llava', 'llava_onevision', 'qwen3_vl', 'internvl')
FRAMES, WINDOWS, TOKENS = 4, 2, 12
SETTINGS = dict(device='cpu', dtype='auto', cache='auto', fps=8.0, trust_remote_code=False, allow_pickle=False)


@pytest.fixture(scope='module')
def ranks():
    """Two processes that have come together; this one is rank 0."""
    together = lead(2, torch.device('cpu'))
    yield together
    together.close()


def clips_of(count: int, seed: int = 5) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    return [clip_of(generator, FRAMES) for _ in range(count)]


def captions_equal_generate(target, clips) -> int:
    """Captions of the clips, each twice over, beside `generate` of the same model; how many passes were saved."""
    engine, saved = make_engine(target, window_frames=FRAMES, max_new_tokens=TOKENS), 0
    said = [strip(target, target.generate(clip, QUESTION, TOKENS)) for clip in clips]
    for window, (clip, expected) in enumerate(zip(clips * 2, said * 2)):
        caption = caption_of(engine, window, clip, rehearse=window % 2 == 0)
        assert caption.token_ids == expected
        saved += len(expected) - caption.target_passes
    return saved


@pytest.mark.parametrize('name', FAMILIES)
def test_captions_of_a_shared_model_equal_its_generate(name, ranks, tmp_path):
    folder = write_family(tmp_path, name)
    target = load_leading(ranks, path=str(folder), **SETTINGS)
    layer = target.adapter.language_model.layers[0]
    assert is_sharded(layer.self_attn.q_proj) and is_sharded(layer.mlp.down_proj) and is_sharded(target.adapter.head)
    clips = clips_of(WINDOWS)
    assert captions_equal_generate(target, clips) > 0
    assert target.generate(clips[0], QUESTION, 6) == load_target(folder).generate(clips[0], QUESTION, 6)


@pytest.mark.longest
@pytest.mark.parametrize('name', FAMILIES)
def test_captions_of_many_windows_equal_generate_of_the_shared_model(name, ranks, tmp_path):
    target = load_leading(ranks, path=str(write_family(tmp_path, name)), **SETTINGS)
    assert captions_equal_generate(target, clips_of(25, seed=11)) > 0


def test_what_a_window_cannot_be_given_is_refused_and_the_next_one_is_served(ranks, tmp_path):
    target = load_leading(ranks, path=str(write_family(tmp_path, 'video_llava')), **SETTINGS)
    clip, = clips_of(1)
    layout = target.layout(QUESTION, FRAMES, *clip[0].shape[:2])
    with pytest.raises(CrossSpecError, match='rgb must'):
        target.encode(layout, 0, [clip[0].astype(np.float32)])
    with pytest.raises(CrossSpecError, match='must fit the cache'):
        target.extend(target.new_cache(layout, 4), target.embed([7] * 5))
    with pytest.raises(CrossSpecError, match='model.heads'):
        target.tap([0])
    captions_equal_generate(target, [clip])


@pytest.mark.parametrize('name, shape, count, told', [
    pytest.param('molmo2', {}, 2, 'transformers has no plan .*molmo2_text', id='no plan'),
    pytest.param('video_llava', dict(heads=4, kv_heads=2), 3, 'must divide num_attention_heads .* 4, got 3',
                 id='heads'),
    pytest.param('qwen3_vl', dict(heads=4, kv_heads=2), 4, 'must divide num_key_value_heads .* 2, got 4',
                 id='heads of keys')])
def test_model_that_cannot_be_shared_is_refused_before_a_process_starts(name, shape, count, told, tmp_path):
    folder = write_family(tmp_path, name, **shape)
    before = psutil.Process().children()
    with pytest.raises(CrossSpecError, match=told):
        check_shared(count, str(folder))
    with pytest.raises(CrossSpecError, match=told):
        load_target(folder, ranks=count)
    assert psutil.Process().children() == before


def test_shared_model_without_accelerate_is_refused_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(CrossSpecError, match='pip install accelerate'):
        load_target(write_family(tmp_path, 'video_llava'), ranks=2)


def test_second_shared_model_of_a_process_is_refused(ranks):
    with pytest.raises(CrossSpecError, match='one is already'):
        load_target('builtin', ranks=2)
    with pytest.raises(CrossSpecError, match='model.cache must be auto or dynamic'):
        load_target('builtin', cache='padded', ranks=2)


def test_rank_killed_in_mid_caption_ends_it_with_one_error_and_nothing_hangs(ranks, tmp_path):
    folder, (clip,) = write_family(tmp_path, 'video_llava'), clips_of(1)
    target = load_leading(ranks, path=str(folder), **SETTINGS)
    engine, other = make_engine(target, window_frames=FRAMES), psutil.Process().children()[-1]
    passes, head = [], target.adapter.head.forward

    def dies(*states):
        passes.append(len(passes))
        if len(passes) == 3:
            other.kill()
        return head(*states)
    target.adapter.head.forward = dies
    with pytest.raises(ModelLost, match='process 1 of the model has ended .SIGKILL.'):
        caption_of(engine, 1, clip)
    assert len(passes) >= 3 and not other.is_running()
    with pytest.raises(ModelLost, match='SIGKILL'):
        caption_of(engine, 2, clip)
    target.close()
    with pytest.raises(ModelLost, match='SIGKILL'):
        target.embed([7])


@pytest.mark.long
def test_model_whose_ranks_were_lost_can_be_loaded_again_in_the_same_process(tmp_path):
    folder, (clip,), said = write_family(tmp_path, 'video_llava'), clips_of(1), []
    for _ in range(2):
        target = load_target(folder, ranks=2)
        engine, other = make_engine(target, window_frames=FRAMES), psutil.Process().children()[-1]
        said.append(caption_of(engine, 0, clip).token_ids)
        other.kill()
        with pytest.raises(ModelLost):
            caption_of(engine, 1, clip)
        target.close()
        assert not other.is_running()
    assert said[0] == said[1]


LEADER = """
import itertools, sys
import psutil
from crossspec_ros.models.targets import load_target
from engine_harness import caption_of, clip_of, make_engine
import numpy as np
target = load_target(sys.argv[1], ranks=2)
engine, clip = make_engine(target, window_frames=4), clip_of(np.random.default_rng(5), 4)
for window in itertools.count():
    caption_of(engine, window, clip)
    print(psutil.Process().children()[0].pid, flush=True)
"""


@pytest.mark.long
def test_others_end_when_rank_0_is_killed(tmp_path):
    folder = write_family(tmp_path, 'video_llava')
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get('PYTHONPATH', '')]
    leader = subprocess.Popen([sys.executable, '-c', LEADER, str(folder)], stdout=subprocess.PIPE, text=True,
                              env=os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, paths)),
                                                'TMPDIR': str(tmp_path)})
    try:
        other = psutil.Process(int(leader.stdout.readline()))
        leader.send_signal(signal.SIGKILL)
        leader.wait(10)
        other.wait(20)
    finally:
        leader.kill()
        leader.stdout.close()
    assert not other.is_running()
