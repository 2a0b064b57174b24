"""An engine over a tiny verifier, and a window through it."""
from __future__ import annotations

from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.proposer import SOURCE_NAMES
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Caption, Draft, Stage, prompt_key

KINDS = ['video_llava', 'llava_onevision']
QUESTION = 'What is happening?'
FRAMES, TOKENS = 3, 20


def strip(verifier, tokens):
    return tokens[:-1] if tokens and tokens[-1] in verifier.eos_ids else tokens


def make_engine(verifier, sources=SOURCE_NAMES, **settings) -> CaptionEngine:
    config = EngineConfig(**(dict(window_frames=FRAMES, max_new_tokens=TOKENS) | settings))
    return CaptionEngine.for_verifier(verifier, config, sources)


def without_clock(engine: CaptionEngine) -> CaptionEngine:
    """Trees as large as allowed, so that the number of passes does not hang on measured times."""
    engine.proposer.cost.observe = lambda tokens, cost_ms: None
    return engine


def feed(engine, window, clip, question=QUESTION, order=None, rehearse=False):
    engine.open(window, window * 10**9, question)
    for slot in order or range(len(clip)):
        engine.add_frame(window, slot, window * 10**9 + slot, clip[slot])
        if rehearse:
            engine.rehearse(window)


def caption_of(engine, window, clip, **how) -> Caption:
    feed(engine, window, clip, **how)
    *_, final = engine.answer(window)
    engine.close(window)
    assert final.stage is Stage.FINAL
    return final


def draft_of(verifier, window, tokens, **changes) -> Draft:
    fields = dict(window_id=window, window_end_ns=window * 10**9, revision=0, prompt_key=prompt_key(QUESTION),
                  tokenizer_key=verifier.tokenizer_key, text='', token_ids=tuple(tokens))
    return Draft(**(fields | changes))
