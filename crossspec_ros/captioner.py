"""The plain Python entry point: a checkpoint folder, frames and a prompt in, captions out, faster.

    captioner = Captioner('path/to/checkpoint')
    for clip in clips:                                      # eight RGB frames each, uint8 (H, W, 3), oldest first
        caption = captioner.caption(clip, 'What is happening?')
        print(caption.text)

Each caption is token for token what the checkpoint's own ``generate`` says (greedy, float32). It comes sooner the more
captions came before it, and sooner still when frames are pushed as they are taken instead of a clip at a time.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.prompts import check_text
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.session import Session
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Caption, Draft, Verdict, prompt_key

DEFAULT_PROMPT = 'What is happening?'


class Captioner:
    """Captions of clips, or of a stream of frames, from a transformers checkpoint."""

    def __init__(self, model: str | Path = 'builtin', *, device: str = 'cpu', dtype: str = 'auto',
                 config: EngineConfig | None = None, cache: str = 'auto', fps: float = 8.0,
                 trust_remote_code: bool = False, quantization: str = 'none') -> None:
        """``model``: checkpoint folder, hub id or 'builtin'; ``fps``: frames a second, which some models are told;
        ``trust_remote_code``: run Python code that the checkpoint brings; ``quantization``: how weights are kept, a
        kind of `models.quantization`.

        Raises `CrossSpecError` where it cannot be loaded.
        """
        config = config or EngineConfig()
        self.target = load_target(model, device, dtype, cache, fps=fps, max_new_tokens=config.max_new_tokens,
                                  trust_remote_code=trust_remote_code, quantization=quantization)
        self.engine = CaptionEngine(self.target, config)
        self._windows = 0
        self._pushed: tuple[Session, str, int] | None = None         # the window being filled, its prompt, its frames

    def caption(self, frames: Sequence[np.ndarray], prompt: str = DEFAULT_PROMPT, draft: str = '') -> Caption:
        """The caption of one clip. ``draft`` is a guess at the text, from anywhere; it can only make it faster.

        Raises `CrossSpecError` for a wrong number of frames, a bad frame or prompt, or logits that are not finite.
        """
        *_, final = self.stream(frames, prompt, draft)
        return final

    def stream(self, frames: Sequence[np.ndarray], prompt: str = DEFAULT_PROMPT,
               draft: str = '') -> Iterator[Verdict | Caption]:
        """As `caption`, but gives what is verified so far after each target pass; the last is the FINAL caption."""
        wanted = self.engine.config.window_frames
        if not isinstance(frames, (Sequence, np.ndarray)) or isinstance(frames, (str, bytes)):
            raise CrossSpecError(f'frames must be a list of frames, got {type(frames).__name__}; '
                                 'make one with list(frames), or give them one by one to push')
        if len(frames) != wanted:
            raise CrossSpecError(f'frames must be {wanted} (window_frames), got {len(frames)}')
        check_text('draft', draft)
        session = self._open(prompt)
        try:
            for slot, frame in enumerate(frames):
                session.add_frame(slot, session.window_id * wanted + slot, frame)
            self._offer(session, prompt, draft)
            yield from session.answer()
        finally:
            session.close()

    def push(self, frame: np.ndarray, prompt: str = DEFAULT_PROMPT, draft: str = '') -> Caption | None:
        """The next frame of a stream, encoded and prefilled at once; the caption comes with a window's last frame.

        Windows follow each other without overlap; ``prompt`` counts at a window's first frame, ``draft`` at its last.
        Clips may be captioned in between. Raises `CrossSpecError` as `caption` does; a frame that is refused is as if
        it had not been given.
        """
        check_text('draft', draft)
        if self._pushed is not None and self._pushed[0].closed:      # too many windows were open at a time
            self._pushed = None
        session, asked, slot = self._pushed or (self._open(prompt), prompt, 0)
        wanted = self.engine.config.window_frames
        try:
            session.add_frame(slot, session.window_id * wanted + slot, frame)
        except CrossSpecError:
            if self._pushed is None:
                session.close()
            raise
        self._pushed = session, asked, slot + 1
        if slot + 1 < wanted:
            return None
        self._pushed = None
        try:
            self._offer(session, asked, draft)
            *_, final = session.answer()
            return final
        finally:
            session.close()

    def _open(self, prompt: str) -> Session:
        self._windows += 1
        return self.engine.open(self._windows, self._windows, prompt)

    def _offer(self, session: Session, prompt: str, text: str) -> None:
        if text:
            session.focus()
            self.engine.offer(Draft(session.window_id, session.window_id, 0, prompt_key(prompt),
                                    self.target.tokenizer_key, text, self.target.encode_text(text), source='text'))
