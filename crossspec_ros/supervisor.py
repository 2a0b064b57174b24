"""Nodes' processes, looked after: started again when they end by themselves, ended together, their remains removed."""
from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from crossspec_ros import children
from crossspec_ros.nursery import Nursery, SharedNursery
from crossspec_ros.shared_memory import Leftovers

_LOOK_S = 0.1                                                   # between looks at the processes
_END_TIMEOUT_S = 15.0
_RESTART_AFTER_S = (0.0, 1.0, 2.0, 5.0, 10.0)                   # the longer, the more often in a row
_NOTE_S = 0.5                                                   # between looks at what nodes and their dead own
_SWEEP_S = 5.0                                                  # may look at all processes of this host
_STABLE_S = 3.0                                                 # who has lived so long does not end at its start


@dataclass
class _Running:
    """A node's process and its history."""

    command: Sequence[str]
    forked: bool
    process: children.Process
    started_s: float
    failures: int = 0
    restart_at_s: float | None = None


@dataclass
class Supervisor:
    """Starts nodes and ends what it started, each by its own pid.

    ``restart``: nodes that a signal or another exit code than 0 has ended are started again, ``delay_s`` later or
    more: the more often in a row, the later.
    """

    environment: dict[str, str]
    restart: bool
    nursery: Nursery | SharedNursery | None = None
    delay_s: float = 0.0
    running: dict[str, _Running] = field(default_factory=dict)
    ending: bool = False
    leftovers: Leftovers = field(default_factory=Leftovers)
    next_note_s: float = 0.0
    next_sweep_s: float = 0.0

    def start(self, name: str, command: Sequence[str], forked: bool = False) -> None:
        """Start the node of this full name; ``forked`` by the nursery, where there is one."""
        if self.nursery is not None and forked:
            process = self.nursery.start(command)
        else:
            process = children.start(command, self.environment)
        known = self.running.get(name)
        self.running[name] = _Running(command, forked, process, time.monotonic(), known.failures if known else 0)
        _say(f'{name} started, pid {process.pid}')

    def run(self) -> int:
        """Look after the processes until all have ended; the worst exit code."""
        while (code := self.look()) is None:
            time.sleep(_LOOK_S)
        return code

    def look(self) -> int | None:
        """Look after the processes; the exit code once all has ended, else None."""
        now_s = time.monotonic()
        if self.nursery is not None and not self.ending:
            self.nursery.revive()
        self.tidy(now_s)
        for name, known in list(self.running.items()):
            code = known.process.poll()
            if code is None or self.ending:
                continue
            if known.restart_at_s is None:
                self.leftovers.ended(known.process.pid)
                _say(f'{name} ended with {code}')
                known.restart_at_s = self._patience(known, now_s) if self.restart and code != 0 else float('inf')
            elif now_s >= known.restart_at_s:
                self.start(name, known.command, known.forked)
        codes = [known.process.poll() for known in self.running.values()]
        waiting = any(known.restart_at_s not in (None, float('inf')) for known in self.running.values())
        if not waiting and all(code is not None for code in codes):
            return max((abs(code) for code in codes), default=0)
        return None

    def _patience(self, known: _Running, now_s: float) -> float:
        """When a node that has ended is to be started again, s of the monotonic clock."""
        stable = now_s - known.started_s > _STABLE_S
        wait_s = _RESTART_AFTER_S[0 if stable else min(known.failures, len(_RESTART_AFTER_S) - 1)]
        known.failures = 1 if stable else known.failures + 1
        return now_s + max(wait_s, self.delay_s)

    def tidy(self, now_s: float) -> None:
        """Note what the nodes have in shared memory, and remove what the dead left there."""
        if now_s < self.next_note_s:
            return
        self.next_note_s = now_s + _NOTE_S
        for known in self.running.values():
            if known.process.poll() is None:
                self.leftovers.note(known.process.pid)
        if now_s >= self.next_sweep_s:
            self.next_sweep_s = now_s + _SWEEP_S
            self.leftovers.sweep()

    def end(self) -> None:
        """End what still runs, and remove what is left of it in shared memory."""
        self.ending = True
        self.next_note_s = 0.0
        self.tidy(time.monotonic())
        children.end([known.process for known in self.running.values()], _END_TIMEOUT_S, _say)
        if self.nursery is not None:
            self.nursery.close()
        for known in self.running.values():
            self.leftovers.ended(known.process.pid)
        self.leftovers.sweep(last=True)


def _say(text: str) -> None:
    print(f'crossspec: {text}', file=sys.stderr, flush=True)
