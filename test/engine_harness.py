"""An engine over a tiny target, and a window through it."""
from __future__ import annotations

import numpy as np

from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.session import Session
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources import SOURCE_NAMES
from crossspec_ros.speculation.types import Caption, Draft, Stage, prompt_key

KINDS = ['video_llava', 'llava_onevision']
QUESTION = 'What is happening?'
FRAMES, TOKENS = 3, 20


def clip_of(generator: np.random.Generator, count: int = FRAMES) -> list[np.ndarray]:
    """Frames of noise."""
    return [generator.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(count)]


def strip(target, tokens):
    return tokens[:-1] if tokens and tokens[-1] in target.eos_ids else tokens


def make_engine(target, sources=SOURCE_NAMES, **settings) -> CaptionEngine:
    config = dict(window_frames=FRAMES, max_new_tokens=TOKENS, sources=tuple(sources)) | settings
    return CaptionEngine(target, EngineConfig(**config))


def without_clock(engine: CaptionEngine) -> CaptionEngine:
    """Trees as large as allowed, so that the number of passes does not hang on measured times."""
    engine.proposer.cost.observe = lambda tokens, cost_ms: None
    return engine


def feed(engine, window, clip, question=QUESTION, order=None, rehearse=False) -> Session:
    session = engine.open(window, window * 10**9, question)
    for slot in order or range(len(clip)):
        session.add_frame(slot, window * 10**9 + slot, clip[slot])
        if rehearse:
            session.rehearse()
    return session


def caption_of(engine, window, clip, **how) -> Caption:
    session = feed(engine, window, clip, **how)
    *_, final = session.answer()
    session.close()
    assert final.stage is Stage.FINAL
    return final


def draft_of(target, window, tokens=(), **changes) -> Draft:
    fields = dict(window_id=window, window_end_ns=window * 10**9, revision=0, prompt_key=prompt_key(QUESTION),
                  tokenizer_key=target.tokenizer_key, text='', token_ids=tuple(tokens))
    return Draft(**(fields | changes))
