"""The drafter's work by window: packets to the view of events that the drafter eats, that to a caption.

The view grows while packets come (`pipeline.views`), so that at a window's end almost nothing is left to do.
Time here is ROS time in ns unless a name says sensor time. Nothing here waits or reads a clock: the caller says what
time it is, so a recording gives the same drafts each time.
"""
from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import Decoder, make_decoder
from crossspec_ros.events.moments import NEVER
from crossspec_ros.events.types import Packet
from crossspec_ros.events.warm import warm_up as compile_events
from crossspec_ros.pipeline.account import PACKETS, UNCHANGED, Account
from crossspec_ros.pipeline.scene import SceneWatch
from crossspec_ros.pipeline.views import build_view
from crossspec_ros.speculation.drafter import DEFAULT_SOURCE, Drafter, check_source
from crossspec_ros.speculation.types import Draft, Opening, SceneChange, Verdict, prefix_hash, prompt_key
from crossspec_ros.timing.sensor_clock import SensorClock
from crossspec_ros.timing.when import Speaking
from crossspec_ros.timing.window import WindowGrid
from crossspec_ros.tracing.tracer import TRACER

_MS = 1_000_000
_KEPT_WINDOWS = 8
_WAIT_DECAY = 0.9                                               # a packet; one late packet is soon forgotten


@dataclass(frozen=True)
class DraftJob:
    """A draft that is due. ``early``: the window has not ended; ``committed``: the verified prefix to continue."""

    window_id: int
    early: bool = False
    committed: tuple[int, ...] = ()


@dataclass
class _Drafted:
    """What was drafted of a window so far."""

    revisions: int = 0
    redrafts: int = 0
    token_ids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    committed: tuple[int, ...] = ()
    seen: Any = None
    early_seen: Any = None
    events_used: int = 0


@dataclass(frozen=True, eq=False)
class Looked:
    """What the drafter was asked and saw of a window: ``early``, before its end (else as ``seen``), and last."""

    prompt: str
    early: Any
    seen: Any


class DraftingPipeline:
    """Packets in, drafts out, by windows.

    `add_packet`, `due` and `draft` belong to one thread; `on_verdict` may be called from another. A window is due
    twice: ``lead_ms`` before its end, so that a draft is there for the verifier's first pass, and at its end, when a
    packet that covers it has arrived or ``grace_ms`` have passed. An early draft sees a whole span, up to the lead
    before the window's end. Windows in which nothing moved get a draft too, for ``idle_ms`` after the last packet.

    An event is in the window that the offset between the clocks, as known when its packet came, puts it in; of views
    that keep events as they are, the offset known now. ``source`` names the drafter in its drafts: several may draft
    for one window. ``account`` is told what became of each packet that was received.

    ``speaking``: the scene decides which windows are opened, and only those get drafts; a window may end at each slot
    of the grid, whose stride is 1. `take_changes` has what is to be told of each slot.

    Raises CrossSpecError on a bad name.
    """

    def __init__(self, drafter: Drafter, grid: WindowGrid, prompt: str, *, source: str = DEFAULT_SOURCE,
                 lead_ms: float = 125.0, grace_ms: float = 15.0, grace_max_ms: float = 100.0, max_tokens: int = 64,
                 buffer_bytes: int = 256 << 20, idle_ms: float = 2000.0, redrafts: int = 2, alternatives: int = 0,
                 synchronised: bool = False,
                 account: Account | None = None, speaking: Speaking | None = None) -> None:
        self.account = account or Account()
        self.prompt, self.max_tokens, self.redrafts, self.alternatives = prompt, max_tokens, redrafts, alternatives
        self.counts: Counter[str] = Counter()
        self._drafter, self._grid, self._source = drafter, grid, check_source(source)
        self._lead_ns, self._grace_ns = round(lead_ms * _MS), round(grace_ms * _MS)
        self._longest_wait_ns = max(self._grace_ns, round(grace_max_ms * _MS))
        self._idle_ns = round(idle_ms * _MS)
        self._view = build_view(drafter.view, grid, lead_ns=self._lead_ns, max_bytes=buffer_bytes)
        self._clock = SensorClock(synchronised)
        self._decoder: Decoder | None = None
        self._format: tuple[str, int, int] | None = None
        self._lock = threading.Lock()
        self._drafted: OrderedDict[int, _Drafted] = OrderedDict()
        self._heard_verifier = ''                               # key of the verifier that verdicts come from
        self._speaking = speaking
        self._watch = SceneWatch(grid, speaking) if speaking is not None else None
        self._changes: deque[SceneChange] = deque(maxlen=2 * grid.window_frames)
        self._begin_again()

    def _begin_again(self) -> None:
        self._last_packet_ns: int | None = None                 # stamp of the newest packet
        self._newest_ns: int | None = None                      # time of the newest event, as it was known when it came
        self._next_early = self._next_final = 0                 # windows
        self._covered_ns: int | None = None                     # newest event when `due` was last asked
        self._wait_ns = 0                                       # how long packets take to cover a moment, lately

        self._asked = ''                                        # key of the question of the slots before
        self._asked_from = '', 0                                # the question, and the last window begun before it
        self._changes.clear()
        if self._watch is not None:
            self._watch.reset()

    @property
    def other_verifier(self) -> bool:
        """Whether the drafter learned from another verifier than the one that is heard, as far as both are known."""
        trained_for = getattr(self._drafter, 'verifier_key', '')
        return bool(trained_for and self._heard_verifier) and trained_for != self._heard_verifier

    @property
    def drafter(self) -> Drafter:
        """Who drafts now."""
        return self._drafter

    def adopt(self, drafter: Drafter) -> None:
        """From the next draft on another drafter drafts; any thread may say so.

        Raises CrossSpecError where it sees something else, or speaks in other tokens.
        """
        if drafter.view != self._drafter.view or drafter.tokenizer_key != self._drafter.tokenizer_key:
            raise CrossSpecError('a drafter that takes over must have the view and the tokens of the one before, got '
                                 f'{drafter.view} and {drafter.tokenizer_key}')
        self._drafter = drafter

    def looked_at(self, window_id: int) -> Looked | None:
        """What was seen of a window for its drafts; None where it is not remembered, or where the verifier may have
        begun it before it was asked the question that was drafted for. Any thread may ask.
        """
        with self._lock:
            state, (prompt, since) = self._drafted.get(window_id), self._asked_from
            if state is None or state.seen is None or window_id <= since:
                return None
            return Looked(prompt, state.seen if state.early_seen is None else state.early_seen, state.seen)

    def reset(self) -> None:
        """Forget everything that depends on time; counts stay."""
        self._view.clear()
        self._clock.reset()
        if self._decoder is not None:
            self._note_decoder_drops()
            self._decoder = self._format = None
        with self._lock:
            self._drafted.clear()
        self.account.forget_held()
        self._begin_again()

    def add_packet(self, packet: Packet) -> int:
        """Take a packet's events; returns how many.

        Raises:
            CrossSpecError: the packet cannot be decoded at all; nothing is kept of it and the next one may come.
        """
        self.counts['packets'] += 1
        try:
            return self._add(packet)
        except Exception:
            self.account.drop('refused')
            raise

    def _add(self, packet: Packet) -> int:
        self._use_format(packet)
        if self._last_packet_ns is not None and packet.stamp_ns < self._last_packet_ns - self._grid.span_ns:
            self.counts['time_went_back'] += 1
            self.reset()
            self._use_format(packet)
        self._last_packet_ns = packet.stamp_ns
        if self._next_final == 0:
            # A stream that begins on a window's end has nothing to say about that window.
            self._next_early = self._next_final = self._grid.containing(packet.stamp_ns + 1)[0]
        settled_ns = self._clock.settled(packet.stamp_ns) or NEVER
        refused = self._decoder.refused
        events = self._view.add_packet(packet, self._offset_ns, settled_ns)
        if events:
            self.counts['events'] += events
            self._newest_ns = self._view.newest_ns
        if self._decoder.refused > refused:
            self.account.drop('unusable')                       # the decoder's counts say why
        else:
            self._hold(max(packet.stamp_ns, self._newest_ns or 0) if events else packet.stamp_ns)
        return events

    def _hold(self, newest_ns: int) -> None:
        """A packet whose newest event is of this time waits for the windows that contain it."""
        slot = self._grid.slot_index(newest_ns)
        if self._grid.containing(newest_ns)[-1] < self._next_final:
            self.account.drop('late')
        else:
            self.account.hold(slot)

    def _settle(self, window_id: int) -> None:
        """A window was drafted for the last time: what it saw is used, what lies before it is in no window."""
        last = window_id * self._grid.stride_frames
        for slot in self.account.held():
            if last - self._grid.window_frames < slot <= last:
                self.account.answer(slot)
            elif slot <= last:
                self.account.give_up(slot, 'window_skipped' if self._watch is None else UNCHANGED)

    def _offset_ns(self, first_event_ns: int) -> int:
        """ROS time minus sensor time, from the first event of the newest packet."""
        if self._clock.observe(self._last_packet_ns, first_event_ns):
            self._view.clear()
        return self._clock.offset_ns

    def _use_format(self, packet: Packet) -> None:
        wanted = (packet.encoding, packet.width, packet.height)
        if wanted == self._format:
            return
        decoder = make_decoder(*wanted)                         # raises before anything has changed
        if self._format is not None:
            self.counts['format_changed'] += 1
            self._note_decoder_drops()
        self._decoder, self._format = decoder, wanted
        self._view.use(decoder)

    def _note_decoder_drops(self) -> None:
        for cause, count in self._decoder.dropped.items():
            self.counts[f'dropped_{cause}'] += count

    def statistics(self) -> dict[str, int]:
        """Counts since the start: packets, events, drafts, and what was dropped by cause."""
        counts, decoder = Counter(self.counts), self._decoder   # which the drafting thread may let go meanwhile
        if decoder is not None:
            counts.update({f'dropped_{cause}': count for cause, count in decoder.dropped.items()})
            counts['triggers'] = decoder.trigger_count + self._view.triggers
        counts.update({f'buffer_{cause}': count for cause, count in self._view.dropped.items()})
        counts['clock_jumps'] = self._clock.jumps
        return self.account.balance().entries(PACKETS) | counts

    def warm_up(self) -> None:
        """Compile the event kernels and draft once from nothing, so that no packet and no window pays for it."""
        compile_events()
        self._drafter.draft(self._view.nothing(), prompt=self.prompt, max_tokens=self.max_tokens)

    def due(self, now_ns: int) -> list[DraftJob]:
        """Drafts due at this time, newest windows only: those that a stall has made pointless are counted."""
        if self._last_packet_ns is None:
            return []
        reached_ns = self._newest_ns if self._newest_ns is not None else self._last_packet_ns
        passed_ns = now_ns if now_ns - self._last_packet_ns <= self._idle_ns else self._last_packet_ns
        final = max(reached_ns, passed_ns - self._packet_wait_ns(now_ns)) // self._grid.stride_ns
        if self._watch is not None:
            return self._opened_up_to(final) + self._known_ahead(max(reached_ns, passed_ns))
        jobs = []
        if final >= self._next_final:
            self.counts['windows_skipped'] += max(0, final - 1 - self._next_final)
            jobs += [DraftJob(window) for window in range(max(self._next_final, final - 1), final + 1)]
            self._next_final = final + 1
            self._next_early = max(self._next_early, self._next_final)
        early = (max(reached_ns, passed_ns) + self._lead_ns) // self._grid.stride_ns
        if self._lead_ns and early >= self._next_early:
            jobs.append(DraftJob(early, early=True))
            self._next_early = early + 1
        return jobs

    def _opened_up_to(self, slot: int) -> list[DraftJob]:
        """Drafts of the windows that the scene opens, of slots that ended; the two newest, as of the grid's."""
        if slot < self._next_final:
            return []
        key = prompt_key(self.prompt)
        if key != self._asked:
            self._asked = key
            self._watch.ask_again()
        first = max(self._next_final, slot - self._grid.window_frames + 1)
        self.counts['windows_skipped'] += sum(map(self._speaking.on_beat, range(self._next_final, first)))
        self._next_final = slot + 1
        jobs = []
        for each in range(first, slot + 1):
            end_ns = self._grid.end_ns(each)
            change = self._watch.look(each, self._view.activity(end_ns - self._grid.interval_ns, end_ns))
            self._changes.append(change)
            if change.reason is not Opening.NONE:
                self.counts[f'windows_{change.reason.name.lower()}'] += 1
                jobs.append(DraftJob(each))
                continue
            self.counts['windows_unchanged'] += self._speaking.on_beat(each)
            for held in self.account.held():
                if held <= each - self._grid.window_frames + 1:                 # in no window that may still be opened
                    self.account.give_up(held, UNCHANGED)
        self.counts['windows_skipped'] += max(0, len(jobs) - 2)
        return jobs[-2:]

    def _known_ahead(self, passed_ns: int) -> list[DraftJob]:
        """The early draft of a window of the grid, which is opened whatever the scene does."""
        window = (passed_ns + self._lead_ns) // self._grid.stride_ns
        if not (self._lead_ns and self._speaking.grid_too) or window < max(self._next_early, self._next_final) \
                or not self._speaking.on_beat(window):
            return []
        self._next_early = window + 1
        return [DraftJob(window, early=True)]

    def take_changes(self) -> list[SceneChange]:
        """What is to be told of the slots that `due` has looked at, oldest first; before their drafts are made."""
        changes = list(self._changes)
        self._changes.clear()
        return changes

    def _packet_wait_ns(self, now_ns: int) -> int:
        """How long to wait for the packet that covers a window's end: the grace, or as long as packets take here.

        A camera whose packets span 30 ms needs more than the grace, or each draft would miss the newest events.
        """
        if self._newest_ns != self._covered_ns:
            if self._covered_ns is not None:
                waited_ns = min(max(now_ns - self._covered_ns, 0), self._longest_wait_ns)
                self._wait_ns = max(waited_ns, round(_WAIT_DECAY * self._wait_ns))
            self._covered_ns = self._newest_ns
        return max(self._grace_ns, self._wait_ns)

    def draft(self, job: DraftJob, should_stop: Callable[[], bool] | None = None) -> Draft | None:
        """Draft what is due; None where ``should_stop`` ended it or a newer verdict made it pointless."""
        with self._lock:
            state = self._drafted.setdefault(job.window_id, _Drafted())
            while len(self._drafted) > _KEPT_WINDOWS:
                self._drafted.popitem(last=False)
            prompt, drafter = self.prompt, self._drafter        # read once: another thread may change them
            if prompt != self._asked_from[0]:
                under_way = -(-self._grid.window_frames // self._grid.stride_frames) - 1 + bool(job.committed)
                self._asked_from = prompt, max(self._drafted) + under_way
        seen, used = self._look(job, state)
        branching = {'alternatives': self.alternatives} if getattr(drafter, 'branches', False) else {}
        made = drafter.draft(seen, prompt=prompt, prefix_ids=job.committed, max_tokens=self.max_tokens,
                             should_stop=should_stop, **branching)
        if not job.early and not job.committed:
            self._settle(job.window_id)                         # it was looked at, also where the draft comes too late
        if should_stop is not None and should_stop():           # what it has by now is cut off, and wanted no more
            self.counts['drafts_given_up'] += 1
            return None
        with self._lock:
            revision, state.revisions = state.revisions, state.revisions + 1
            state.token_ids, state.parents = tuple(made.token_ids), tuple(made.parents)
            state.committed = job.committed
        self.counts['drafts'] += 1
        return Draft(
            window_id=job.window_id, window_end_ns=self._grid.end_ns(job.window_id), revision=revision,
            prompt_key=prompt_key(prompt), tokenizer_key=drafter.tokenizer_key, text=made.text,
            token_ids=state.token_ids, parents=state.parents, weights=tuple(made.weights),
            base_length=len(job.committed), base_hash=prefix_hash(job.committed), source=self._source,
            events_used=used, compute_ms=made.compute_ms, trained_for=getattr(drafter, 'verifier_key', ''),
            other_verifier=self.other_verifier)

    def _look(self, job: DraftJob, state: _Drafted) -> tuple[Any, int]:
        """What the drafter sees of the window, and its count of events; a redraft looks at what the draft before saw.
        """
        if job.committed and state.seen is not None:
            return state.seen, state.events_used
        end_ns = self._grid.end_ns(job.window_id) - (self._lead_ns if job.early else 0)
        with TRACER.span('voxel grid', window=job.window_id):
            state.seen, state.events_used = self._view.look(end_ns)
        if job.early:
            state.early_seen = state.seen
        return state.seen, state.events_used

    def on_verdict(self, verdict: Verdict) -> DraftJob | None:
        """What a verdict asks for: a draft from its prefix, where it departs from what was drafted; thread-safe.

        In tokens of another vocabulary there is nothing to go on from.
        """
        self._heard_verifier = verdict.verifier_key or self._heard_verifier
        foreign = verdict.tokenizer_key not in ('', self._drafter.tokenizer_key)
        if foreign or verdict.final or not verdict.committed:
            return None
        with self._lock:
            state = self._drafted.get(verdict.window_id)
            if state is None or state.seen is None or state.redrafts >= self.redrafts \
                    or _follows(state, verdict.committed):
                return None
            state.redrafts += 1
            return DraftJob(verdict.window_id, committed=verdict.committed)


def _follows(state: _Drafted, committed: Sequence[int]) -> bool:
    """Whether the committed tokens lie on a path of what was drafted, so that the draft still holds."""
    base = len(state.committed)
    if tuple(committed[:base]) != state.committed:
        return False
    parents = state.parents or range(-1, len(state.token_ids) - 1)
    children = {(parent, token): node for node, (parent, token) in enumerate(zip(parents, state.token_ids))}
    node = -1
    for token in committed[base:]:
        node = children.get((node, token), -2)
        if node == -2:
            return False
    return True
