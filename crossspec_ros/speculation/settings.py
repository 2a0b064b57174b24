"""How the decode engine decodes, and what it counts. A setting stands here once; its parameter is ``decode.<name>``."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from crossspec_ros.fields import checked, described
from crossspec_ros.speculation.sources import SOURCE_NAMES, check_names


@dataclass(frozen=True)
class EngineConfig:
    """How the engine decodes. Defaults are lossless."""

    window_frames: int = described(8, 'frame slots of a window', low=1, high=256)
    max_new_tokens: int = described(96, 'tokens of a caption at most', low=1, high=4096)
    acceptance: str = described('greedy', 'greedy or gumbel (seeded sampling): lossless; rejection: keeps the '
                                'distribution; typical, fuzzy, deferral: lossy, when asked for')
    exactness: str = described('auto', 'auto: exact in float32, not certain in 16 bits; certified: forwards of fixed '
                               'shapes, exact in any type, slower', choices=('auto', 'certified'))
    temperature: float = described(1.0, 'sampling temperature', low=0, high=100)
    top_k: int = described(0, 'sample from so many likeliest tokens; 0: from all', low=0, high=1_000_000)
    top_p: float = described(1.0, 'sample from the likeliest tokens of this share; 1: from all', low=0, high=1)
    seed: int = described(0, 'seed of sampling', low=0, high=2**31 - 1)
    speculate: bool = described(True, 'use drafts; false decodes token by token, for comparison')
    sources: tuple[str, ...] = described(SOURCE_NAMES, 'draft sources in use; drafts: those of drafters; NAME or '
                                    'NAME:ARGUMENT: of other packages')
    max_nodes: int = described(64, 'nodes of a token tree at most', low=0, high=1024)
    first_nodes: int = described(256, 'nodes of the tree that is verified with the last prefill at most', low=0,
                                 high=1024)
    memory_captions: int = described(256, 'verified captions that the caption memory holds a prompt', low=1,
                                     high=100_000)
    stop_strings: tuple[str, ...] = described((), 'a caption ends where it holds one of these; none by default')
    anticipatory: bool = described(True, 'prefill frames as they arrive')
    fused: bool = described(True, 'verify the first tree in the forward of the last prefill')
    frame_cache: bool = described(True, 'share a frame\'s features between windows')
    rehearse_missing: int = described(2, 'rehearse once at most so many frames are still to come; 0: never', low=0,
                                      high=64)
    max_windows: int = described(10, 'windows open at a time; one more closes the oldest', low=1, high=256)
    block: int = described(32, 'answer tokens of a forward in certified decoding', low=2, high=256)
    near_tie: float = described(0.06, 'a token whose logit is less than this above the runner-up\'s is counted as one '
                                'that another order of sums might have decided otherwise', low=0, high=100)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = checked(item.name, getattr(self, item.name), item.default, item.metadata)
            object.__setattr__(self, item.name, value)
        check_names(self.sources)
        object.__setattr__(self, 'stop_strings', tuple(filter(None, self.stop_strings)))     # [''] is ROS for none


@dataclass
class EngineCounters:
    """What the engine did since the start or the last reset."""

    windows: int = 0
    windows_answered: int = 0
    windows_cut: int = 0
    windows_failed: int = 0
    windows_replaced: int = 0
    frames_encoded: int = 0
    frames_shared: int = 0
    target_passes: int = 0
    tokens: int = 0
    rehearsals: int = 0
    rehearsals_complete: int = 0
    rehearsal_ms: float = 0.0
    forward_ms: float = 0.0          # in forwards of the target, rehearsals left out
    pass_ms: float = 0.0             # of the last passes, decayed: what a pass is expected to take
    plain_ms: float | None = None    # a pass with one token, from the measured cost curve
    near_ties: int = 0               # emitted tokens less than ``near_tie`` above the runner-up
    smallest_gap: float | None = None

    def decided(self, gaps: Sequence[float], near_tie: float) -> int:
        """Tokens were emitted whose logits stood so far above the runners-up; returns the number of near ties."""
        least, close = min(gaps), sum(gap < near_tie for gap in gaps)
        self.near_ties += close
        self.smallest_gap = least if self.smallest_gap is None else min(self.smallest_gap, least)
        return close

    def passed(self, tokens: int, verify_ms: float) -> None:
        """A pass that emitted ``tokens`` took ``verify_ms``."""
        self.target_passes += 1
        self.tokens += tokens
        self.forward_ms += verify_ms
        self.pass_ms = verify_ms if self.pass_ms == 0.0 else 0.8 * self.pass_ms + 0.2 * verify_ms

    def rehearsed(self, complete: bool, elapsed_ms: float) -> None:
        """A rehearsal ended."""
        self.rehearsals += 1
        self.rehearsals_complete += complete
        self.rehearsal_ms += elapsed_ms
