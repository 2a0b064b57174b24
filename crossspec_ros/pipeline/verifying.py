"""The verifier's work by window: frames to slots, slots into the engine as they settle, answers to whole windows.

Time here is ROS time in ns. Nothing here waits or reads a clock but for elapsed compute: the caller says what time it
is, so a recording gives the same captions each time.
"""
from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.history import FrameHistory
from crossspec_ros.frames.slots import SKIPPED, Frame, FrameSlots, Slot
from crossspec_ros.pipeline.account import FORGOTTEN, FRAMES, UNCHANGED, Account
from crossspec_ros.pipeline.frame_latency import ENCODED, PREFILLED, RECEIVED, UNPACKED, AgeBook
from crossspec_ros.pipeline.open_window import Answered, OpenWindow, caption_first
from crossspec_ros.pipeline.openings import Openings, RecentFrames, confirmed
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.types import Caption, Draft, Opening, SceneChange, Stage, Verdict
from crossspec_ros.timing.when import Speaking
from crossspec_ros.timing.window import WindowGrid
from crossspec_ros.tracing.tracer import TRACER

_MS = 1_000_000


class VerifyingPipeline:
    """Frames and drafts in, captions and verdicts out, by windows; the newest window wins.

    `add_frame` and `offer` may be called from any thread; all else belongs to the inference thread. A slot without a
    frame repeats the one before it (or, at a window's start, the one after it). A window with frames in fewer than half
    of its slots is given up, as is one that a newer whole window overtakes: the newer is as far into the engine, or is
    answered first. One that is further goes on: where windows come faster than they are answered, none would ever be.
    ``account`` is told what became of each frame that was received; ``ages`` how old frames are at each stage;
    ``history`` keeps the frames of settled slots for questions.

    ``speaking``: the drafter says which windows are opened (`hear`); a window may end at each slot of the grid, whose
    stride is 1. Such a window is made when it is told of, of frames that were encoded when they came. Where nothing has
    changed, `take_confirmed` has the last words again, STILL_VALID.
    """

    cut = 'window_unfinished'                                   # what became of a window whose answer ended early

    def __init__(self, engine: CaptionEngine, grid: WindowGrid, prompt: str, *, frame_grace_ms: float = 60.0,
                 frame_grace_max_ms: float | None = None, queue: int = 32, timeout_ms: float = 30000.0,
                 newest_wins: bool = True, account: Account | None = None,
                 history: FrameHistory | None = None, speaking: Speaking | None = None) -> None:
        self.prompt = prompt
        self.account, self.ages = account or Account(), AgeBook()
        self.history = history
        self.counts: Counter[str] = Counter()
        self.last_answered: Answered | None = None
        self._engine, self._grid, self._newest_wins = engine, grid, newest_wins
        self._timeout_ns = round(timeout_ms * _MS)
        self._slots = FrameSlots(grid, round(frame_grace_ms * _MS),
                                 None if frame_grace_max_ms is None else round(frame_grace_max_ms * _MS))
        self._queue: deque[tuple[Frame, int | None]] = deque()      # with the time of arrival
        self._queue_limit = queue
        self._lock = threading.Lock()
        self._windows: dict[int, OpenWindow] = {}
        self._newest_opened = -1
        self._last_frame: Frame | None = None
        self._newest_stamp_ns: int | None = None
        self._reset_wanted = False
        self._openings = None if speaking is None else Openings(speaking)
        self._ahead = (lambda window_id: True) if self._openings is None else self._openings.ahead
        self._recent = RecentFrames(grid.window_frames)
        self._to_encode: deque[Frame] = deque(maxlen=grid.window_frames)
        self._known: deque[int] = deque(maxlen=64)              # windows opened lately
        self._words: tuple[Caption, str] | None = None          # the last final caption, and what it answers
        self._confirmed: list[Caption] = []

    # ---- from any thread

    def prepare(self, frame: Frame) -> None:
        """Unpack a frame that is likely to be looked at, so that the inference thread need not; then add it.

        Likely: at the pace of this frame and the one before it, the next will be in a later slot. Raises CrossSpecError
        where the frame is damaged.
        """
        with self._lock:
            before_ns, self._newest_stamp_ns = self._newest_stamp_ns, frame.stamp_ns
        next_ns = 2 * frame.stamp_ns - before_ns if before_ns is not None else None
        if next_ns is None or next_ns <= frame.stamp_ns \
                or self._grid.slot_index(next_ns) > self._grid.slot_index(frame.stamp_ns):
            self._unpack(frame)

    def _unpack(self, frame: Frame) -> None:
        if frame.is_packed:
            with TRACER.span('unpack', stamp_ns=frame.stamp_ns):
                frame.unpack()
            self._pass(UNPACKED, frame)

    def _pass(self, stage: str, frame: Frame, elapsed_ns: int | None = None) -> None:
        self.ages.note(stage, frame.passes(stage, time.perf_counter_ns() if elapsed_ns is None else elapsed_ns))

    def add_frame(self, frame: Frame, now_ns: int | None = None) -> None:
        """Queue a frame that arrives now (None: there is no clock); the oldest goes where the queue is full."""
        self._pass(RECEIVED, frame)
        with self._lock:
            if len(self._queue) >= self._queue_limit:
                self._queue.popleft()
                self.account.drop('overflow')
            self._queue.append((frame, now_ns))
            self.counts['frames'] += 1

    def offer(self, draft: Draft) -> str | None:
        """Hand a draft to the engine, which also keeps those of windows to come. None: taken, else why it was refused.
        """
        cause = 'foreign_window'
        if draft.window_end_ns == self._grid.end_ns(draft.window_id):
            cause = self._engine.offer(draft)
        with self._lock:
            self.counts['drafts'] += 1
            if cause is not None:
                self.counts[f'draft_{cause}'] += 1
        return cause

    def hear(self, change: SceneChange) -> str | None:
        """Take what the drafter says of a slot. None: taken, else why it was refused."""
        if self._openings is None or change.window_end_ns != self._grid.end_ns(change.window_id):
            with self._lock:
                self.counts['change_foreign_window'] += 1
            return 'foreign_window'
        self._openings.hear(change)
        return None

    def request_reset(self) -> None:
        """Time jumped back: everything that depends on it is forgotten before the next step."""
        with self._lock:
            self._reset_wanted = True
            self.account.drop(FORGOTTEN, len(self._queue))
            self._queue.clear()

    @property
    def reset_wanted(self) -> bool:
        """Whether the next `advance` forgets everything first."""
        return self._reset_wanted

    def has_frames(self) -> bool:
        """Whether frames wait; rehearsals stop for them."""
        return bool(self._queue) or self._reset_wanted

    # ---- from the inference thread

    def advance(self, now_ns: int | None = None) -> None:
        """Settle what can be settled at this time (None: by the frames' stamps alone)."""
        with self._lock:
            frames, wanted = list(self._queue), self._reset_wanted
            self._queue.clear()
            self._reset_wanted = False
        if wanted:
            self.reset()
        for frame, arrival_ns in frames:
            newest = self._slots.newest_ns
            if newest is not None and frame.stamp_ns < newest - self._grid.span_ns:
                self.counts['time_went_back'] += 1
                self.reset()
            cause = self._slots.add(frame, arrival_ns)
            if cause is not None:
                self.account.drop(cause)
        skipped = self._slots.skipped
        settled = self._slots.settle(now_ns)
        self.account.drop(SKIPPED, self._slots.skipped - skipped)
        for place, slot in enumerate(settled):
            try:
                self._place(slot)
            except Exception:                                   # no window could be opened: the node tells why
                self.account.drop('failed', sum(each.frame is not None for each in settled[place:]))
                raise
        if settled:
            self._drop_passed(settled[-1].index)
        self._follow_changes()

    def _place(self, slot: Slot) -> None:
        """Put a settled slot into every window that contains it."""
        own = self._sound(slot.frame)
        TRACER.instant('slot settled', slot=slot.index, stamp_ns=own and own.stamp_ns)
        if own is not None:
            self._last_frame = own
            if self.history is not None:
                self.history.add(slot.index, own)
        frames, stride = self._grid.window_frames, self._grid.stride_frames
        first = -(-slot.index // stride)
        inside: list[tuple[int, OpenWindow]] = []
        for window_id in range(first, (slot.index + frames - 1) // stride + 1):
            window = self._windows.get(window_id)
            if window is None:
                if own is None or window_id <= self._newest_opened or not self._ahead(window_id):
                    continue                                    # no frame to begin with, given up, or to be told of
                window = self._open(window_id)
            inside.append((window_id, window))
        if own is not None and (inside or self._openings is not None):
            self.account.hold(slot.index, len(inside) + (self._openings is not None))
        elif own is not None:
            self.account.drop('no_window')
        for window_id, window in inside:
            position = slot.index - (window_id * stride - frames + 1)
            if own is not None:
                window.own.append(slot.index)
            window.frames[position] = own or self._last_frame
            if position == frames - 1:
                self._complete(window_id, window)
        if self._openings is not None:
            self._keep(slot.index, own)

    def _keep(self, slot: int, own: Frame | None) -> None:
        """Keep a slot's frame for windows that may be opened."""
        for passed in self._recent.add(slot, own):
            self.account.give_up(passed, UNCHANGED)
        if own is not None:
            self._to_encode.append(own)
        if self._openings.alone(slot):
            self._open_late(slot)

    def _follow_changes(self) -> None:
        for change in self._openings.take(self._recent.newest) if self._openings is not None else ():
            if change.reason is not Opening.NONE:
                self._open_late(change.window_id, change.scene_id)
            elif self._openings.speaking.on_beat(change.window_id) and not change.changed:
                self._confirm(change)

    def _open_late(self, window_id: int, scene_id: int = 0) -> None:
        """Open a window whose slots are all settled."""
        if window_id in self._known:
            return
        frames, own, left_out = self._recent.window(window_id, scene_id)
        if not own:
            self.counts['window_few_frames'] += 1
            return
        window = self._open(window_id)
        window.frames, window.own, window.left_out = frames, own, left_out
        for slot in own:
            self.account.join(slot)
        self._complete(window_id, window)

    def _confirm(self, change: SceneChange) -> None:
        """Say that the last words still hold, or open a window where there are none of this scene and question."""
        words, prompt = self._words or (None, '')
        coming = any(window_id >= change.reference_id for window_id in self._windows)
        if not coming and (words is None or prompt != self.prompt or words.window_id < change.reference_id):
            self.counts['windows_unconfirmed'] += 1
            self._open_late(change.window_id)
            return
        self.counts['windows_unchanged'] += 1
        if not coming:
            self._confirmed.append(confirmed(words, change.window_id, change.window_end_ns))

    def take_confirmed(self) -> list[Caption]:
        """Words that still hold, STILL_VALID, oldest first."""
        found, self._confirmed = self._confirmed, []
        return found

    def _sound(self, frame: Frame | None) -> Frame | None:
        """The frame, if there is one and it can be unpacked."""
        try:
            if frame is not None:
                self._unpack(frame)
        except CrossSpecError:
            self.account.drop('damaged')
            return None
        return frame

    def _open(self, window_id: int) -> OpenWindow:
        prompt = self.prompt                                         # read once: another thread may change it
        session = self._engine.open(window_id, self._grid.end_ns(window_id), prompt)
        window = self._windows[window_id] = OpenWindow(session, [None] * self._grid.window_frames, prompt)
        self._newest_opened = max(self._newest_opened, window_id)
        self._known.append(window_id)
        if self._openings is not None:
            self._openings.opened(window_id)
        return window

    def _complete(self, window_id: int, window: OpenWindow) -> None:
        if 2 * (len(window.own) + window.left_out) < self._grid.window_frames:
            self._give_up(window_id, 'few_frames')
            return
        window.fill_start()
        for i in range(1, len(window.frames)):
            window.frames[i] = window.frames[i] or window.frames[i - 1]
        window.whole = True
        TRACER.instant('window whole', window=window_id)
        if self._newest_wins:
            self._overtake(window_id, fed_most=window.fed)

    def _overtake(self, window_id: int, fed_most: int) -> None:
        """Give up older whole windows of which no more frames are in the engine than this."""
        for older in [key for key, window in self._windows.items() if key < window_id and window.whole]:
            if self._windows[older].fed <= fed_most:
                self._give_up(older, 'overtaken')

    def _drop_passed(self, index: int) -> None:
        """Give up windows that ended in a gap too long to be settled slot by slot."""
        for window_id in [key for key, window in self._windows.items()
                          if not window.whole and key * self._grid.stride_frames <= index]:
            self._give_up(window_id, 'few_frames')

    def _give_up(self, window_id: int, cause: str) -> None:
        self.counts[f'window_{cause}'] += 1
        window = self._windows.pop(window_id)
        window.session.close()
        for slot in window.own:
            self.account.give_up(slot, f'window_{cause}')

    def feed(self) -> bool:
        """Hand one frame to the engine, of the most urgent window that has one; False where none waits."""
        for window_id in sorted(self._windows, key=lambda key: (not self._windows[key].whole, key)):
            window = self._windows[window_id]
            if window.fed == 0 and window.frames[0] is None:
                window.fill_start()
            if window.fed < len(window.frames) and window.frames[window.fed] is not None:
                frame = window.frames[window.fed]
                try:
                    with TRACER.span('feed', window=window_id, slot=window.fed, stamp_ns=frame.stamp_ns):
                        window.session.add_frame(window.fed, frame.stamp_ns, frame.unpack())
                except CrossSpecError:
                    self._give_up(window_id, 'frame_refused')
                    raise
                window.fed += 1
                self._note_stages(window)
                return True
        if not self._to_encode:
            return False
        frame = self._to_encode.popleft()
        try:
            with TRACER.span('encode', stamp_ns=frame.stamp_ns):
                ahead = self._engine.encode_ahead(self.prompt, frame.stamp_ns, frame.unpack())
            if ahead:
                self._pass(ENCODED, frame)
        except CrossSpecError:                                  # the window that is given it will say so
            self.counts['frames_not_ahead'] += 1
        return True

    def _note_stages(self, window: OpenWindow) -> None:
        """Which frames a session has encoded and put into its cache by now."""
        encoded, prefilled = window.session.reached
        for frame in window.frames[:encoded]:
            self._pass(ENCODED, frame, window.session.encoded_ns)
        for frame in window.frames[:prefilled]:
            self._pass(PREFILLED, frame)

    def ready(self) -> int | None:
        """The window to answer now: whole and in the engine; the newest, or the oldest where none may be skipped."""
        whole = [key for key, window in self._windows.items() if window.whole and window.fed == len(window.frames)]
        if not whole:
            return None
        return max(whole) if self._newest_wins else min(whole)

    @property
    def waiting_ns(self) -> int | None:
        """End of the oldest whole window that is not answered yet; None: there is none."""
        whole = [key for key, window in self._windows.items() if window.whole]
        return self._grid.end_ns(min(whole)) if whole else None

    def prompt_of(self, window_id: int) -> str:
        """What an open window asks."""
        return self._windows[window_id].prompt

    def answer(self, window_id: int, should_stop: Callable[[], bool] | None = None, left_ns: int | None = None
               ) -> Iterator[Caption | Verdict]:
        """Answer a window: captions and verdicts as they are verified, the last caption before its verdict; no pass
        starts once ``should_stop()``, nor one that would likely end more than ``left_ns`` from now. Raises
        CrossSpecError; the window is then gone.
        """
        window = self._windows[window_id]
        if self._newest_wins:
            self._overtake(window_id, fed_most=len(window.frames))
        final, frames_repeated = False, len(window.frames) - len({id(frame) for frame in window.frames})
        try:
            given_ns = self._timeout_ns if left_ns is None else min(left_ns, self._timeout_ns)
            for output in caption_first(window.session.answer(
                    deadline_ns=time.perf_counter_ns() + given_ns,
                    should_stop=lambda: self._reset_wanted or should_stop is not None and should_stop())):
                self._note_stages(window)                       # the first pass put the newest frames into the cache
                if isinstance(output, Caption) and output.stage == Stage.FINAL:
                    final = True
                    self.counts['frames_repeated'] += frames_repeated
                    frames = tuple(frame.unpack() for frame in window.frames)
                    self._words = output, window.prompt
                    self.last_answered = Answered(window_id, frames, window.prompt, output.token_ids)
                yield output
        finally:
            self.counts['windows' if final else self.cut] += 1
            window.session.close()
            if self._windows.pop(window_id, None) is not None:  # else a reset has told already
                for slot in window.own:
                    if final:
                        self.account.answer(slot)
                    else:
                        self.account.give_up(slot, self.cut)

    def rehearse(self, should_stop: Callable[[], bool]) -> bool:
        """Rehearse the oldest window that is not whole yet and has new frames; False where there is none.

        Where there is none, the tree of the next answer is made ready with the drafts that have come by now.
        """
        waiting = [window_id for window_id in sorted(self._windows) if not self._windows[window_id].whole]
        for window_id in waiting:
            window = self._windows[window_id]
            if window.fed > window.rehearsed:
                window.rehearsed = window.fed
                with TRACER.span('rehearse', window=window_id):
                    window.session.rehearse(lambda: should_stop() or self.has_frames())
                return True
        return bool(waiting) and self._windows[waiting[0]].session.prepare()

    def set_prompt(self, prompt: str) -> None:
        """Ask another question, from the next window to open on. Raises CrossSpecError where it cannot be asked."""
        if not prompt.strip():
            raise CrossSpecError('prompt must not be empty')
        self._engine.check_prompt(prompt)
        self.prompt = prompt

    def reset(self) -> None:
        """Forget windows, frames and all that the engine remembers; counts stay."""
        self._engine.reset()
        self._windows.clear()
        self.account.forget_held()
        self.account.drop(FORGOTTEN, self._slots.reset())
        self._newest_opened = -1
        self._last_frame = None
        self._words = None
        for kept in (self._recent, self._to_encode, self._known, self._confirmed):
            kept.clear()
        if self._openings is not None:
            self._openings.reset()
        if self.history is not None:
            self.history.clear()
        self.ages.reset()
        self.counts['resets'] += 1

    def statistics(self) -> dict[str, int]:
        """Counts since the start: frames, drafts refused by cause, windows answered and given up by cause."""
        with self._lock:
            return self.account.balance().entries(FRAMES) | self.counts

    @property
    def latency_ns(self) -> int | None:
        """Median from stamp to arrival of the newest frames; None while it is not known."""
        return self._slots.latency.median_ns

    @property
    def wait_ns(self) -> int:
        """How long past a slot's end its frame is waited for."""
        return self._slots.wait_ns
