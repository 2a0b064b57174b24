"""How many tokens a target pass emits with drafts of a kind, counted on the target's own greedy tokens.

Verification is lossless, so what the target says is known; a pass accepts the longest path of the draft tree along it
and emits one token more. No forward of the target is needed to count. Letters: none; everything is ids.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crossspec_ros.speculation.age import pass_tokens
from crossspec_ros.speculation.inbox import Admission
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.replay import KnownAnswer
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.types import Draft, prefix_hash

Redraft = Callable[[Sequence[int]], Draft]


@dataclass
class TauCount:
    """Passes and tokens so far, and by position in the caption how often the draft had the right token.

    ``trees`` are the numbers of nodes of each pass.
    """

    passes: int = 0
    tokens: int = 0
    offered: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    trees: list[int] = field(default_factory=list)

    @property
    def tau(self) -> float | None:
        """Tokens emitted per target pass; None before the first pass."""
        return self.tokens / self.passes if self.passes else None

    def add_position(self, position: int, right: bool) -> None:
        missing = position + 1 - len(self.offered)
        self.offered += [0] * missing
        self.right += [0] * missing
        self.offered[position] += 1
        self.right[position] += right

    def add(self, other: TauCount) -> None:
        """Count another's passes too."""
        self.passes += other.passes
        self.tokens += other.tokens
        self.trees += other.trees
        missing = len(other.offered) - len(self.offered)
        self.offered += [0] * missing
        self.right += [0] * missing
        for position, (offered, right) in enumerate(zip(other.offered, other.right, strict=True)):
            self.offered[position] += offered
            self.right[position] += right


def count_window(proposer: Proposer, window_id: int, prompt_key: str, truth: Sequence[int] | KnownAnswer,
                 count: TauCount, *, max_nodes: int = 48, redraft: Redraft | None = None, fused_tokens: int = 0) -> int:
    """Decode one window; ``redraft(committed)`` gives the event drafter's draft before every pass. Returns the
    passes. ``truth``: what the target says, with its states where heads draft. ``fused_tokens``: prompt tokens in the
    first pass's forward."""
    known = truth if isinstance(truth, KnownAnswer) else KnownAnswer(tuple(truth))
    truth = known.token_ids
    proposer.begin(Opening(window_id, prompt_key))
    committed: list[int] = []
    passes = 0
    while len(committed) < len(truth):
        if redraft is not None:
            proposer.inbox.offer(redraft(committed))
        tree = proposer.propose(committed, max_nodes, fused_tokens=0 if passes else fused_tokens)
        count.trees.append(len(tree))
        new_tokens = pass_tokens(len(tree), 0 if passes else fused_tokens)
        outcome = known.outcome(tree, len(committed), new_tokens=new_tokens,
                                verify_ms=proposer.cost(new_tokens) if proposer.cost.known else 0.0)
        for place in range(len(outcome.emitted)):
            count.add_position(len(committed) + place, place < len(outcome.nodes))
        committed += outcome.emitted
        proposer.observe(outcome, committed)
        passes += 1
    proposer.finish(truth)
    count.passes += passes
    count.tokens += len(truth)
    return passes


def make_proposer(sources: tuple[str, ...], vocab_size: int, tokenizer_key: str) -> Proposer:
    """A proposer of these sources only."""
    return Proposer(ProposerConfig(sources), Admission(vocab_size, tokenizer_key))


def as_draft(window_id: int, revision: int, prompt_key: str, tokenizer_key: str, base: Sequence[int],
             token_ids: Sequence[int], parents: Sequence[int] = (), weights: Sequence[int] = ()) -> Draft:
    """A message-shaped draft of ids after the committed ``base``."""
    return Draft(window_id, window_id * 1_000_000_000, revision, prompt_key, tokenizer_key, '', tuple(token_ids),
                 tuple(parents), tuple(weights), len(base), prefix_hash(base))
