"""How the decode engine decodes, and what it counts."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossspec_ros.errors import CrossSpecError


@dataclass(frozen=True)
class EngineConfig:
    """How the engine decodes. Defaults are lossless.

    ``acceptance`` names a rule of `speculation.rules`: 'greedy', 'gumbel' (seeded sampling; lossless; temperature > 0),
    or a lossy one. ``max_nodes`` bounds the tree of a pass, ``first_nodes`` that of the pass fused with the prefill.
    ``anticipatory``: prefill frames as they arrive; ``fused``: verify the first tree in the forward of the last prefill
    chunk; ``frame_cache``: share a frame's features between windows; ``speculate``: use drafts at all;
    ``rehearse_missing``: rehearse once at most so many frames are still to come. ``max_windows`` may be open at a time:
    opening one more closes the oldest. ``threads``: torch threads of the process (None: as it is). ``near_tie``: a token
    whose logit is less than this above the runner-up's is counted as one that another order of sums might have decided
    otherwise; in float32 such tokens are rare, in bfloat16 they are where captions differ from those of `generate`.
    """

    window_frames: int = 8
    max_new_tokens: int = 96
    acceptance: str = 'greedy'
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_nodes: int = 64
    first_nodes: int = 256
    stop_strings: tuple[str, ...] = ()
    anticipatory: bool = True
    fused: bool = True
    frame_cache: bool = True
    speculate: bool = True
    rehearse_missing: int = 2
    max_windows: int = 10
    threads: int | None = None
    near_tie: float = 0.06

    def __post_init__(self) -> None:
        for name, low, high in (('window_frames', 1, 64), ('max_new_tokens', 1, 4096), ('max_nodes', 0, 1024),
                                ('first_nodes', 0, 1024), ('rehearse_missing', 0, 64), ('max_windows', 1, 256)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise CrossSpecError(f'{name} must be {low} to {high}, got {value}')
        if self.threads is not None and self.threads < 1:
            raise CrossSpecError(f'threads must be >= 1 or None, got {self.threads}')
        if not self.near_tie >= 0:
            raise CrossSpecError(f'near_tie must be >= 0, got {self.near_tie}')


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

    def decided(self, gaps: Sequence[float], near_tie: float) -> float:
        """Tokens were emitted whose logits stood so far above the runners-up; returns the smallest gap."""
        least = min(gaps)
        self.near_ties += sum(gap < near_tie for gap in gaps)
        self.smallest_gap = least if self.smallest_gap is None else min(self.smallest_gap, least)
        return least

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
