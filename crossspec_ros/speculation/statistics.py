"""Counts of drafted and accepted tokens, named as in vLLM."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from crossspec_ros.speculation.tree import TokenTree

_MAX_POSITIONS = 64


@dataclass
class SourceCounts:
    """Of one source: nodes it proposed (alone), those accepted (alone), and passes in which it proposed any."""

    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    exclusive_draft_tokens: int = 0
    exclusive_accepted_tokens: int = 0

    def report(self) -> dict[str, Any]:
        """As plain values; rates are None where nothing was drafted."""
        return {**self.__dict__, 'draft_acceptance_rate': _rate(self.num_accepted_tokens, self.num_draft_tokens)}


def _rate(part: float, whole: float) -> float | None:
    return part / whole if whole else None


@dataclass
class SpeculationStatistics:
    """What the target did with the trees it was given."""

    counts: Counter = field(init=False)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Count from zero."""
        self.counts = Counter()
        self.by_source: dict[str, SourceCounts] = {}
        self.accepted_per_pos = [0] * _MAX_POSITIONS
        self.saved_ms = 0.0

    def count_pass(self, tree: TokenTree, accepted: Sequence[int], emitted: Sequence[int], *, first: bool) -> None:
        """A target pass checked a tree."""
        counts = self.counts
        counts['num_passes'] += 1
        counts['num_emitted_tokens'] += len(emitted)
        counts['num_drafts'] += len(tree) > 0
        counts['num_draft_tokens'] += len(tree)
        counts['num_accepted_tokens'] += len(accepted)
        if first:
            counts['num_first_passes'] += 1
            counts['hidden_tokens_accepted'] += len(accepted)
        for depth in range(min(len(accepted), _MAX_POSITIONS)):
            self.accepted_per_pos[depth] += 1
        for bits, drafted in Counter(tree.sources).items():
            self._count_source(tree.source_names, bits, drafted, 'draft')
        for node in accepted:
            self._count_source(tree.source_names, tree.sources[node], 1, 'accepted')

    def _count_source(self, names: Sequence[str], bits: int, count: int, what: str) -> None:
        for place, name in enumerate(names):
            if bits >> place & 1:
                source = self.by_source.setdefault(name, SourceCounts())
                key = f'num_{what}_tokens'
                setattr(source, key, getattr(source, key) + count)
                if bits == 1 << place:
                    key = f'exclusive_{what}_tokens'
                    setattr(source, key, getattr(source, key) + count)

    def count_caption(self) -> None:
        """A caption was completed."""
        self.counts['num_captions'] += 1

    def report(self, source_names: Sequence[str] = ()) -> dict[str, Any]:
        """All counts and rates as plain values; a rate over nothing is None. ``source_names`` stand in it in any case.

        ``mean_acceptance_length`` counts the recovered or bonus token, as vLLM does: it is tau.
        ``hidden_tokens_accepted`` were accepted in the pass fused with the prefill, so they cost no pass of their own.
        ``saved_ms`` is estimated from the measured cost curve, 0 while there is none.
        """
        counts = self.counts
        drafts = counts['num_drafts']
        positions = [hits / drafts for hits in self.accepted_per_pos if hits] if drafts else []
        names = (
            'num_passes', 'num_captions', 'num_emitted_tokens', 'num_drafts', 'num_draft_tokens',
            'num_accepted_tokens', 'hidden_tokens_accepted')
        return {
            **{name: counts[name] for name in names},
            'mean_acceptance_length': _rate(counts['num_emitted_tokens'], counts['num_passes']),
            'draft_acceptance_rate': _rate(counts['num_accepted_tokens'], counts['num_draft_tokens']),
            'acceptance_rate_per_pos': positions,
            'first_pass_accepted': _rate(counts['hidden_tokens_accepted'], counts['num_first_passes']),
            'saved_ms': self.saved_ms,
            'sources': {name: self.by_source.get(name, SourceCounts()).report()
                        for name in dict.fromkeys((*source_names, *self.by_source))},
        }
