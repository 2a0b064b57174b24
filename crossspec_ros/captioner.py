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
from crossspec_ros.models.verifier import load_verifier
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.types import Caption, Draft, Verdict, prompt_key

DEFAULT_PROMPT = 'What is happening?'


class Captioner:
    """Captions of clips, or of a stream of frames, from a transformers checkpoint."""

    def __init__(self, model: str | Path = 'builtin', *, device: str = 'cpu', dtype: str = 'float32',
                 config: EngineConfig | None = None, cache: str = 'dynamic') -> None:
        """``model``: checkpoint folder, hub id or 'builtin'. Raises `CrossSpecError` where it cannot be loaded."""
        self.verifier = load_verifier(model, device, dtype, cache)
        self.engine = CaptionEngine.for_verifier(self.verifier, config)
        self._window = 0
        self._prompt = DEFAULT_PROMPT
        self._pushed = 0

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
        if len(frames) != wanted:
            raise CrossSpecError(f'frames must be {wanted} (window_frames), got {len(frames)}')
        window = self._open(prompt, draft)
        try:
            for slot, frame in enumerate(frames):
                self.engine.add_frame(window, slot, window * wanted + slot, frame)
            yield from self.engine.answer(window)
        finally:
            self.engine.close(window)

    def push(self, frame: np.ndarray, prompt: str = DEFAULT_PROMPT, draft: str = '') -> Caption | None:
        """The next frame of a stream, encoded and prefilled at once; the caption comes with a window's last frame.

        Windows follow each other without overlap; ``prompt`` counts at a window's first frame, ``draft`` at its last.
        """
        window = self._window if self._pushed else self._open(prompt, '')
        slot = self._pushed
        try:
            self.engine.add_frame(window, slot, window * self.engine.config.window_frames + slot, frame)
        except CrossSpecError:
            if not self._pushed:
                self.engine.close(window)
            raise
        self._pushed += 1
        if slot + 1 < self.engine.config.window_frames:
            return None
        self._pushed = 0
        self._offer(window, draft)
        try:
            *_, final = self.engine.answer(window)
            return final
        finally:
            self.engine.close(window)

    def _open(self, prompt: str, draft: str) -> int:
        self._window += 1
        self._prompt = prompt
        self.engine.open(self._window, self._window, prompt)
        self._offer(self._window, draft)
        return self._window

    def _offer(self, window: int, text: str) -> None:
        if text:
            tokens = self.verifier.encode_text(text)
            self.engine.offer(Draft(window, window, 0, prompt_key(self._prompt), self.verifier.tokenizer_key, text,
                                    tokens, source='text'))
