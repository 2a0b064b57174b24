"""One open window, from its first frame to its caption."""
from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter_ns

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.check import check_frame
from crossspec_ros.speculation.constraint import Constraint
from crossspec_ros.speculation.features import FeatureCache, frame_key
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.passes import Ending, passes, plain, rehearsal_of, until
from crossspec_ros.speculation.proposer import Proposer
from crossspec_ros.speculation.ranking import RANKS, ranked
from crossspec_ros.speculation.rules import Rule
from crossspec_ros.speculation.schedules import Certified, Free
from crossspec_ros.speculation.settings import EngineConfig, EngineCounters
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.target import Layout, Target
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.speculation.types import Caption, Mode, Stage, Verdict, prefix_hash, prompt_key
from crossspec_ros.speculation.window import WindowState

_REPLACEMENT = '\ufffd'          # stands for bytes of a character whose other bytes are still to come
_RANKED = 1 << 20                # logits ranked a pass at most


@dataclass
class Shared:
    """What all windows of an engine share."""

    target: Target
    proposer: Proposer
    config: EngineConfig
    rule: Rule
    ending: Ending
    schedule: Free | Certified
    free: Free                               # rehearsals, which decide nothing, always run freely
    exact: bool                              # forwards of other shapes decide no token otherwise
    features: FeatureCache
    counters: EngineCounters = field(default_factory=EngineCounters)
    focused: int | None = None               # window that the proposer was pointed at last
    size: tuple[int, int] = (240, 320)       # height and width of the newest frame, px

    def propose(self, committed: tuple[int, ...], most: int, depth: int, fused_tokens: int) -> TokenTree:
        """The proposer's tree; asked even where no node may come back, since sources follow the text by it."""
        return self.proposer.propose(committed, most, max_depth=depth, fused_tokens=fused_tokens)


class Session:
    """A window between `CaptionEngine.open` and its end::

        for slot, frame in enumerate(frames):             # as they arrive; encoded and prefilled at once
            session.add_frame(slot, frame.stamp_ns, frame.rgb)
            session.rehearse(should_stop=another_frame_is_here)
        for output in session.answer():                   # Verdict and Caption after each target pass
            publish(output)
        session.close()
    """

    def __init__(self, shared: Shared, window_id: int, window_end_ns: int, prompt: str,
                 on_close: Callable[[Session], None], constraint: Constraint | None = None) -> None:
        self._shared, self._on_close = shared, on_close
        self._prompt, self._constraint = prompt, constraint
        self._size = shared.size
        frames = shared.config.window_frames
        layout = shared.target.layout(prompt, frames, *self._size)
        self._state = WindowState(window_id, window_end_ns, self._key(), layout, self._cache(layout),
                                  [None] * len(layout.groups))
        self._frames: list[np.ndarray | None] = [None] * frames     # until their group is encoded
        self._keys: list[Hashable | None] = [None] * frames
        self._stamps_ns = [0] * frames
        self._rehearsed: tuple[int, ...] = ()
        self._newest_ns = 0                                          # perf_counter_ns of the newest slot's arrival
        self.encoded_ns = 0                                          # perf_counter_ns at the end of the newest encoding
        self.closed = False                                          # no frame and no answer any more

    def _key(self) -> str:
        """What remembered answers must be of: the question, and the form."""
        return prompt_key(self._prompt if self._constraint is None else f'{self._prompt}\0{self._constraint.key}')

    def _cache(self, layout: Layout) -> object:
        config = self._shared.config
        room = config.max_new_tokens + max(config.first_nodes, config.max_nodes, config.block) + 1
        return self._shared.target.new_cache(layout, layout.length + room)

    @property
    def window_id(self) -> int:
        """The window's number on the grid."""
        return self._state.window_id

    @property
    def missing(self) -> tuple[int, ...]:
        """Slots that have no frame yet."""
        return tuple(slot for slot, key in enumerate(self._keys) if key is None)

    @property
    def reached(self) -> tuple[int, int]:
        """Slots, from the oldest on, whose frames are encoded, and those whose frames are in the cache."""
        state, sizes = self._state, [group.frames for group in self._state.layout.groups]
        return sum(sizes[:state.ready(len(sizes))]), sum(sizes[:state.prefilled])

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Verified tokens so far, end token not included."""
        tokens = self._state.committed
        return tuple(tokens[:-1] if tokens and tokens[-1] in self._shared.ending.eos_ids else tokens)

    @property
    def cut(self) -> bool:
        """Whether the answer ends for its length, and not because the target ended it."""
        committed, ending = self._state.committed, self._shared.ending
        return self._state.finished and not ending.ends(committed)

    # -- frames ------------------------------------------------------------------------------------------------------

    def add_frame(self, slot: int, stamp_ns: int, rgb: np.ndarray) -> None:
        """Frame for ``slot`` (0 is the oldest), uint8 (H, W, 3) RGB; slots may come in any order, each once.

        A group is encoded when its last frame is there, once for all windows that are given the same stamps and
        pixels, and prefilled when all before it are; the newest group's prefill is part of the first verification.
        Raises `CrossSpecError` for a wrong shape, type or slot; the window stays as it was.
        """
        arrival_ns = perf_counter_ns()
        self._check(slot, rgb)
        with self._state.times.stage('encode') as timer:
            self._frames[slot], self._keys[slot] = rgb, frame_key(stamp_ns, rgb)
        self._shared.counters.forward_ms += timer.ms
        try:
            self._encode(slot)
        except Exception:
            self._frames[slot] = self._keys[slot] = None
            raise
        self.encoded_ns = perf_counter_ns()
        self._stamps_ns[slot] = stamp_ns
        if slot == len(self._keys) - 1:
            self._newest_ns = arrival_ns
        if self._shared.config.anticipatory:
            self._prefill()

    def _check(self, slot: int, rgb: np.ndarray) -> None:
        self._check_open()
        if not 0 <= slot < len(self._keys):
            raise CrossSpecError(f'slot must be 0 to {len(self._keys) - 1}, got {slot}')
        if self._keys[slot] is not None:
            raise CrossSpecError(f'slot {slot} of window {self.window_id} must be filled once, it has a frame already')
        check_frame(rgb)
        size = rgb.shape[:2]
        if size == self._size:
            return
        shared, state = self._shared, self._state
        layout = shared.target.layout(self._prompt, len(self._keys), *size)
        if layout is not state.layout:
            if len(self.missing) < len(self._keys):
                raise CrossSpecError(f'rgb must be {self._size[0]} x {self._size[1]} as the window\'s first frame, got '
                                     f'{size[0]} x {size[1]}')
            shared.target.release(state.cache)
            state.layout, state.cache = layout, self._cache(layout)
            state.rows = [None] * len(layout.groups)
        self._size = shared.size = size

    def _encode(self, slot: int) -> None:
        """Encode what the frame in ``slot`` makes whole: its group, or the clip where groups cannot be told apart."""
        shared, state = self._shared, self._state
        if not shared.target.abilities.anticipatory:
            if not self.missing:
                with state.times.stage('encode') as timer:
                    state.rows[:] = shared.target.encode_all(state.layout, self._frames)
                self._encoded(len(self._frames), timer.ms)
            return
        place, group = next((place, group) for place, group in enumerate(state.layout.groups)
                            if group.first <= slot < group.first + group.frames)
        span = slice(group.first, group.first + group.frames)
        frames, keys = self._frames[span], self._keys[span]
        if any(key is None for key in keys):
            return
        if not shared.target.abilities.frame_cache:
            keys = [place, self._state.prompt_key, *keys]
        with state.times.stage('encode') as timer:
            state.rows[place], known = shared.features.of(
                keys, lambda: shared.target.encode(state.layout, place, frames))
        self._encoded(len(frames), timer.ms, known)
        self._frames[span] = [None] * len(frames)

    def _encoded(self, frames: int, elapsed_ms: float, known: bool = False) -> None:
        counters = self._shared.counters
        counters.forward_ms += elapsed_ms
        counters.frames_shared += frames * known
        counters.frames_encoded += frames * (not known)

    def _prefill(self) -> None:
        """Put what is known into the cache, all but the newest group."""
        times = self._state.times
        before = times.get('prefill', 0.0)
        self._shared.schedule.prefill(self._state, len(self._state.rows) - 1)
        self._shared.counters.forward_ms += times.get('prefill', 0.0) - before

    def close(self) -> None:
        """Forget the window; nothing where it is closed already."""
        if not self.closed:
            self.closed = True
            self._shared.target.release(self._state.cache)
            self._on_close(self)

    # -- while frames are awaited ------------------------------------------------------------------------------------

    def rehearse(self, should_stop: Callable[[], bool] | None = None, *, until_ns: int | None = None
                 ) -> tuple[int, ...]:
        """Decode the caption of the frames so far on a fork of the window; the tokens become a draft.

        ``should_stop`` is asked between target passes; no pass starts that would likely end after ``until_ns``
        (`perf_counter_ns`). Returns the tokens, end token included (may be partial, or empty where nothing is to do).
        """
        shared, state = self._shared, self._state
        if self.closed or not 0 < len(self.missing) <= shared.config.rehearse_missing or state.committed \
                or not shared.config.speculate or not shared.target.abilities.anticipatory:
            return ()
        self._prefill()
        if not state.prefilled:
            return ()
        self.focus()
        may_start = until(should_stop, until_ns, perf_counter_ns, lambda: shared.counters.pass_ms)
        start_ns, base, fork = perf_counter_ns(), state.cache.length, rehearsal_of(state)
        free = replace(shared.free, first_nodes=shared.config.max_nodes)
        try:
            for _ in passes(fork, shared.target, free, shared.propose, shared.rule, shared.ending, may_start,
                            self._constraint):
                pass
        finally:
            state.cache.truncate(base)
        shared.counters.rehearsed(fork.finished, (perf_counter_ns() - start_ns) / 1e6)
        if fork.committed:
            self._rehearsed = tuple(fork.committed)
            shared.proposer.rehearsed(self._rehearsed)
        self.prepare()
        return tuple(fork.committed)

    def prepare(self) -> bool:
        """Grow the tree of the window's first pass while its newest group is awaited, so that the pass need not.

        For idle time, as `rehearse` is, which ends with it: call it again when a draft may have come since. Returns
        whether there was anything to do; never while groups before the newest are missing.
        """
        shared, state = self._shared, self._state
        config = shared.config
        if self.closed or len(state.rows) - state.prefilled != 1 or state.rows[-1] is not None or state.committed \
                or not config.speculate or shared.schedule is not shared.free or not config.fused:
            return False
        self.focus()
        most, fused_tokens = shared.schedule.room(state)
        return shared.proposer.prepare(most, max_depth=max(config.max_new_tokens - 1, 1), fused_tokens=fused_tokens)

    def focus(self) -> None:
        """Point the proposer at this window, with what was rehearsed for it."""
        if self._shared.focused != self.window_id:
            self._shared.focused = self.window_id
            self._shared.proposer.begin(Opening(self.window_id, self._state.prompt_key,
                                                self._state.layout.question_ids, self._rehearsed,
                                                prompt_key(self._prompt)))

    # -- the answer --------------------------------------------------------------------------------------------------

    def answer(self, *, deadline_ns: int | None = None,
               should_stop: Callable[[], bool] | None = None) -> Iterator[Verdict | Caption]:
        """Decode the caption: after each target pass a `Verdict` and a `Caption` (PARTIAL), at the end one FINAL.

        ``deadline_ns`` is on the clock of `time.perf_counter_ns`: no pass starts that would likely end after it.
        At the deadline, or when ``should_stop()`` is true, the iterator ends without a FINAL caption: the last
        PARTIAL is what was verified by then; calling `answer` again goes on from there. Raises `CrossSpecError` when
        frames are missing, the window is closed or answered, or logits are not finite (the window is closed then);
        the engine goes on with other windows.
        """
        self._check_answerable()
        shared, state = self._shared, self._state
        self._newest_ns = self._newest_ns or perf_counter_ns()
        self.focus()
        may_start = until(should_stop, deadline_ns, perf_counter_ns, lambda: shared.counters.pass_ms)
        propose = self._propose if shared.config.speculate else plain
        outcomes = passes(state, shared.target, shared.schedule, propose, shared.rule, shared.ending, may_start,
                          self._constraint)
        while (outcome := self._next(outcomes)) is not None:
            shared.counters.passed(len(outcome.emitted), outcome.verify_ms)
            shared.counters.windows_answered += outcome.complete
            self._note_gaps(outcome)
            try:
                yield self._verdict()
                yield self._caption(outcome.lossless)
            finally:                          # sources learn after the caption, not before it
                self._learn(outcome)
        if not state.finished:
            shared.counters.windows_cut += 1

    def _propose(self, committed: Sequence[int], most: int, depth: int, fused_tokens: int) -> TokenTree:
        self.focus()                          # another window may have been served since the last pass
        return self._shared.propose(tuple(committed), most, depth, fused_tokens)

    def _check_open(self) -> None:
        if self.closed:
            raise CrossSpecError(f'window {self.window_id} must be open, it was closed; open another')

    def _check_answerable(self) -> None:
        self._check_open()
        if self.missing:
            raise CrossSpecError(f'window {self.window_id} must have a frame in each slot, missing are '
                                 f'{list(self.missing)}')
        if self._state.finished:
            raise CrossSpecError(f'window {self.window_id} is answered already')

    def _next(self, outcomes: Iterator[PassOutcome]) -> PassOutcome | None:
        if not self._state.finished:
            self._check_open()                # its cache is no longer its own
        try:
            return next(outcomes, None)
        except CrossSpecError:
            self._shared.counters.windows_failed += 1
            self.close()
            raise

    def _learn(self, outcome: PassOutcome) -> None:
        """What a pass said goes to the sources, what it cost to the curve that sizes trees."""
        shared = self._shared
        with self._state.times.stage('observe'):
            if not shared.config.speculate:
                return
            self.focus()
            if 'topk' in shared.proposer.needs:
                rows = max(1, _RANKED // outcome.logits.shape[1])        # as many as are cheap to rank
                ids = outcome.best.ids[:rows] if outcome.best else ranked(outcome.logits[:rows], RANKS)[1]
                outcome = replace(outcome, topk=tuple(map(tuple, ids.tolist())))
            shared.proposer.observe(outcome, self._state.committed)
            shared.proposer.cost.observe(outcome.new_tokens, outcome.verify_ms)
            if outcome.complete:
                shared.proposer.finish(self.token_ids)

    def _note_gaps(self, outcome: PassOutcome) -> None:
        """How clearly the target decided: the best logit of each emitted token's row less the second best.

        Before the caption, which tells it; only of greedy answers, where the best logit decides.
        """
        if self._shared.rule.name != 'greedy':
            return
        with self._state.times.stage('accept'):
            rows = [0, *(node + 1 for node in outcome.nodes)][:len(outcome.emitted)]
            best = outcome.best.values[rows] if outcome.best else ranked(outcome.logits[rows], 2)[0]
            gaps = (best[:, 0] - best[:, 1]).tolist()
            self._state.near_ties += self._shared.counters.decided(gaps, self._shared.config.near_tie)

    def _verdict(self) -> Verdict:
        state, committed, target = self._state, self.token_ids, self._shared.target
        return Verdict(state.window_id, state.window_end_ns, committed, prefix_hash(committed), state.passes,
                       state.finished, dict(state.accepted), dict(state.drafted), target.tokenizer_key,
                       target.model_key)

    def _caption(self, lossless: bool) -> Caption:
        shared, state, tokens = self._shared, self._state, self.token_ids
        text = shared.target.decode(tokens)
        now_ns = perf_counter_ns()
        return Caption(
            window_id=state.window_id, window_end_ns=state.window_end_ns,
            stage=Stage.FINAL if state.finished else Stage.PARTIAL, text=text,
            stable_length=len(text) if state.finished else len(text.rstrip(_REPLACEMENT)), token_ids=tokens,
            mode=Mode.CROSS_MODAL if shared.proposer.drafted(state.window_id) else Mode.VERIFIER_ONLY,
            lossless=lossless and shared.exact and shared.rule.keeps == 'tokens',
            drafted=state.nodes_checked, accepted=state.nodes_accepted, target_passes=state.passes,
            frame_stamps_ns=tuple(self._stamps_ns),
            stage_ms=dict(state.times) | {'total': sum(state.times.values())},
            answer_ms=(now_ns - self._newest_ns) / 1e6, acceptance_rule=shared.rule.name, exact=shared.exact,
            near_ties=state.near_ties)

    def decode_plainly(self) -> tuple[int, ...]:
        """The answer's tokens with no drafts, in the schedule's own forwards; nothing learns from it (audits)."""
        self._check_answerable()
        shared = self._shared
        for _ in passes(self._state, shared.target, shared.schedule, plain, shared.rule, shared.ending, lambda: True,
                        self._constraint):
            pass
        return self.token_ids
