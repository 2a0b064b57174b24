"""What holds in bfloat16, where the order of sums may decide between two tokens: equality is not to be had there."""
from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny_models
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.verifier import load_verifier
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Draft, Stage, prompt_key

QUESTION = 'What is happening?'
FRAMES, TOKENS, NEAR = 3, 20, 0.05


@pytest.fixture(scope='module', params=['video_llava', 'llava_onevision'])
def verifier(request, tmp_path_factory):
    folder = tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)
    return load_verifier(folder, dtype='bfloat16')


def watch(engine) -> list:
    """Notes of each pass of an answer: rows of the logits that were decided, and the tokens emitted."""
    passes, seen = [], []
    verify, observe = engine.verifier.verify, engine.proposer.observe
    engine.verifier.verify = lambda *args: seen.append(verify(*args)) or seen[-1]
    engine.proposer.observe = lambda tree, nodes, emitted, topk: (
        passes.append((seen[-1][[0, *(node + 1 for node in nodes)][:len(emitted)]], emitted)),
        observe(tree, nodes, emitted, topk))
    return passes


def test_answer_in_bfloat16_emits_the_argmax_of_its_own_forward(verifier):
    assert verifier.dtype == torch.bfloat16
    engine = CaptionEngine.for_verifier(
        verifier, EngineConfig(window_frames=FRAMES, max_new_tokens=TOKENS, near_tie=NEAR))
    generator = np.random.default_rng(3)
    clips = [[generator.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(FRAMES)] for _ in range(5)]
    plain = [verifier.generate(clip, QUESTION, TOKENS) for clip in clips]
    passes, gaps = watch(engine), []
    try:
        for window in range(15):                                # memory, rehearsals and drafts make trees of every size
            clip, said = clips[window % 5], plain[window % 5]
            engine.offer(Draft(window, window, 0, prompt_key(QUESTION), verifier.tokenizer_key, '',
                               tuple(token for token in said if token not in verifier.banned_ids)))
            engine.open(window, window, QUESTION)
            for slot, frame in enumerate(clip):
                engine.add_frame(window, slot, 10 * window + slot, frame)
                engine.rehearse(window)
            begin = len(passes)
            *_, final = engine.answer(window)
            engine.close(window)
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
        del verifier.verify
    assert any(len(tokens) > 1 for _, tokens in passes), 'no tree was ever accepted: nothing was shown'
    counters = engine.counters
    assert counters.near_ties == sum(gap < NEAR for gap in gaps)
    assert counters.smallest_gap == pytest.approx(min(gaps))


def test_statistics_count_near_ties_for_a_threshold_of_their_own(verifier):
    with pytest.raises(CrossSpecError, match='near_tie must be >= 0, got -1'):
        EngineConfig(near_tie=-1)
    clip = [np.full((30, 40, 3), shade, np.uint8) for shade in (10, 90, 170)]
    for near_tie, all_of_them in ((0.0, False), (1e9, True)):
        engine = CaptionEngine.for_verifier(
            verifier, EngineConfig(window_frames=FRAMES, max_new_tokens=TOKENS, near_tie=near_tie))
        engine.open(0, 0, QUESTION)
        for slot, frame in enumerate(clip):
            engine.add_frame(0, slot, slot, frame)
        list(engine.answer(0))
        assert engine.statistics()['near_ties'] == (engine.counters.tokens if all_of_them else 0)
