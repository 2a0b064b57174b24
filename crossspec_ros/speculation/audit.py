"""Decode a window again the plain way: the prompt in one prefill, one token a forward, no draft, nothing shared."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from crossspec_ros.speculation.loop import Ending, Rule, run_pass
from crossspec_ros.speculation.session import WindowSession
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.speculation.verifier import Verifier


def decode_plainly(verifier: Verifier, frames: Sequence[np.ndarray], prompt: str, rule: Rule, ending: Ending,
                   window_id: int = 0) -> tuple[int, ...]:
    """Tokens of the caption (end token included) by plain decoding of ``frames``, uint8 (H, W, 3) each, oldest first.

    ``window_id`` matters to seeded sampling only. Raises `CrossSpecError` for bad frames, a bad prompt, or logits that
    are not finite.
    """
    features = [verifier.encode_frame(frame) for frame in frames]
    session = WindowSession.begin(verifier, window_id, 0, prompt, len(frames), ending.max_new_tokens, 0)
    try:
        prefix = [verifier.embed(session.segments.prefix_ids)] if session.segments.prefix_ids else []
        chunk = torch.cat([*prefix, *features, session.question(verifier)])
        while not run_pass(session, verifier, TokenTree(), chunk, rule, ending).complete:
            chunk = verifier.embed([session.pending])
        return tuple(session.committed)
    finally:
        verifier.release(session.cache)
