"""Learning while driving, seen from the drafter: what goes to the process that learns, and what comes back.

That process (`learn.online_process`) is a child of its own, so that neither its Python nor its kernels stand in the way
of a draft, and its memory and time can be bounded. It is sent each verified window with what the drafter saw of it, and
gives back weights that draft better; which drafter is active is decided here. Whatever it does or says changes drafts
only: the verifier decides every token.
"""
from __future__ import annotations

import math
import os
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from crossspec_ros import children
from crossspec_ros.config import OnlineConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import EventDrafter
from crossspec_ros.models.drafter_folder import refuse_other_folder, save_drafter
from crossspec_ros.pipeline.drafting import DraftingPipeline, Looked
from crossspec_ros.pipeline.learning_messages import (Begin, Better, Heard, Report, RolledBack, weights_of,
                                                     with_weights)
from crossspec_ros.resources import python_path
from crossspec_ros.speculation.types import Verdict

PROCESS = 'crossspec_ros.learn.online_process'
_WAITING = 8                     # verified windows that wait to be sent; the oldest go
_UNDER_WAY = 4                   # sent, and not yet looked at
_KEPT = 4                        # drafters that can be rolled back to, the one that was loaded among them
_AGAIN_S = 10.0                  # a process that ended is started again, but not sooner than this after its start
_MOST = float(np.finfo(np.float16).max)      # of a cell, as it is sent
_MISSING = 0.05                  # share of the verifier's tokens; with more missing it is said


class LearningProcess:
    """The process that learns, and the connection to it; ``priority`` as in `learn.online_priority`."""

    def __init__(self, priority: str) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [sys.executable, '-m', PROCESS, str(theirs.fileno()), priority]
            self._child = children.start(command, _environment(), pass_fds=(theirs.fileno(),))
            self.link = Connection(ours.detach())
        self.sent = self.taken = 0
        self.since_s = time.monotonic()

    def kill(self) -> None:
        """End it: it holds nothing that must be kept. A thread that is sending to it gets an OSError."""
        self._child.kill()
        self._child.wait()


def _environment() -> dict[str, str]:
    """The parent's, with one thread and no GPU: its memory is for the models that drive."""
    path = python_path(os.environ.get('PYTHONPATH', ''))
    return os.environ | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'MALLOC_ARENA_MAX': '2',
                         **({'PYTHONPATH': path} if path else {})}


class OnlineLearning:
    """Sends what was verified to the process that learns, and puts what it learned into the pipeline.

    `step` belongs to one thread, in which the process also starts; all else may be called from any. ``say`` is told in
    a sentence of each change. Raises CrossSpecError where the drafter is of a kind that cannot learn.
    """

    def __init__(self, pipeline: DraftingPipeline, config: OnlineConfig, say: Callable[[str], None]) -> None:
        if not isinstance(pipeline.drafter, EventDrafter):
            raise CrossSpecError('learn.online must be false beside a drafter that is no event drafter, got '
                                 f'{type(pipeline.drafter).__name__}')
        self._pipeline, self._config, self._say = pipeline, config, say
        self._counts: Counter[str] = Counter()
        self._waiting: deque[tuple[Verdict, Looked]] = deque()
        self._versions: list[EventDrafter] = []                 # active before, oldest first
        self._generation = 0                                    # rises with each roll back: what is older is void
        self._rolled_back = self._closing = False
        self._process: LearningProcess | None = None
        self._begun_s = -math.inf
        self._report = Report()
        self._lock = threading.Lock()

    # ---- any thread

    def hear(self, verdict: Verdict) -> None:
        """Take what the verifier said last of a window; quick."""
        if not verdict.final:
            return
        looked = self._pipeline.looked_at(verdict.window_id)
        with self._lock:
            self._counts['heard'] += 1
            if verdict.tokenizer_key not in ('', self._pipeline.drafter.tokenizer_key):
                self._counts['other_tokens'] += 1
            elif looked is None:
                self._counts['forgotten'] += 1
            elif not verdict.committed:
                self._counts['empty'] += 1
            else:
                self._waiting.append((verdict, looked))
                if len(self._waiting) > _WAITING:
                    self._waiting.popleft()
                    self._counts['overflow'] += 1

    def roll_back(self) -> str:
        """Draft with the drafter of before the last change again. Raises CrossSpecError where there was none."""
        with self._lock:
            if not self._versions:
                raise CrossSpecError('nothing to roll back to: the drafter that was loaded is active')
            self._pipeline.adopt(self._versions.pop())
            self._generation += 1
            self._rolled_back = True
            self._counts['rolled_back'] += 1
            return f'rolled back; {len(self._versions)} earlier drafters are kept'

    def save(self) -> str:
        """Write the active drafter to its folder, whole or not at all. Raises CrossSpecError where it cannot be."""
        folder, drafter = Path(self._config.folder).absolute(), self._pipeline.drafter
        refuse_other_folder(folder)
        save_drafter(drafter, folder)
        with self._lock:
            self._counts['saved'] += 1
        return f'{folder}: load it as drafter_model:={folder}'

    def statistics(self) -> dict[str, int | float | str]:
        """Counts and figures, each name with learn_ before it."""
        with self._lock:
            values: dict[str, int | float | str] = dict.fromkeys(
                ('heard', 'sent', 'forgotten', 'other_tokens', 'empty', 'overflow', 'lost', 'swaps', 'rolled_back',
                 'saved', 'restarts'), 0)
            values |= {**self._counts, 'waiting': len(self._waiting), **self._report.values}
        return {f'learn_{name}': value for name, value in values.items()}

    def warnings(self) -> dict[str, str]:
        """What a person should know, by a name that stays while it holds."""
        found, values = {}, self._report.values
        if self._report.trouble:
            found['learn_stopped'] = f'learning while driving has stopped: {self._report.trouble}'
        if self._counts['other_tokens']:
            found['learn_other_tokens'] = ('the verifier speaks tokens of another vocabulary, which this drafter '
                                           'cannot learn while driving; learn a drafter with `crossspec learn`')
        missing, words = values.get('words_missing', 0), values.get('words', 0)
        if missing > _MISSING * words:
            found['learn_words_missing'] = (f'{missing} of {words} tokens that the verifier said are not among this '
                                            'drafter\'s words; learn a drafter with `crossspec learn`')
        return found

    def open(self) -> None:
        """Learn again after `close`."""
        self._ended()
        self._closing, self._report, self._begun_s = False, Report(), -math.inf

    def close(self) -> None:
        """End the process, so that the thread in `step` comes back; then `step` does nothing until `open`."""
        self._closing = True
        process = self._process
        if process is not None:
            process.kill()

    # ---- one thread

    def step(self) -> bool:
        """Start the process where there is none, send what waits and take what came; True where there may be more."""
        if self._closing or self._report.trouble:
            return False
        try:
            process = self._process or self._start()
            return process is not None and any((self._receive(process), self._send(process)))
        except (OSError, EOFError):
            self._ended()
            return False

    def _start(self) -> LearningProcess | None:
        if time.monotonic() - self._begun_s < _AGAIN_S:
            return None
        self._begun_s = time.monotonic()
        process = self._process = LearningProcess(self._config.online_priority)
        if self._closing:                                       # `close` may have seen none
            process.kill()
        with self._lock:
            drafter, generation, self._rolled_back = self._pipeline.drafter, self._generation, False
        process.link.send(Begin(self._config, drafter.config, drafter.tokenizer.to_str(), weights_of(drafter),
                                generation))
        return process

    def _ended(self) -> None:
        """Let go of a process that has ended, and count what it took with it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.link.close()
        with self._lock:
            self._counts['lost'] += process.sent - process.taken
            self._counts['restarts'] += not self._closing
        if not self._closing:
            self._say('the process that learns has ended; it is started again with the active drafter')

    def _receive(self, process: LearningProcess) -> bool:
        if not process.link.poll():
            return False
        message = process.link.recv()
        if isinstance(message, Better):
            self._adopt(message)
        else:
            process.taken = message.taken
            self._report = message
        return True

    def _adopt(self, better: Better) -> None:
        with self._lock:
            if better.generation != self._generation:
                return
            active = self._pipeline.drafter
            key = better.verifier_key or active.config.verifier_key
            name = active.config.verifier if key == active.config.verifier_key else ''
            config = replace(active.config, verifier_key=key, verifier=name)
            drafter = with_weights(EventDrafter(config, active.tokenizer), better.weights)
            self._pipeline.adopt(drafter.to(active.embed.weight.device))
            self._versions.append(active)
            if len(self._versions) > _KEPT:
                del self._versions[1]
            self._counts['swaps'] += 1
        self._say(f'the drafter that learned takes over: {better.tau_after:.2f} tokens a pass instead of '
                  f'{better.tau_before:.2f} over the last {better.windows} windows')

    def _send(self, process: LearningProcess) -> bool:
        with self._lock:
            restored = (weights_of(self._pipeline.drafter), self._generation) if self._rolled_back else None
            self._rolled_back = False
            heard = self._waiting.popleft() if self._waiting and process.sent - process.taken < _UNDER_WAY else None
        if restored is not None:
            process.link.send(RolledBack(*restored))
        if heard is None:
            return restored is not None
        verdict, looked = heard
        with self._lock:
            self._counts['sent'] += 1
        process.sent += 1
        looks = np.stack([looked.early, looked.seen]).clip(-_MOST, _MOST).astype(np.float16)
        process.link.send(Heard(verdict.window_id, looked.prompt, looks, verdict.committed, verdict.verifier_key))
        return True
