"""The decode loop: a window's frames prefilled as they come, its caption decoded by speculation, losslessly.

Used from one inference thread; only `CaptionEngine.offer` may be called from others, at any time.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crossspec_ros.speculation.types import Caption, Draft, Verdict
from crossspec_ros.speculation.verifier import Verifier


@dataclass(frozen=True)
class EngineConfig:
    """How the engine decodes. Defaults are lossless.

    ``acceptance``: 'greedy', 'gumbel' (seeded sampling; needs temperature > 0), or the name of another rule of
    `speculation.acceptance`. ``max_nodes`` bounds the tree of a pass, ``first_nodes`` that of the pass fused with the
    prefill. ``anticipatory``: prefill frames as they arrive; ``fused``: verify the first tree in the forward of the last
    prefill chunk; ``frame_cache``: share a frame's features between windows. ``max_windows`` open at a time: opening one
    more closes the oldest. ``threads``: torch threads of the process (None: leave as it is).
    """

    window_frames: int = 8
    max_new_tokens: int = 96
    acceptance: str = 'greedy'
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_nodes: int = 64
    first_nodes: int = 256
    stop_strings: tuple[str, ...] = ()
    anticipatory: bool = True
    fused: bool = True
    frame_cache: bool = True
    max_windows: int = 10
    threads: int | None = None


class CaptionEngine:
    """Captions of windows from a target model (`Verifier`) and whatever drafts a `Proposer` has.

    Typical use, in one thread::

        engine.open(window_id, window_end_ns, prompt)
        for slot, frame in enumerate(frames):             # as they arrive; encoded and prefilled at once
            engine.add_frame(window_id, slot, frame.stamp_ns, frame.rgb)
            engine.rehearse(window_id, should_stop=another_frame_is_here)
        for output in engine.answer(window_id):           # Verdict and Caption after each target pass
            publish(output)
        engine.close(window_id)
    """

    def __init__(self, verifier: Verifier, proposer, config: EngineConfig | None = None) -> None:
        raise NotImplementedError

    def open(self, window_id: int, window_end_ns: int, prompt: str) -> None:
        """Begin a window. ``prompt`` is a question, or a whole prompt that holds the model's video placeholder.

        Raises `CrossSpecError` for an empty prompt, one longer than the context, or a window id already open.
        """
        raise NotImplementedError

    def add_frame(self, window_id: int, slot: int, stamp_ns: int, rgb: np.ndarray) -> None:
        """Frame for ``slot`` (0 is the oldest), uint8 (H, W, 3) RGB; slots may come in any order, each once.

        Encoded once for all windows that are given the same stamp and pixels. The newest slot is encoded only: its
        prefill is part of the first verification. Raises `CrossSpecError` for a wrong shape, type, slot or window;
        the window stays as it was.
        """
        raise NotImplementedError

    def offer(self, draft: Draft) -> str | None:
        """Hand in a draft, from any thread, at any time. None: taken, else why it was refused (also counted)."""
        raise NotImplementedError

    def rehearse(self, window_id: int, should_stop: Callable[[], bool]) -> tuple[int, ...]:
        """Decode the caption of the frames so far on a fork of the cache; the tokens become a draft of this window.

        ``should_stop`` is asked between target passes. Returns the tokens (may be partial or empty).
        """
        raise NotImplementedError

    def answer(self, window_id: int, *, deadline_ns: int | None = None,
               should_stop: Callable[[], bool] | None = None) -> Iterator[Verdict | Caption]:
        """Decode the caption: after each target pass a `Verdict` and a `Caption` (PARTIAL), at the end one FINAL.

        ``deadline_ns`` is on the clock of `time.perf_counter_ns`: no pass begins that would likely end behind it.
        At the deadline, or when ``should_stop()`` is true, the iterator ends without a FINAL caption: the last
        PARTIAL is what was verified by then (its whole text is stable). Raises `CrossSpecError` when frames are missing,
        logits are not finite, or the window is unknown; the engine goes on with other windows.
        """
        raise NotImplementedError

    def audit(self, frames: Sequence[np.ndarray], prompt: str) -> tuple[int, ...]:
        """Tokens of the caption decoded again with no drafts, no shared features and no shared cache."""
        raise NotImplementedError

    def close(self, window_id: int) -> None:
        """Forget a window (unknown ids are ignored) and the features no open window can use."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget windows, features, caption memory and statistics that depend on time (time jumped back)."""
        raise NotImplementedError

    def warm_up(self, prompt: str, height: int = 240, width: int = 320) -> dict[int, float]:
        """Measure the target's cost curve at the real context length; ms by number of new tokens."""
        raise NotImplementedError

    def statistics(self) -> dict[str, object]:
        """Counts and times since the start or the last reset, acceptance by vLLM's names, per source."""
        raise NotImplementedError
