"""Several cameras, one model: whose work is done next. One thread, so that the model serves one at a time.

A camera with a whole window waits for its turn; among those that wait, the one whose last turn is longest ago is next
(the oldest window where none had one yet). A turn lasts until a window is answered or given up. So of two cameras that
always wait, neither gets ahead by more than one turn, however late the frames of one are or how long its answers; to go
by the age of windows alone would let the camera with the latest frames be next for ever. Where nobody waits, all
prepare their next windows, a step each in rotation.
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Work:
    """What a camera lets be called, by the one thread.

    ``settle`` takes in what has come; ``waiting_ns`` is the end of its oldest whole window, None without one; ``step``
    does one piece of work and returns whether there may be more; ``failed`` hears what the others raised; ``busy``,
    from any thread, tells whether something has come that is not taken in.
    """

    settle: Callable[[], None]
    waiting_ns: Callable[[], int | None]
    step: Callable[[], bool]
    failed: Callable[[Exception], None]
    busy: Callable[[], bool]


class Turn:
    """A camera's place among the others; made by `Turns.join`."""

    def __init__(self, turns: Turns, work: Work) -> None:
        self.work = work
        self.taken = 0                                          # turns
        self.last = -1                                          # number of its last turn among all
        self._turns, self._stopping = turns, False

    @property
    def stopping(self) -> bool:
        """Whether the end was asked for; long steps look at it."""
        return self._stopping

    def wake(self) -> None:
        """There is work."""
        self._turns.wake()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Leave after the current step."""
        self._stopping = True
        self._turns.leave(self, timeout_s)

    def others_busy(self) -> bool:
        """Whether something has come for another camera."""
        return any(turn.work.busy() for turn in self._turns.members if turn is not self)


class Turns:
    """The thread, and who takes turns in it. ``model_lock`` is held while it works; hold it to use the model
    elsewhere."""

    def __init__(self, idle_s: float = 0.01) -> None:
        self.model_lock = threading.RLock()
        self.members: tuple[Turn, ...] = ()
        self._numbers = count()
        self._rotation = 0
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def join(self, work: Work) -> Turn:
        """Take part from now on; a newcomer is behind nobody who waits for the first time."""
        turn = Turn(self, work)
        with self._lock:
            self.members = (*self.members, turn)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name='turns', daemon=True)
                self._thread.start()
        return turn

    def leave(self, turn: Turn, timeout_s: float) -> None:
        """Take part no more. Waits for a step under way, ``timeout_s`` at most."""
        with self._lock:
            self.members = tuple(member for member in self.members if member is not turn)
        self.wake()
        if threading.current_thread() is not self._thread and self.model_lock.acquire(timeout=timeout_s):
            self.model_lock.release()

    def wake(self) -> None:
        """There is work."""
        self._wake.set()

    def close(self, timeout_s: float = 10.0) -> None:
        """End the thread after its current step."""
        self._closed.set()
        self.wake()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def round(self) -> bool:
        """One piece of work of whoever is next; False where nobody has any."""
        with self.model_lock:
            members = [turn for turn in self.members if self._try(turn, turn.work.settle) is not False]
            waiting = [(turn.last, end_ns, place, turn) for place, turn in enumerate(members)
                       if (end_ns := turn.work.waiting_ns()) is not None]
            if waiting:
                self._serve(min(waiting)[3])
                return True
            for place in range(len(members)):
                turn = members[(self._rotation + place) % len(members)]
                if self._try(turn, turn.work.step):
                    self._rotation = (self._rotation + place + 1) % len(members)
                    return True
        return False

    def _serve(self, turn: Turn) -> None:
        """A step of a turn, which ends with the window that waited, or where the step fails or has nothing to do."""
        before_ns = turn.work.waiting_ns()
        if not self._try(turn, turn.work.step) or turn.work.waiting_ns() != before_ns:
            turn.taken += 1
            turn.last = next(self._numbers)

    @staticmethod
    def _try(turn: Turn, do: Callable[[], bool | None]) -> bool | None:
        """What ``do`` returns; False where the camera has left or it failed, which the camera is told."""
        if turn.stopping:
            return False
        try:
            return do()
        except Exception as error:  # noqa: BLE001 - one camera's trouble must not end the others
            if not turn.stopping:
                turn.work.failed(error)
            return False

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.clear()
            if not self.round():
                self._wake.wait(self._idle_s)
