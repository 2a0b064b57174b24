"""What holds in bfloat16, where the order of sums may decide between two tokens: equality is not to be had there."""
from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Draft, Stage, prompt_key

QUESTION = 'What is happening?'
FRAMES, TOKENS, NEAR = 3, 20, 0.05


@pytest.fixture(scope='module', params=['video_llava', 'llava_onevision'])
def target(request, tmp_path_factory):
    folder = tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)
    return load_target(folder, dtype='bfloat16')


def watch(engine) -> list:
    """Notes of each pass of an answer: rows of the logits that were decided, and the tokens emitted."""
    passes, seen = [], []
    verify, observe = engine.target.verify, engine.proposer.observe
    engine.target.verify = lambda *args: seen.append(verify(*args)) or seen[-1]
    engine.proposer.observe = lambda outcome, committed: (
        passes.append((seen[-1].logits[[0, *(node + 1 for node in outcome.nodes)][:len(outcome.emitted)]],
                       outcome.emitted)),
        observe(outcome, committed))
    return passes


def test_answer_in_bfloat16_emits_the_argmax_of_its_own_forward(target):
    assert target.dtype == torch.bfloat16
    engine = CaptionEngine(
        target, EngineConfig(window_frames=FRAMES, max_new_tokens=TOKENS, near_tie=NEAR))
    generator = np.random.default_rng(3)
    clips = [[generator.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(FRAMES)] for _ in range(5)]
    plain = [target.generate(clip, QUESTION, TOKENS) for clip in clips]
    passes, gaps = watch(engine), []
    try:
        for window in range(15):                                # memory, rehearsals and drafts make trees of every size
            clip, said = clips[window % 5], plain[window % 5]
            engine.offer(Draft(window, window, 0, prompt_key(QUESTION), target.tokenizer_key, '',
                               tuple(token for token in said if token not in target.banned_ids)))
            session = engine.open(window, window, QUESTION)
            for slot, frame in enumerate(clip):
                session.add_frame(slot, 10 * window + slot, frame)
                session.rehearse()
            begin = len(passes)
            *_, final = session.answer()
            session.close()
            assert final.stage is Stage.FINAL and final.token_ids
            rows = torch.cat([rows for rows, _ in passes[begin:]])                              # (e, V)
            emitted = [token for _, tokens in passes[begin:] for token in tokens]
            assert emitted == rows.argmax(-1).tolist()
            best = rows.topk(2).values
            gap = (best[:, 0] - best[:, 1]).tolist()
            gaps += gap
            differs = next((at for at, (ours, theirs) in enumerate(zip(emitted, said)) if ours != theirs), None)
            # bfloat16 has 8 bits: sums in another order move a logit by a few of its last ones.
            assert differs is None or gap[differs] <= 4 * float(best[differs, 0].abs()) / 2**8, (differs, gap)
    finally:
        del target.verify
    assert any(len(tokens) > 1 for _, tokens in passes), 'no tree was ever accepted: nothing was shown'
    counters = engine.counters
    assert counters.near_ties == sum(gap < NEAR for gap in gaps)
    assert counters.smallest_gap == pytest.approx(min(gaps))


def test_statistics_count_near_ties_for_a_threshold_of_their_own(target):
    with pytest.raises(CrossSpecError, match='near_tie must be 0 to 100, got -1'):
        EngineConfig(near_tie=-1)
    clip = [np.full((30, 40, 3), shade, np.uint8) for shade in (10, 90, 170)]
    for near_tie, all_of_them in ((0.0, False), (100.0, True)):
        engine = CaptionEngine(
            target, EngineConfig(window_frames=FRAMES, max_new_tokens=TOKENS, near_tie=near_tie))
        session = engine.open(0, 0, QUESTION)
        for slot, frame in enumerate(clip):
            session.add_frame(slot, slot, frame)
        list(session.answer())
        assert engine.statistics()['near_ties'] == (engine.counters.tokens if all_of_them else 0)
