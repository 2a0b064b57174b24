"""How old a caption is when it is complete: the one model by which ages are foretold and methods are compared.

The age counts from the arrival of a window's newest frame. What is assumed:

* forwards follow each other with nothing between them; what a forward of n new tokens takes is c(n), measured after a
  prompt of the real length, so it holds the verifier's own overhead;
* what is done before the newest frame is free as long as it fits into the time between frames; what does not fit is
  waited for;
* drafts that are there cost no time of the verifier; those that it has to make or to ask for take ``step_ms`` a pass;
* nobody waits for a draft: until it is there, tokens are said one by one;
* passes say ``tau`` tokens each on the mean, the recovered or bonus token among them, so that ages are means over many
  captions, and the number of passes is no whole number. A last pass that says fewer is in the mean;
* the answer before this one is complete when the newest frame comes.

Speculative decoding cannot make a caption younger than what stays whatever is drafted: Amdahl's law.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossspec_ros.errors import CrossSpecError

Cost = Callable[[float], float]
"""c(n): milliseconds of a forward of n new tokens, n >= 1; a `budget.CostCurve` is one."""


def pass_tokens(nodes: int, fused_tokens: int = 0) -> int:
    """New tokens of a pass's forward: the tree's nodes after ``fused_tokens`` of the prompt, or (0) after the token
    said last."""
    return nodes + (fused_tokens or 1)


def passes_ms(cost: Cost, trees: Sequence[int], fused_tokens: int = 0) -> float:
    """Milliseconds of the passes of an answer, by the nodes of each; the first one's forward takes ``fused_tokens`` of
    the prompt too."""
    return sum(cost(pass_tokens(nodes, 0 if place else fused_tokens)) for place, nodes in enumerate(trees))


@dataclass(frozen=True)
class Timing:
    """What a verifier's work on a window takes, ms.

    ``whole_ms``: from the newest frame to the first token where all frames are encoded and prefilled then. Where they
    are as they come: ``newest_ms`` encodes what the newest frame completes, and the forward that follows takes the last
    ``last_tokens`` of the prompt in ``last_ms`` (None: c of them). ``frame_ms`` are encoding and prefill of one of the
    ``frames`` - 1 before it, which come every ``interval_ms``. ``ahead`` False: this verifier cannot do that.
    Raises CrossSpecError for what is no time.
    """

    cost: Cost
    whole_ms: float
    newest_ms: float
    last_tokens: int
    last_ms: float | None = None
    frame_ms: float = 0.0
    frames: int = 8
    interval_ms: float = 125.0
    ahead: bool = True

    def __post_init__(self) -> None:
        for name in ('newest_ms', 'frame_ms'):
            if not 0 <= getattr(self, name) < math.inf:
                raise CrossSpecError(f'{name} must be a finite time >= 0, got {getattr(self, name)}')
        if not 0 < self.whole_ms < math.inf or not (self.last_ms is None or 0 < self.last_ms < math.inf):
            raise CrossSpecError('whole_ms and last_ms must be finite times > 0, got '
                                 f'{self.whole_ms} and {self.last_ms}')
        if self.last_tokens < 1 or self.frames < 1 or not self.interval_ms > 0:
            raise CrossSpecError(f'last_tokens and frames must be >= 1 and interval_ms > 0, got {self.last_tokens}, '
                                 f'{self.frames} and {self.interval_ms}')

    @property
    def backlog_ms(self) -> float:
        """How long the newest frame waits for those before it."""
        return (self.frames - 1) * max(0.0, self.frame_ms - self.interval_ms)

    @property
    def last_forward_ms(self) -> float:
        """The forward of the last of the prompt, without drafts, where frames are prefilled as they come."""
        return self.cost(self.last_tokens) if self.last_ms is None else self.last_ms

    def prefill_ms(self, ahead: bool) -> float:
        """From the newest frame to the first token, without drafts: what no draft can shorten."""
        if not (ahead and self.ahead):
            return self.whole_ms
        return self.backlog_ms + self.newest_ms + self.last_forward_ms

    def first_ms(self, ahead: bool, nodes: float) -> float:
        """As `prefill_ms`, with so many draft tokens in the same forward."""
        more_ms = self.cost(self.last_tokens + nodes) - self.cost(self.last_tokens) if nodes else 0.0
        return self.prefill_ms(ahead) + more_ms


@dataclass(frozen=True)
class Method:
    """A way of captioning.

    ``ahead``: frames before the newest are prefilled as they come. ``tau``: tokens a verifying pass says, 1 without
    drafts, of trees of ``nodes``. ``fused``: the first drafts are verified in the forward that takes the last of the
    prompt, else that says one token. ``step_ms``: what drafting keeps the verifier waiting, a pass. ``there_ms``: the
    first draft is there so long after the newest frame (0 or less: before it).
    Raises CrossSpecError for what cannot be.
    """

    name: str
    ahead: bool = True
    fused: bool = False
    tau: float = 1.0
    nodes: float = 0.0
    step_ms: float = 0.0
    there_ms: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.tau < math.inf:
            raise CrossSpecError(f'tau must be >= 1, a pass says one token at least, got {self.tau}')
        if not 0 <= self.nodes < math.inf or not 0 <= self.step_ms < math.inf or math.isnan(self.there_ms):
            raise CrossSpecError(f'nodes and step_ms must be finite and >= 0, there_ms a time, got {self.nodes}, '
                                 f'{self.step_ms} and {self.there_ms}')


def expected_age_ms(timing: Timing, method: Method, tokens: float) -> float:
    """Age of a caption of so many tokens, the end token among them; see the module for what is assumed."""
    start_ms, said, fused = _begun(timing, method, tokens)
    left = (max(tokens, method.tau) / method.tau - 1) if fused else (tokens - said) / method.tau
    return start_ms + left * _pass_ms(timing, method)


def bound(timing: Timing, method: Method, tokens: float, base: Method = Method('generate', ahead=False)) -> float:
    """How many times sooner than ``base`` this method can be at most, whatever is drafted: 1 / (share of the time of
    ``base`` that stays)."""
    return expected_age_ms(timing, base, tokens) / timing.prefill_ms(method.ahead)


def break_even_tau(timing: Timing, method: Method, tokens: float, age_ms: float) -> float | None:
    """The least tau with which a method with drafts (its own tau is not read) reaches an age; None: it never does.

    At ``age_ms`` of the same method without drafts it says from which tau on drafts pay.
    """
    start_ms, said, fused = _begun(timing, method, tokens)
    room_ms, pass_ms = age_ms - start_ms, _pass_ms(timing, method)
    left, room_ms = (tokens, room_ms + pass_ms) if fused else (tokens - said, room_ms)
    if left <= 0:
        return 1.0 if room_ms >= 0 else None
    if room_ms <= 0 or (fused and room_ms < pass_ms):
        return None
    return max(1.0, left * pass_ms / room_ms)


def _pass_ms(timing: Timing, method: Method) -> float:
    return timing.cost(pass_tokens(method.nodes)) + method.step_ms


def _begun(timing: Timing, method: Method, tokens: float) -> tuple[float, float, bool]:
    """When the passes that verify drafts begin, how many tokens were said one by one by then, and whether the first of
    those passes is done too (it was fused)."""
    if tokens < 1:
        raise CrossSpecError(f'tokens must be >= 1, an answer has an end, got {tokens}')
    start_ms = timing.prefill_ms(method.ahead)
    if method.fused and method.there_ms <= max(0.0, start_ms - timing.last_forward_ms):
        return timing.first_ms(method.ahead, method.nodes) + method.step_ms, 0.0, True
    said = 1.0
    if method.there_ms > start_ms:
        plain = min(tokens - said, math.ceil((method.there_ms - start_ms) / timing.cost(1)))
        start_ms, said = start_ms + plain * timing.cost(1), said + plain
    return start_ms, said, False
