"""The proposer: all draft sources behind one door, one token tree a pass."""
from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.budget import CostCurve, Pace, SurvivalRecord, best_size
from crossspec_ros.speculation.growth import MIN_SURVIVAL, Growth, grow
from crossspec_ros.speculation.sources.base import DraftSource
from crossspec_ros.speculation.sources.chain import PreviousCaption, PromptLookup, Rehearsal
from crossspec_ros.speculation.sources.foreign import ForeignDraft, Hypothesis, Tokenize
from crossspec_ros.speculation.sources.recall import Recall
from crossspec_ros.speculation.sources.recycling import TokenRecycling
from crossspec_ros.speculation.statistics import SpeculationStatistics
from crossspec_ros.speculation.switch import SourceSwitch
from crossspec_ros.speculation.tree import PREFIX, TokenTree
from crossspec_ros.speculation.types import Draft, prefix_hash

_FIRST_STEP = 16                 # nodes grown before their worth is looked at for the first time
SOURCE_NAMES = ('memory', 'previous', 'event_drafter', 'rehearsal', 'recycling', 'prompt')


@dataclass(frozen=True)
class ProposerConfig:
    """What the proposer uses and how much it may hold."""

    sources: tuple[str, ...] = SOURCE_NAMES
    memory_captions: int = 256
    memory_growth: float = 1.03
    memory_escape: float = 0.15
    max_prompts: int = 4
    max_draft_nodes: int = 512
    windows_ahead: int = 8
    prepared_nodes: int = 256
    node_ms: float = 0.004
    vocab_size: int | None = None
    tokenizer_key: str | None = None
    banned_ids: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.sources) - set(SOURCE_NAMES))
        if unknown:
            raise CrossSpecError(f'sources must be among {", ".join(SOURCE_NAMES)}, got {", ".join(unknown)}')
        if self.memory_captions < 1:
            raise CrossSpecError(f'memory_captions must be > 0, got {self.memory_captions}')


class Proposer:
    """Draft sources, merged.

    One thread drives ``begin``, ``propose``, ``observe``, ``finish``; ``offer`` may be called by any thread at any
    time. ``tokenize`` (text -> ids) lets drafts of another tokenizer in. Once ``cost`` has been told the times of the
    target's forwards (``proposer.cost.observe(tokens, ms)``), trees are only as large as pays.
    """

    def __init__(self, config: ProposerConfig | None = None, *, tokenize: Tokenize | None = None) -> None:
        self.config = config = config or ProposerConfig()
        self._foreign = ForeignDraft(
            vocab_size=config.vocab_size, banned_ids=config.banned_ids, tokenizer_key=config.tokenizer_key,
            tokenize=tokenize, max_nodes=config.max_draft_nodes)
        self._rehearsal, self._prompt, self._recycling = Rehearsal(), PromptLookup(), TokenRecycling()
        every: dict[str, DraftSource] = {
            'memory': Recall(
                config.memory_captions, growth=config.memory_growth, escape=config.memory_escape,
                max_prompts=config.max_prompts),
            'previous': PreviousCaption(max_prompts=config.max_prompts),
            'event_drafter': self._foreign, 'rehearsal': self._rehearsal,
            'recycling': self._recycling, 'prompt': self._prompt,
        }
        self.sources: tuple[DraftSource, ...] = tuple(every[name] for name in config.sources)
        self.cost = CostCurve()
        self._record, self._pace = SurvivalRecord(), Pace()
        self._switches = {source.name: SourceSwitch() for source in self.sources}
        self._statistics = SpeculationStatistics([source.name for source in self.sources])
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._window_id: int | None = None
        self._prompt_key: str | None = None
        self._committed: tuple[int, ...] = ()
        self._waiting: dict[int, tuple[int, str, Hypothesis]] = {}
        self._first_pass = True
        self._states: list[tuple[int, Any]] = []
        self._prepared: _Prepared | None = None
        self._uncounted: list[tuple[TokenTree, tuple[int, ...], tuple[int, ...], bool]] = []

    def begin(self, window_id: int, prompt_key: str, prompt_ids: Sequence[int] = ()) -> None:
        """Start a window's caption. ``prompt_ids``: the question's text tokens, for prompt lookup."""
        with self._lock:
            self._window_id, self._prompt_key, self._committed = window_id, prompt_key, ()
            self._waiting = {key: value for key, value in self._waiting.items() if key >= window_id}
        self._count()
        self._first_pass, self._prepared = True, None
        for source in self.sources:
            source.begin(window_id, prompt_key)
        self._prompt.set_tokens(prompt_ids)

    def offer(self, draft: Draft) -> str | None:
        """Take a draft at any time, from any thread.

        Returns None where it was taken, else the cause of refusal: ``malformed``, ``vocabulary``, ``tokenizer``,
        ``foreign_prompt``, ``foreign_window`` (too far ahead), ``late`` (its window is over), ``stale`` (an older
        revision, or not an extension of the committed prefix). The proposer uses the newest at its next pass.
        """
        admitted = self._foreign.admit(draft)
        with self._lock:
            cause = admitted if isinstance(admitted, str) else self._refusal(draft, admitted)
            if cause is None:
                self._waiting[draft.window_id] = (draft.revision, draft.prompt_key, admitted)
            self._statistics.count_offer(cause)
        return cause

    def _refusal(self, draft: Draft, admitted: Hypothesis) -> str | None:
        current = self._window_id
        if current is not None and draft.window_id < current:
            return 'late'
        if current is not None and draft.window_id > current + self.config.windows_ahead:
            return 'foreign_window'
        if current is None and len(self._waiting) >= self.config.windows_ahead and draft.window_id not in self._waiting:
            return 'foreign_window'
        if current == draft.window_id:
            if draft.prompt_key != self._prompt_key:
                return 'foreign_prompt'
            if not _extends(admitted, self._committed):
                return 'stale'
        held = self._waiting.get(draft.window_id)
        return 'stale' if held is not None and draft.revision <= held[0] else None

    def offer_rehearsal(self, window_id: int, token_ids: Sequence[int]) -> None:
        """Tokens that the target itself decoded for the frames so far. Called by the engine's own thread."""
        if window_id == self._window_id:
            self._rehearsal.set_tokens(token_ids)
            self._prepared = None

    def prepare(self, max_nodes: int, *, max_depth: int | None = None, fused_tokens: int = 0) -> bool:
        """Grow the caption's first tree ahead of time; `propose` with the same bounds then has it ready.

        Costs nothing where that is done already; a draft or rehearsal that comes later makes `propose` grow anew.
        Returns whether there was anything to do.
        """
        bounds = max_nodes, max_depth, fused_tokens
        hypothesis = self._newest(())
        if self._prepared is not None and self._prepared.serves(bounds, hypothesis):
            return False
        tree = self._grown((), hypothesis, *bounds)
        self._prepared = _Prepared(bounds, hypothesis, tree, self._states)
        return True

    def propose(
        self, committed: Sequence[int], max_nodes: int, *, max_depth: int | None = None, fused_tokens: int = 0,
    ) -> TokenTree:
        """The tree for the next target pass, from whatever drafts are there now. Never waits.

        At most ``max_nodes`` nodes and ``max_depth`` deep; ``fused_tokens``: prompt tokens that the same forward takes
        anyway. Fewer nodes where the cost curve says that more do not pay.
        """
        committed = tuple(committed)
        prepared, self._prepared = self._prepared, None
        hypothesis = self._newest(committed)
        bounds = max_nodes, max_depth, fused_tokens
        if prepared is not None and not committed and prepared.serves(bounds, hypothesis):
            self._states = prepared.states
            return prepared.tree
        return self._grown(committed, hypothesis, *bounds)

    def _newest(self, committed: tuple[int, ...]) -> Hypothesis | None:
        """The newest draft of this window, where it extends what is committed."""
        with self._lock:
            self._committed = committed
            held = self._waiting.get(self._window_id)
        usable = held is not None and held[1] == self._prompt_key
        return held[2] if usable and _extends(held[2], committed) else None

    def _grown(self, committed: tuple[int, ...], hypothesis: Hypothesis | None, max_nodes: int, max_depth: int | None,
               fused_tokens: int) -> TokenTree:
        self._foreign.use(hypothesis)
        self._states = self._start_all(committed)
        live = [(index, state) for index, state in self._states if self._switches[self.sources[index].name].on]
        known, pace = self.cost.known, self._pace.tokens_per_ms
        # Half the mean slope: what promises less than that costs cannot pay, so it is not even grown.
        floor = pace * (0.5 * self.cost.mean_slope() + self.config.node_ms) if known and pace else 0.0
        growth = Growth(self.sources, live, banned_ids=self.config.banned_ids, max_depth=max_depth,
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
        states = ((index, source.start(committed)) for index, source in enumerate(self.sources))
        return [(index, state) for index, state in states if state is not None]

    def observe(
        self, tree: TokenTree, accepted_nodes: Sequence[int], emitted: Sequence[int],
        topk: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Tell what the target said to the last tree.

        ``emitted``: the accepted tokens and one more. ``topk``: the target's best next tokens, best first, one row per
        row of its logits (row 0: after the committed prefix, row i + 1: after node i).
        """
        self._uncounted.append((tree, tuple(accepted_nodes), tuple(emitted), self._first_pass))
        self._first_pass = False
        for index, state in self._states:
            source = self.sources[index]
            offers, hits = _replay(source, state, emitted)
            self._switches[source.name].add(offers, hits)
        if topk is not None:
            read = (self._committed[-1:] or (PREFIX,)) + tree.token_ids
            self._recycling.observe(read, topk)
        with self._lock:
            self._committed += tuple(emitted)

    def _count(self) -> None:
        """Count the passes of a caption: at its end, when nobody waits for the next pass."""
        for tree, accepted, emitted, first in self._uncounted:
            self._statistics.count_pass(tree, accepted, emitted, first=first)
            if self.cost.known:
                self._account(len(tree), len(emitted), first)
            self._record.observe(tree.sources, tree.probs, frozenset(accepted))
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
        for source in self.sources:
            source.finish(token_ids)
        self._prepare()
        self._statistics.count_caption()
        with self._lock:
            self._waiting.pop(self._window_id, None)

    def _prepare(self) -> None:
        """Grow the next caption's first tree once now: the sources keep what they computed, and nobody waits yet."""
        grow(self.sources, self._start_all(()), self.config.prepared_nodes)

    def reset(self) -> None:
        """Forget every caption, draft and count (time jumped back)."""
        with self._lock:
            self._forget()
        for source in self.sources:
            source.reset()
            self._switches[source.name].clear()
        self._record.clear()
        self._pace.clear()
        self._statistics.clear()

    def sizes(self) -> dict[str, int]:
        """How much is held: states and captions of the memory, waiting drafts, bins of what was measured."""
        held = {name: size for source in self.sources for name, size in source.sizes().items()}
        return held | {'waiting_drafts': len(self._waiting), 'cost_bins': self.cost.bins,
                       'survival_bins': len(self._record), 'uncounted_passes': len(self._uncounted)}

    def statistics(self) -> dict[str, Any]:
        """Counts and rates by vLLM's names; see :class:`SpeculationStatistics`. For any thread.

        Passes of the caption under way are counted when it ends.
        """
        report = self._statistics.report()
        for name, counts in report['sources'].items():
            counts['on'] = self._switches[name].on
        return report


@dataclass(frozen=True)
class _Prepared:
    """A first tree grown ahead of time, and what it was grown from."""

    bounds: tuple[int, int | None, int]
    hypothesis: Hypothesis | None
    tree: TokenTree
    states: list[tuple[int, Any]]

    def serves(self, bounds: tuple[int, int | None, int], hypothesis: Hypothesis | None) -> bool:
        """Whether a tree within these bounds, from this draft, would be the same."""
        return self.bounds == bounds and self.hypothesis is hypothesis


def _extends(draft: Hypothesis, committed: tuple[int, ...]) -> bool:
    length = draft.base_length
    return length <= len(committed) and prefix_hash(committed[:length]) == draft.base_hash


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
