"""Heads on targets of other families: states of any decoder's layers, captions as generate has them."""
from __future__ import annotations

from pathlib import Path

import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads import KINDS, new_head
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources.heads import HeadSource
from crossspec_ros.speculation.worth import Worth
from families import FAMILIES, clip, write_family

FRAMES, TOKENS = 4, 14
SHORT = ('qwen2_5_vl', 'gemma3')


def check(folder: Path) -> None:
    target = load_target(folder)
    heads = [new_head(kind, target, [token for token in range(6, len(target.tokenizer))
                                     if token not in target.banned_ids][:200], attention_heads=2) for kind in KINDS]
    engine = CaptionEngine(target, EngineConfig(window_frames=FRAMES, max_new_tokens=TOKENS, sources=('memory',)),
                           more=[HeadSource(head, target.vocab_size, worth=Worth(trial=10**9)) for head in heads])
    for window in range(3):
        frames = clip(FRAMES, seed=window % 2)
        expected = target.generate(frames, 'what is ahead?', TOKENS)
        session = engine.open(window, window, 'what is ahead?')
        for slot, frame in enumerate(frames):
            session.add_frame(slot, slot, frame)
        *_, final = session.answer()
        session.close()
        assert final.token_ids == tuple(token for token in expected if token not in target.eos_ids)
    counts = engine.proposer.counts()
    assert all(counts[f'{kind}_drafts'] > 0 and not counts[f'{kind}_failed'] for kind in KINDS)


@pytest.mark.parametrize('name', [name for name in SHORT if name in FAMILIES])
def test_answers_with_heads_equal_generate(name: str, tmp_path: Path) -> None:
    check(write_family(tmp_path, name))


@pytest.mark.long
@pytest.mark.parametrize('name', [name for name in FAMILIES if name not in SHORT])
def test_answers_with_heads_equal_generate_in_every_family(name: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path, name)
    try:
        load_target(folder)
    except CrossSpecError as error:
        pytest.skip(f'not served: {error}')
    check(folder)
