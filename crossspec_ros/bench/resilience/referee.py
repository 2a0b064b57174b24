"""Every caption decoded again by the model alone, from the pictures that were sent: how many words were wrong."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from crossspec_ros.config import DEFAULT_PROMPT, VerifierConfig
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.types import Caption


@dataclass
class Referee:
    """Holds a model of its own. ``checked`` captions; ``untraced`` are about pictures whose stamps were replaced.

    ``wrong`` names those whose tokens the model alone does not say.
    """

    checked: int = 0
    untraced: int = 0
    wrong: list[str] = field(default_factory=list)
    _said: dict[tuple[tuple[int, ...], str], tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def engine(self) -> CaptionEngine:
        from crossspec_ros.pipeline.building import build_engine
        return build_engine(VerifierConfig())

    def check(self, captions: Iterable[Caption], pictures: Mapping[int, np.ndarray],
              prompts: Iterable[str] = (DEFAULT_PROMPT,)) -> dict[str, int]:
        """Decode final captions again; the counts of these. Right is what is said to one of ``prompts``."""
        before, prompts = (self.checked, self.untraced, len(self.wrong)), list(prompts)
        for caption in captions:
            frames = [pictures.get(stamp_ns) for stamp_ns in caption.frame_stamps_ns]
            if not frames or any(frame is None for frame in frames):
                self.untraced += 1
                continue
            self.checked += 1
            said = next((prompt for prompt in prompts if self._alone(frames, prompt) == tuple(caption.token_ids)), None)
            if said is None:
                self.wrong.append(f'window {caption.window_id}: {caption.text!r}')
            else:
                prompts.sort(key=lambda prompt: prompt != said)     # the next one is likely to be asked it, too
        return {'checked': self.checked - before[0], 'untraced': self.untraced - before[1],
                'wrong': len(self.wrong) - before[2]}

    def _alone(self, frames: list[np.ndarray], prompt: str) -> tuple[int, ...]:
        key = tuple(id(frame) for frame in frames), prompt      # the pictures live as long as the bench
        if key not in self._said:
            self._said[key] = tuple(self.engine.audit(frames, prompt))
        return self._said[key]
