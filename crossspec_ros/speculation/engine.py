"""The decode engine: a window's frames prefilled as they come, its caption decoded by speculation, losslessly.

Used from one inference thread; only `CaptionEngine.offer` may be called from others, at any time.
"""
from __future__ import annotations

import logging
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from time import perf_counter_ns

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.audit import decode_plainly
from crossspec_ros.speculation.costs import measure_costs
from crossspec_ros.speculation.loop import Ending, Pass, Rule, run_pass
from crossspec_ros.speculation.proposer import SOURCE_NAMES, Proposer, ProposerConfig
from crossspec_ros.speculation.ranking import ranked
from crossspec_ros.speculation.rehearsal import rehearse, until
from crossspec_ros.speculation.rules import make_rule
from crossspec_ros.speculation.savings import saved_ms
from crossspec_ros.speculation.session import WindowSession
from crossspec_ros.speculation.settings import EngineConfig, EngineCounters
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage, Verdict, prefix_hash
from crossspec_ros.speculation.verifier import Verifier, check_frame

_log = logging.getLogger(__name__)
_REPLACEMENT = '\ufffd'          # stands for bytes of a character whose other bytes are still to come
_MEASURED = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_RANKED, _RANKS = 1 << 20, 4     # logits ranked a pass at most; best next tokens kept of each row
FrameKey = tuple[int, tuple[int, ...], int]


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

    def __init__(self, verifier: Verifier, proposer: Proposer, config: EngineConfig | None = None) -> None:
        self.verifier, self.proposer, self.config = verifier, proposer, config or EngineConfig()
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        self._rule = make_rule(self.config)
        self._ending = Ending(frozenset(verifier.eos_ids), self.config.max_new_tokens, self.config.stop_strings,
                              verifier.decode)
        self._windows: OrderedDict[int, WindowSession] = OrderedDict()
        self._features: OrderedDict[FrameKey, torch.Tensor] = OrderedDict()
        self._drafted_windows: OrderedDict[int, None] = OrderedDict()
        self._begun: int | None = None
        self.counters = EngineCounters()

    @classmethod
    def for_verifier(cls, verifier: Verifier, config: EngineConfig | None = None,
                     sources: Sequence[str] = SOURCE_NAMES, **proposer: object) -> CaptionEngine:
        """An engine with a proposer that knows the verifier's vocabulary; ``proposer``: more of `ProposerConfig`."""
        settings = ProposerConfig(sources=tuple(sources), vocab_size=verifier.vocab_size,
                                  tokenizer_key=verifier.tokenizer_key, banned_ids=frozenset(verifier.banned_ids),
                                  **proposer)
        return cls(verifier, Proposer(settings, tokenize=verifier.encode_text), config)

    def use_rule(self, rule: Rule) -> None:
        """Accept by a rule of one's own instead of the one the settings name (experiments; captions do not say so)."""
        self._rule = rule

    # -- windows and frames -----------------------------------------------------------------------------------------

    def open(self, window_id: int, window_end_ns: int, prompt: str) -> None:
        """Begin a window. ``prompt`` is a question, or a whole prompt that holds the model's video placeholder.

        Raises `CrossSpecError` for an empty prompt, one longer than the context, or a window id already open.
        """
        if window_id in self._windows:
            raise CrossSpecError(f'window_id must not be open already, got {window_id}')
        config = self.config
        session = WindowSession.begin(self.verifier, window_id, window_end_ns, prompt, config.window_frames,
                                      config.max_new_tokens, max(config.first_nodes, config.max_nodes))
        while len(self._windows) >= config.max_windows:
            oldest = next(iter(self._windows))
            _log.warning('window %d is closed without an answer: more than max_windows (%d) are open', oldest,
                         config.max_windows)
            self.close(oldest)
            self.counters.windows_replaced += 1
        self._windows[window_id] = session
        self.counters.windows += 1

    def add_frame(self, window_id: int, slot: int, stamp_ns: int, rgb: np.ndarray) -> None:
        """Frame for ``slot`` (0 is the oldest), uint8 (H, W, 3) RGB; slots may come in any order, each once.

        Encoded once for all windows that are given the same stamp and pixels. The newest slot is encoded only: its
        prefill is part of the first verification. Raises `CrossSpecError` for a wrong shape, type, slot or window;
        the window stays as it was.
        """
        arrival_ns = perf_counter_ns()
        session = self._session(window_id)
        session.check_slot(slot)
        with session.times.stage('encode') as timer:
            features = self._encode(stamp_ns, rgb)
        self.counters.forward_ms += timer.ms
        session.put(slot, stamp_ns, features)
        if slot == len(session.slots) - 1:
            session.newest_ns = arrival_ns
        if self.config.anticipatory:
            self._prefill(session, len(session.slots) - 1)

    def _prefill(self, session: WindowSession, stop: int) -> None:
        before = session.times.get('prefill', 0.0)
        session.prefill(self.verifier, stop)
        self.counters.forward_ms += session.times.get('prefill', 0.0) - before

    def _encode(self, stamp_ns: int, rgb: np.ndarray) -> torch.Tensor:
        """Features (F, D) of a frame: known ones where the same stamp and pixels came before (exact: frames are
        encoded one by one). The newest few are kept for windows that overlap."""
        check_frame(rgb)
        key = (stamp_ns, rgb.shape, zlib.crc32(np.ascontiguousarray(rgb)))
        features = self._features.get(key)
        if features is not None:
            self.counters.frames_shared += 1
            return features
        features = self.verifier.encode_frame(rgb)
        self.counters.frames_encoded += 1
        if self.config.frame_cache:
            self._features[key] = features
            while len(self._features) > 2 * self.config.window_frames:
                self._features.popitem(last=False)
        return features

    def close(self, window_id: int) -> None:
        """Forget a window (unknown ids are ignored)."""
        session = self._windows.pop(window_id, None)
        if session is not None:
            self.verifier.release(session.cache)

    def _session(self, window_id: int) -> WindowSession:
        session = self._windows.get(window_id)
        if session is None:
            raise CrossSpecError(f'window_id must be open, got {window_id}; open are {list(self._windows)}')
        return session

    # -- drafts ------------------------------------------------------------------------------------------------------

    def offer(self, draft: Draft) -> str | None:
        """Hand in a draft, from any thread, at any time. None: taken, else why it was refused (also counted)."""
        refused = self.proposer.offer(draft)
        if refused is None:
            self._drafted_windows[draft.window_id] = None
            while len(self._drafted_windows) > 64:
                self._drafted_windows.popitem(last=False)
        return refused

    def rehearse(self, window_id: int, should_stop: Callable[[], bool] | None = None, *,
                 until_ns: int | None = None) -> tuple[int, ...]:
        """Decode the caption of the frames so far on a fork of the cache; the tokens become a draft of this window.

        ``should_stop`` is asked between target passes; no pass begins that would likely end behind ``until_ns``
        (`perf_counter_ns`). Returns the tokens, end token included (may be partial, or empty where nothing is to do).
        """
        session = self._session(window_id)
        missing = sum(features is None for features in session.slots)
        if not 0 < missing <= self.config.rehearse_missing or session.committed or not self.config.speculate:
            return ()
        self._prefill(session, len(session.slots) - 1)
        self._begin(session)
        may_begin = until(should_stop, until_ns, lambda: self.counters.pass_ms)
        begin_ns = perf_counter_ns()
        tokens, complete = rehearse(session, self.verifier, self.proposer, self._rule, self._ending,
                                    self.config.max_nodes, may_begin)
        self.counters.rehearsed(complete, (perf_counter_ns() - begin_ns) / 1e6)
        if tokens:
            session.rehearsed = tokens
            self.proposer.offer_rehearsal(window_id, tokens)
        self.prepare(window_id)
        return tokens

    def prepare(self, window_id: int) -> bool:
        """Grow the tree of the window's first pass while its newest frame is awaited, so that the pass need not.

        For idle time, as `rehearse` is, which ends with it: call it again when a draft may have come since. Returns
        whether there was anything to do; never while frames before the newest are missing.
        """
        session = self._session(window_id)
        config, left = self.config, len(session.slots) - session.prefilled
        if left != 1 or session.slots[-1] is not None or session.committed or not (config.speculate and config.fused):
            return False
        self._begin(session)
        fused = session.segments.frame_tokens + session.question(self.verifier).shape[0] - 1
        return self.proposer.prepare(config.first_nodes, max_depth=config.max_new_tokens - 1, fused_tokens=fused)

    def _begin(self, session: WindowSession) -> None:
        """Point the proposer at a window, with what was rehearsed for it."""
        if self._begun != session.window_id:
            self._begun = session.window_id
            self.proposer.begin(session.window_id, session.prompt_key, session.segments.tail_ids)
            if session.rehearsed:
                self.proposer.offer_rehearsal(session.window_id, session.rehearsed)

    # -- the answer --------------------------------------------------------------------------------------------------

    def answer(self, window_id: int, *, deadline_ns: int | None = None,
               should_stop: Callable[[], bool] | None = None) -> Iterator[Verdict | Caption]:
        """Decode the caption: after each target pass a `Verdict` and a `Caption` (PARTIAL), at the end one FINAL.

        ``deadline_ns`` is on the clock of `time.perf_counter_ns`: no pass begins that would likely end behind it.
        At the deadline, or when ``should_stop()`` is true, the iterator ends without a FINAL caption: the last
        PARTIAL is what was verified by then; calling `answer` again goes on from there. Raises `CrossSpecError` when
        frames are missing, the window is unknown or answered, or logits are not finite (the window is closed then);
        the engine goes on with other windows.
        """
        session = self._session(window_id)
        call_ns = perf_counter_ns()
        if not session.complete:
            missing = [slot for slot, features in enumerate(session.slots) if features is None]
            raise CrossSpecError(f'window {window_id} must have a frame in each slot, missing are {missing}')
        if session.finished:
            raise CrossSpecError(f'window {window_id} is answered already')
        session.newest_ns = session.newest_ns or call_ns
        may_begin = until(should_stop, deadline_ns, lambda: self.counters.pass_ms)
        self._begin(session)
        while may_begin():
            try:
                outcome = self._pass(session)
            except CrossSpecError:
                self.counters.windows_failed += 1
                self.close(window_id)
                raise
            try:
                yield self._verdict(session)
                yield self._caption(session, outcome.lossless)
            finally:                          # sources learn behind the caption, not before it
                self._learn(session, outcome)
            if session.finished:
                return
        self.counters.windows_cut += 1

    def _pass(self, session: WindowSession) -> Pass:
        chunk, nodes = self._chunk(session)
        depth = self.config.max_new_tokens - len(session.committed) - 1      # deeper nodes could never be emitted
        tree = TokenTree()
        if self.config.speculate:             # asked even where no node may come back: sources follow the text by it
            with session.times.stage('propose'):
                tree = self.proposer.propose(tuple(session.committed), nodes if depth else 0, max_depth=max(depth, 1),
                                             fused_tokens=chunk.shape[0] - 1)
        outcome = run_pass(session, self.verifier, tree, chunk, self._rule, self._ending)
        session.finished = outcome.complete
        self.counters.passed(len(outcome.emitted), outcome.verify_ms)
        self.counters.windows_answered += outcome.complete
        return outcome

    def _learn(self, session: WindowSession, outcome: Pass) -> None:
        """What a pass said goes to the sources, what it cost to the curve that sizes trees."""
        with session.times.stage('observe'):
            greedy = self.config.acceptance == 'greedy'
            recycled = self.config.speculate and 'recycling' in self.proposer.config.sources
            values, ids = self._ranked(outcome.logits) if greedy or recycled else (None, None)
            if greedy:
                self._note_gaps(session.window_id, outcome, values)
            if not self.config.speculate:
                return
            self.proposer.observe(outcome.tree, outcome.nodes, outcome.emitted, ids.tolist() if recycled else None)
            self.proposer.cost.observe(outcome.new_tokens, outcome.verify_ms)
            if outcome.complete:
                self.proposer.finish(self._answer_tokens(session))

    def _note_gaps(self, window_id: int, outcome: Pass, values: np.ndarray) -> None:
        """How clearly the target decided: the best logit of each emitted token's row less the second best."""
        rows = [0, *(node + 1 for node in outcome.nodes)][:len(outcome.emitted)]
        best = values[rows] if max(rows) < len(values) else ranked(outcome.logits[rows], 2)[0]
        least = self.counters.decided((best[:, 0] - best[:, 1]).tolist(), self.config.near_tie)
        if least < self.config.near_tie:
            _log.debug('window %d: a token stands only %.3g above the runner-up', window_id, least)

    def _ranked(self, logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The target's best next tokens for each row of the logits, as many rows as are cheap to rank."""
        return ranked(logits[:max(1, _RANKED // logits.shape[1])], _RANKS)

    def _chunk(self, session: WindowSession) -> tuple[torch.Tensor, int]:
        """What goes in before the tree, (T, D), and how many nodes the tree may have."""
        if session.committed:
            return self.verifier.embed([session.pending]), self.config.max_nodes
        frames = len(session.slots)
        if not self.config.fused:
            self._prefill(session, frames)
            return session.question(self.verifier), 0
        rest = session.known(self.verifier, frames)
        session.prefilled = frames
        parts = [session.question(self.verifier)] if rest is None else [rest, session.question(self.verifier)]
        return torch.cat(parts), self.config.first_nodes

    def _verdict(self, session: WindowSession) -> Verdict:
        committed = self._answer_tokens(session)
        return Verdict(session.window_id, session.window_end_ns, committed, prefix_hash(committed), session.passes,
                       session.finished, dict(session.accepted), dict(session.drafted))

    def _caption(self, session: WindowSession, lossless: bool) -> Caption:
        tokens = self._answer_tokens(session)
        text = self.verifier.decode(tokens)
        drafted = session.window_id in self._drafted_windows
        now_ns = perf_counter_ns()
        times = dict(session.times) | {'total': sum(session.times.values())}
        return Caption(
            session.window_id, session.window_end_ns, Stage.FINAL if session.finished else Stage.PARTIAL, text,
            len(text) if session.finished else len(text.rstrip(_REPLACEMENT)), tokens,
            Mode.CROSS_MODAL if drafted else Mode.VERIFIER_ONLY, lossless, session.nodes_checked,
            session.nodes_accepted, session.passes, tuple(session.stamps_ns), times,
            (now_ns - session.newest_ns) / 1e6, self.config.acceptance)

    def _answer_tokens(self, session: WindowSession) -> tuple[int, ...]:
        """Committed tokens without the end token."""
        tokens = session.committed
        return tuple(tokens[:-1] if tokens and tokens[-1] in self._ending.eos_ids else tokens)

    # -- around the answer -------------------------------------------------------------------------------------------

    def audit(self, frames: Sequence[np.ndarray], prompt: str, window_id: int = 0) -> tuple[int, ...]:
        """Tokens of the caption (no end token) decoded again with no drafts, no shared features and no shared cache.

        ``frames`` as they were given for the window, oldest first; ``window_id`` matters to seeded sampling only.
        """
        tokens = decode_plainly(self.verifier, frames, prompt, self._rule, self._ending, window_id)
        return tokens[:-1] if tokens[-1] in self._ending.eos_ids else tokens

    def warm_up(self, prompt: str, height: int = 240, width: int = 320) -> dict[int, float]:
        """Measure what a forward costs by its new tokens, at the real context length; ms by number of tokens.

        Trees are sized by it. Raises `CrossSpecError` for a prompt that does not fit.
        """
        segments = self.verifier.segments(prompt, self.config.window_frames)
        largest = segments.frame_tokens + len(segments.tail_ids) + self.config.first_nodes
        counts = [count for count in _MEASURED if count <= largest]
        costs = measure_costs(self.verifier, prompt, self.config.window_frames, counts, height, width)
        for count, cost_ms in costs.items():
            self.proposer.cost.observe(count, cost_ms)
        self.counters.plain_ms = self.counters.pass_ms = costs[1]
        return costs

    def reset(self) -> None:
        """Forget windows, features, caption memory and statistics that depend on time (time jumped back)."""
        for window_id in list(self._windows):
            self.close(window_id)
        self._features.clear()
        self._drafted_windows.clear()
        self.proposer.reset()
        self._begun = None
        self.counters = EngineCounters(plain_ms=self.counters.plain_ms)

    def sizes(self) -> dict[str, int]:
        """How much is held of each thing that is kept beyond a window: bounded, however long the drive."""
        return {'windows': len(self._windows), 'features': len(self._features),
                'drafted_windows': len(self._drafted_windows)} | self.proposer.sizes()

    def statistics(self) -> dict[str, object]:
        """Counts and times since the start or the last reset, acceptance by vLLM's names, per source."""
        counters = asdict(self.counters)
        passes = self.counters.target_passes
        counters['mean_acceptance_length'] = self.counters.tokens / passes if passes else None
        proposer = self.proposer.statistics()
        return counters | {'proposer': proposer, 'saved_ms': saved_ms(proposer['sources'], self.proposer.cost)}
