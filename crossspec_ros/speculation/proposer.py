"""The proposer: all draft sources after one door, one token tree a pass."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.budget import CostCurve, Pace, SurvivalRecord, best_size
from crossspec_ros.speculation.growth import MIN_SURVIVAL, Growth, grow
from crossspec_ros.speculation.inbox import Admission, Inbox
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.sources import (DRAFTS, REGISTRY, SOURCE_NAMES, SourceSettings, check_names,
                                               make_sources)
from crossspec_ros.speculation.sources.base import DraftSource, Opening
from crossspec_ros.speculation.statistics import SpeculationStatistics
from crossspec_ros.speculation.switch import SourceSwitch
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.tracing.tracer import TRACER

_FIRST_STEP = 16                 # nodes grown before their worth is looked at for the first time


@dataclass(frozen=True)
class ProposerConfig:
    """Which sources propose, what they may hold, and what a node costs besides the target's time; ``sizes`` are those
    that the target's forwards are filled up to."""

    sources: tuple[str, ...] = SOURCE_NAMES
    holding: SourceSettings = field(default_factory=SourceSettings)
    prepared_nodes: int = 256
    node_ms: float = 0.004
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_names(self.sources)


class Proposer:
    """Draft sources, merged.

    One thread drives everything but ``inbox.offer``. Once ``cost`` has been told the times of the target's forwards
    (``proposer.cost.measured`` and ``observe``), trees are only as large as pays.
    """

    def __init__(self, config: ProposerConfig | None = None, admission: Admission | None = None,
                 more: Sequence[DraftSource] = ()) -> None:
        """``more``: further sources, such as heads; raises `CrossSpecError` where two have one name, and for
        what goes wrong in a source of another package."""
        self.config, admission = config or ProposerConfig(), admission or Admission()
        config = self.config
        self._own = make_sources(config.sources, config.holding, admission.surroundings()) + tuple(more)
        self._banned_ids = admission.banned_ids
        names = {source.name for source in self._own}
        if len(names) < len(self._own):
            raise CrossSpecError('sources must be named once each, got '
                                 f'{", ".join(source.name for source in self._own)}')
        self.inbox = Inbox(admission, reserved={DRAFTS, *REGISTRY, *names})
        self.needs: frozenset[str] = frozenset().union(*(source.needs for source in self._own))
        self._readers = tuple(source for source in self._own if 'hidden' in source.needs)
        self.layers = tuple(sorted({layer for source in self._own for layer in source.layers if layer >= 0}))
        self.cost = CostCurve(sizes=config.sizes)
        self._record, self._pace = SurvivalRecord(), Pace()
        self._switches: defaultdict[str, SourceSwitch] = defaultdict(SourceSwitch)
        self._statistics = SpeculationStatistics()
        self._forget()

    def _forget(self) -> None:
        self._live: tuple[DraftSource, ...] = ()                 # those that the last tree was grown from
        self._states: list[tuple[int, Any]] = []
        self._prepared: _Prepared | None = None
        self._heard = 0                                          # rehearsals
        self._uncounted: list[PassOutcome] = []

    @property
    def sources(self) -> tuple[DraftSource, ...]:
        """The engine's own, then one a drafter that was heard; a source keeps its place."""
        return self._own + self.inbox.sources if DRAFTS in self.config.sources else self._own

    def drafted(self, window_id: int) -> bool:
        """Whether a drafter spoke for this window and is listened to."""
        return DRAFTS in self.config.sources and self.inbox.drafted(window_id)

    def begin(self, opening: Opening) -> None:
        """Start a window's caption."""
        self.inbox.begin(opening.window_id, opening.draft_key or opening.prompt_key)
        self._count()
        self._prepared = None
        self._live, self._states = (), []                        # states of another window say nothing here
        for source in self.sources:
            source.begin(opening)

    def rehearsed(self, token_ids: Sequence[int]) -> None:
        """The target itself decoded these tokens for the frames so far."""
        self._heard += 1
        for source in self.sources:
            source.rehearsed(token_ids)

    def prepare(self, max_nodes: int, *, max_depth: int | None = None, fused_tokens: int = 0) -> bool:
        """Grow the caption's first tree ahead of time; `propose` with the same bounds then has it ready.

        Costs nothing where that is done already; a draft or rehearsal that comes later makes `propose` grow anew.
        Returns whether there was anything to do.
        """
        bounds, heard = (max_nodes, max_depth, fused_tokens), (self.inbox.taken, self._heard)
        if self._prepared is not None and self._prepared.serves(bounds, heard):
            return False
        with TRACER.span('prepare'):
            tree = self._grown((), *bounds)
        self._prepared = _Prepared(bounds, heard, tree, self._live, self._states)
        return True

    def propose(self, committed: Sequence[int], max_nodes: int, *, max_depth: int | None = None,
                fused_tokens: int = 0) -> TokenTree:
        """The tree for the next target pass, from whatever drafts are there now. Never waits.

        At most ``max_nodes`` nodes and ``max_depth`` deep; ``fused_tokens``: prompt tokens that the same forward takes
        anyway. Fewer nodes where the cost curve says that more do not pay.
        """
        prepared, self._prepared = self._prepared, None
        bounds, heard = (max_nodes, max_depth, fused_tokens), (self.inbox.taken, self._heard)
        self.inbox.commit(committed)
        if prepared is not None and not committed and prepared.serves(bounds, heard):
            self._live, self._states = prepared.live, prepared.states
            return prepared.tree
        return self._grown(tuple(committed), *bounds)

    def _grown(self, committed: tuple[int, ...], max_nodes: int, max_depth: int | None,
               fused_tokens: int) -> TokenTree:
        self._live = sources = self.sources
        self._states = self._start_all(committed)
        live = [(index, state) for index, state in self._states if self._switches[sources[index].name].on]
        known, pace = self.cost.known, self._pace.tokens_per_ms
        # Half the mean slope: what promises less than that costs cannot pay, so it is not even grown.
        floor = pace * (0.5 * self.cost.mean_slope() + self.config.node_ms) if known and pace else 0.0
        growth = Growth(sources, live, banned_ids=self._banned_ids, max_depth=max_depth,
                        min_survival=max(floor, MIN_SURVIVAL))
        if not known:
            growth.extend(max_nodes)
            return growth.tree(max_nodes)
        # Growing is most of what speculation itself costs, so it goes on only while the nodes grown last still pay.
        wanted = min(_FIRST_STEP, max_nodes)
        while True:
            growth.extend(wanted)
            survivals = self._record.expected(growth.masks, growth.probs)
            size = best_size(survivals, self.cost, pace, fused_tokens=fused_tokens, node_ms=self.config.node_ms)
            if len(growth) < wanted or wanted == max_nodes or size < 0.75 * wanted:
                return growth.tree(size)
            wanted = min(2 * wanted, max_nodes)

    def _start_all(self, committed: Sequence[int]) -> list[tuple[int, Any]]:
        states = ((index, source.start(committed)) for index, source in enumerate(self._live))
        return [(index, state) for index, state in states if state is not None]

    def observe(self, outcome: PassOutcome, committed: Sequence[int]) -> None:
        """Tell what the target said to the last tree, and what of the caption stands now."""
        self._uncounted.append(outcome)
        for index, state in self._states:
            source = self._live[index]
            offers, hits = _replay(source, state, outcome.emitted)
            self._switches[source.name].add(offers, hits)
        # Where another window came between, no tree of this one is left; its states are still its own.
        for source in self._live or self._readers:
            source.observe(outcome)
        self.inbox.commit(committed)

    def _count(self) -> None:
        """Count the passes of a caption: at its end, when nobody waits for the next pass."""
        for outcome in self._uncounted:
            self._statistics.count_pass(outcome.tree, outcome.nodes, outcome.emitted, first=outcome.first)
            if self.cost.known:
                self._account(len(outcome.tree), len(outcome.emitted), outcome.first)
            self._record.observe(outcome.tree.sources, outcome.tree.probs, frozenset(outcome.nodes))
        self._uncounted.clear()

    def _account(self, drafted: int, emitted: int, first: bool) -> None:
        """Estimate what a pass cost and saved, from c(n): against steps of one token, each c(1)."""
        step_ms = self.cost(1)
        if first:  # the prefill's forward goes anyway and says one token anyway
            saved_ms = (emitted - 1) * step_ms - drafted * self.cost.mean_slope()
        else:
            pass_ms = self.cost(drafted + 1) + drafted * self.config.node_ms
            self._pace.observe(emitted, pass_ms)
            saved_ms = emitted * step_ms - pass_ms
        self._statistics.saved_ms += saved_ms

    def finish(self, token_ids: Sequence[int]) -> None:
        """The window's caption is complete and verified: sources learn it."""
        self._count()
        self._live = self.sources
        for source in self._live:
            source.finish(token_ids)
        # Grow the next caption's first tree once now: the sources keep what they computed, and nobody waits yet.
        grow(self._live, self._start_all(()), self.config.prepared_nodes)
        self._statistics.count_caption()
        self.inbox.finish()

    def reset(self) -> None:
        """Forget every caption, draft and count (time jumped back)."""
        self._forget()
        self.inbox.reset()
        for source in self.sources:
            source.reset()
        self._switches.clear()
        self._record.clear()
        self._pace.clear()
        self._statistics.clear()

    def sizes(self) -> dict[str, int]:
        """How much is held: states and captions of the memory, waiting drafts, bins of what was measured."""
        held = {name: size for source in self.sources for name, size in source.sizes().items()}
        return held | self.inbox.sizes() | {'cost_bins': self.cost.bins, 'survival_bins': len(self._record),
                                            'uncounted_passes': len(self._uncounted)}

    def counts(self) -> dict[str, int]:
        """Drafts of sources that are asked for them and may fail (heads, other packages'), by name and what became of
        them."""
        return {f'{source.name}_{what}': count for source in self._own for what, count in source.counts().items()}

    def statistics(self) -> dict[str, Any]:
        """Counts and rates by vLLM's names; see :class:`SpeculationStatistics`. For any thread.

        Passes of the caption under way are counted when it ends.
        """
        names = [source.name for source in self.sources]
        report = self._statistics.report(names) | {'offers': dict(self.inbox.refusals), 'asked': self.counts()}
        for name in names:
            report['sources'][name]['on'] = self._switches[name].on
        return report


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A first tree grown ahead of time, and what it was grown from."""

    bounds: tuple[int, int | None, int]
    heard: tuple[int, int]
    tree: TokenTree
    live: tuple[DraftSource, ...]
    states: list[tuple[int, Any]]

    def serves(self, bounds: tuple[int, int | None, int], heard: tuple[int, int]) -> bool:
        """Whether a tree within these bounds, from what was heard by now, would be the same."""
        return self.bounds == bounds and self.heard == heard


def _replay(source: DraftSource, state: Any, emitted: Sequence[int]) -> tuple[int, int]:
    """Let a source compare what it would have said along the target's text, proposed or not, with what came.

    Returns how often it had something to say and how often its best token was right.
    """
    offers = hits = 0
    for token in emitted:
        source.feedback(state, token)
        steps = source.step(state)
        if not steps:
            break
        offers += 1
        hits += steps[0][0] == token
        state = next((following for candidate, _, following in steps if candidate == token), None)
        if state is None:
            break
    return offers, hits
