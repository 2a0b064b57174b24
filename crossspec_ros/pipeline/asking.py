"""Questions beside the running captions: each on a session of its own that shares the frames' encodings.

Captions go first: a question takes one step, a frame or a pass, while nothing else is to do, and goes on where it was.
"""
from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.history import FrameHistory, Picture
from crossspec_ros.pipeline.agreement import Field, Standing
from crossspec_ros.speculation.constraint import Constraint
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.session import Session
from crossspec_ros.speculation.types import Caption, Stage, prompt_key
from crossspec_ros.tracing.tracer import TRACER

_FIRST_ID = 1 << 62              # far from the numbers of windows


class End(Enum):
    """How a question ended."""

    ANSWERED = 'answered'
    CANCELLED = 'cancelled'
    FAILED = 'failed'


@dataclass(eq=False)
class Question:
    """A question under way. ``partial`` and ``ended`` are called by the inference thread."""

    text: str
    frames: Sequence[Picture]
    constraint: Constraint | None
    draft: str                                                  # newest text of a drafter when it was asked
    partial: Callable[[Caption], None]
    ended: Callable[[End, Caption | None, list[Field], str], None]
    cancelled: bool = False
    complete: bool = False                                      # the model ended the answer by itself
    session: Session | None = field(default=None, repr=False)
    fed: int = 0

    @property
    def key(self) -> str:
        """Names question and form."""
        return prompt_key(f'{self.text}\0{self.constraint.key if self.constraint else ""}')


class Asking:
    """Questions in the order in which they came. `ask` may be called from any thread, `step` from the engine's."""

    def __init__(self, engine: CaptionEngine, history: FrameHistory, waiting: int) -> None:
        self.counts: Counter[str] = Counter()
        self._engine, self._history, self._limit = engine, history, waiting
        self._waiting: deque[Question] = deque()
        self._lock = threading.Lock()
        self._standing = Standing()
        self._next_id = _FIRST_ID

    @property
    def pending(self) -> bool:
        """Whether a question waits or is under way."""
        return bool(self._waiting)

    def ask(self, text: str, stamp_ns: int | None, constraint: Constraint | None, draft: str,
            partial: Callable[[Caption], None],
            ended: Callable[[End, Caption | None, list[Field], str], None]) -> Question:
        """Take a question. Raises `CrossSpecError` where too many wait, frames of that time are not held, or the model
        cannot be asked this."""
        self._engine.check_prompt(text)
        question = Question(text, self._history.clip(stamp_ns), constraint, draft, partial, ended)
        with self._lock:
            if len(self._waiting) >= self._limit:
                self.counts['questions_refused'] += 1
                raise CrossSpecError(f'at most {self._limit} questions may wait (ask.waiting); ask again later')
            self._waiting.append(question)
            self.counts['questions'] += 1
        return question

    def step(self, should_stop: Callable[[], bool]) -> bool:
        """A frame, or a pass and more until ``should_stop()``, of the oldest question; False where there is none."""
        if not self._waiting:
            return False
        question = self._waiting[0]
        try:
            with TRACER.span('question'):
                if question.cancelled:
                    self._end(question, End.CANCELLED)
                elif question.fed < len(question.frames):
                    self._feed(question)
                else:
                    self._answer(question, should_stop)
        except CrossSpecError as error:
            self._end(question, End.FAILED, None, str(error))
        return True

    def _feed(self, question: Question) -> None:
        if question.session is None:
            question.session = self._engine.open(self._next_id, question.frames[-1].stamp_ns, question.text,
                                                 question.constraint)
            self._next_id += 1
        frame = question.frames[question.fed]
        question.session.add_frame(question.fed, frame.stamp_ns, frame.unpack())
        question.fed += 1

    def _answer(self, question: Question, should_stop: Callable[[], bool]) -> None:
        for output in question.session.answer(should_stop=lambda: question.cancelled):
            if not isinstance(output, Caption):
                continue
            if output.stage == Stage.FINAL:
                question.complete = not question.session.cut
                self._end(question, End.ANSWERED, output)
                return
            question.partial(output)
            if should_stop():
                return                                          # it goes on where it is, once there is time again

    def _end(self, question: Question, end: End, caption: Caption | None = None, why: str = '') -> None:
        with self._lock:
            self._waiting.remove(question)
        if question.session is not None:
            question.session.close()
        self.counts[f'questions_{end.value}'] += 1
        fields = self._standing.judge(question.key, caption.text, question.draft) if caption else []
        question.ended(end, caption, fields, why)

    def reset(self, why: str) -> None:
        """Time jumped, or the model goes: open questions end without an answer."""
        for question in list(self._waiting):
            self._end(question, End.FAILED, None, why)
        self._standing.reset()
        self._history.clear()
