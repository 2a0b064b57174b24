"""The qualifier's work by window: a third model, between drafter and verifier, captions frames with the drafter's words
as its drafts, and what it says is a better draft.

It is a `VerifyingPipeline` in a time that is ``lead_ms`` ahead: each of its windows is whole so long before the window
of that name has ended. Nothing of it has to be exact for the caption to be: the verifier checks every word.
"""
from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from crossspec_ros.frames.slots import Frame
from crossspec_ros.models.builtin import model_path
from crossspec_ros.models.drafters.retold import FolderWords, Words, retell
from crossspec_ros.pipeline.frame_latency import AgeBook
from crossspec_ros.pipeline.verifying import VerifyingPipeline
from crossspec_ros.speculation.drafter import check_source
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.sources.foreign import Hypothesis
from crossspec_ros.speculation.target import Target
from crossspec_ros.speculation.types import Caption, Draft, Stage, Verdict, prompt_key
from crossspec_ros.timing.window import WindowGrid

_MS = 1_000_000
_KEPT_WINDOWS, _KEPT_DRAFTS = 8, 16
_KEPT_ANSWERS = 15                                              # by which the verifier's next answer is expected


@dataclass(frozen=True)
class Look:
    """What the qualifier looks at, and when.

    ``grid``: of its frames, whose windows end as those that it speaks of; ``stride_ns`` of the grid by which these are
    numbered on topics; the frames end ``lead_ms`` before the window; ``yield_ms``: how long it rests after a window's
    end for a verifier that has not answered, 0: not at all.
    """

    grid: WindowGrid
    stride_ns: int
    lead_ms: float
    yield_ms: float

    @property
    def numbers(self) -> int:
        """From one of its windows to the next one, in numbers of windows on topics."""
        return self.grid.stride_ns // self.stride_ns


class QualifyingPipeline:
    """Frames, drafts and verdicts in, better drafts out.

    `prepare`, `add_frame`, `offer`, `hear`, `set_prompt` and `request_reset` may be called from any thread; all else
    belongs to the inference thread. A draft comes before the verifier's answer or not at all: before the window's end
    where it rests for the verifier then, else by when the verifier usually has answered. Late ones and those that say
    no more than the draft of another are counted.

    ``words``: of the verifier, where the model has another vocabulary. ``hurried``: no pass is begun that would likely
    end too late; else only the time that the caller tells decides (recordings). Raises CrossSpecError on a bad
    ``source``.
    """

    def __init__(self, inner: VerifyingPipeline, engine: CaptionEngine, look: Look, *, source: str = 'qualifier',
                 words: Words | None = None, hurried: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self._inner, self._engine, self._look, self._words = inner, engine, look, words
        inner.cut = 'window_cut'                                # as it is meant to: no fault of the verifier's kind
        self._source, self._hurried = check_source(source), hurried
        self._lead_ns, self._yield_ns = round(look.lead_ms * _MS), round(look.yield_ms * _MS)
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._over = -1                                     # the newest window that the verifier is done with
            self._heard: OrderedDict[int, list[Draft]] = OrderedDict()
            self._answers_ns: deque[int] = deque(maxlen=_KEPT_ANSWERS)

    # ---- from any thread

    def prepare(self, frame: Frame) -> None:
        """Unpack a frame that is likely to be looked at; then add it. Raises CrossSpecError where it is damaged."""
        frame.stamp_ns += self._lead_ns
        self._inner.prepare(frame)

    def add_frame(self, frame: Frame, now_ns: int) -> None:
        """Queue a frame that was prepared and arrives now."""
        self._inner.add_frame(frame, now_ns + self._lead_ns)

    def offer(self, draft: Draft) -> str | None:
        """Take a drafter's draft. None: taken, or its own; else why it was refused."""
        if draft.source == self._source:
            return None
        window_id, rest = divmod(draft.window_id, self._look.numbers)
        cause = 'other_window' if rest else self._inner.offer(replace(draft, window_id=window_id))
        if cause is None:
            with self._lock:
                heard = self._heard.setdefault(draft.window_id, [])
                heard[:] = [*heard[1 - _KEPT_DRAFTS:], draft]
                while len(self._heard) > _KEPT_WINDOWS:
                    self._heard.popitem(last=False)
        return cause

    def hear(self, verdict: Verdict, now_ns: int) -> None:
        """The verifier has said more of a window, and no more of those before it."""
        with self._lock:
            self._over = max(self._over, verdict.window_id - (not verdict.final))
            if verdict.final:
                self._answers_ns.append(now_ns - verdict.window_end_ns)

    def request_reset(self) -> None:
        """Time jumped back: all that depends on it is forgotten before the next step."""
        self._forget()
        self._inner.request_reset()

    def set_prompt(self, prompt: str) -> None:
        """Ask another question, from the next window on. Raises CrossSpecError where it cannot be asked."""
        self._inner.set_prompt(prompt)

    # ---- from the inference thread

    def advance(self, now_ns: int) -> None:
        """Settle what can be settled at this time."""
        self._inner.advance(now_ns + self._lead_ns)

    def resting(self, now_ns: int) -> bool:
        """Whether the core is the verifier's: a window has ended, and its answer is still to come."""
        ended = now_ns // self._look.grid.stride_ns
        return now_ns - ended * self._look.grid.stride_ns < self._yield_ns and not self._is_over(ended)

    def feed(self) -> bool:
        """Hand one frame to the model; False where none waits."""
        return self._inner.feed()

    def ready(self) -> int | None:
        """The window to speak of now; its number is the pipeline's own."""
        return self._inner.ready()

    def qualify(self, window_id: int, now_ns: Callable[[], int], should_stop: Callable[[], bool]) -> Draft | None:
        """The draft of a window that is ready; None where it comes too late, or nobody needs it.

        Raises CrossSpecError as the engine does; the window is then gone.
        """
        def stop() -> bool:
            return should_stop() or self._is_over(window_id) or self.resting(now_ns())

        deadline_ns = self._deadline_ns(window_id)
        left_ns = deadline_ns - now_ns() if self._hurried and deadline_ns is not None else None
        prompt, said = self._inner.prompt_of(window_id), None
        for output in self._inner.answer(window_id, stop, left_ns):
            if isinstance(output, Caption):
                said = output
        if should_stop():
            self.counts['drafts_given_up'] += 1
            return None
        if said is None or self._is_over(window_id) or deadline_ns is not None and now_ns() >= deadline_ns:
            self.counts['qualifier_late'] += 1
            return None
        return self._needed(self._draft(window_id, prompt, said))

    def _is_over(self, window_id: int) -> bool:
        return self._over >= window_id * self._look.numbers

    def _deadline_ns(self, window_id: int) -> int | None:
        """When a draft of this window is of no use any more, as far as that is known."""
        end_ns = self._look.grid.end_ns(window_id)
        if self._yield_ns:
            return end_ns
        with self._lock:
            return end_ns + round(median(self._answers_ns)) if self._answers_ns else None

    def _draft(self, window_id: int, prompt: str, said: Caption) -> Draft:
        target = self._engine.target
        complete = said.stage is Stage.FINAL and len(said.token_ids) < self._engine.config.max_new_tokens
        if self._words is None:
            key, token_ids = target.tokenizer_key, said.token_ids + tuple(sorted(target.eos_ids)[:1] * complete)
        else:
            key, token_ids = self._words.key, retell(self._words, said.text, complete=complete)
        number = window_id * self._look.numbers
        with self._lock:
            revision = 1 + max((draft.revision for draft in self._heard.get(number, ())), default=-1)
        return Draft(window_id=number, window_end_ns=said.window_end_ns, revision=revision,
                     prompt_key=prompt_key(prompt), tokenizer_key=key, text=said.text, token_ids=token_ids,
                     source=self._source, compute_ms=said.stage_ms['total'])

    def _needed(self, draft: Draft) -> Draft | None:
        """The draft, unless it says nothing, or nothing that a drafter has not said before."""
        with self._lock:
            heard = list(self._heard.get(draft.window_id, ()))
        if not draft.token_ids or any(_holds(each, draft) for each in heard):
            self.counts['qualifier_same'] += 1
            return None
        self.counts['drafts'] += 1
        return draft

    # ---- what is told

    @property
    def ages(self) -> AgeBook:
        """Ages of frames at each stage; another book may be set."""
        return self._inner.ages

    @ages.setter
    def ages(self, book: AgeBook) -> None:
        self._inner.ages = book

    @property
    def latency_ns(self) -> int | None:
        """Median from stamp to arrival of the newest frames; None while it is not known."""
        return self._inner.latency_ns

    def statistics(self) -> dict[str, int]:
        """Counts since the start: frames, drafts heard, published and not, windows by cause, passes and tokens."""
        inner = self._inner.statistics()
        inner['drafts_heard'] = inner.pop('drafts', 0)
        counters = self._engine.counters
        return inner | {'drafts': 0, 'qualifier_late': 0, 'qualifier_same': 0} | self.counts | {
            'qualifier_passes': counters.target_passes, 'qualifier_tokens': counters.tokens}


def words_of(speaks: str, target: Target) -> Words | None:
    """The vocabulary of the verifier in this folder (or builtin); None where it is the target's own, or none is named.

    Raises CrossSpecError for a folder that is not there or has no tokenizer.
    """
    words = FolderWords(model_path(speaks, 'verifier')) if speaks else None
    return None if words is None or words.key == target.tokenizer_key else words


def _holds(draft: Draft, other: Draft) -> bool:
    """Whether a draft says all that the other one does."""
    if draft.base_length or draft.prompt_key != other.prompt_key:
        return False
    if draft.tokenizer_key != other.tokenizer_key:
        return draft.text.startswith(other.text)
    return Hypothesis.of(draft).along(other.token_ids)[1] == 0
