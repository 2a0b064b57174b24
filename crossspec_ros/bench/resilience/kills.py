"""How soon nodes are back that were ended by SIGKILL, over real DDS under ``crossspec up --restart``."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossspec_ros import children
from crossspec_ros.bench.resilience.referee import Referee
from crossspec_ros.bench.resilience.spread import spread
from crossspec_ros.bench.resilience.stage import (EVENTS_TOPIC, IMAGE_TOPIC, NAMESPACE, NODE_OF, Account, Heard,
                                                  Playing, scene, share_transport)
from crossspec_ros.demo.options import free_domain
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import PAIR
from crossspec_ros.nodes.stand_ins import ROLES, Cameras, open_stage
from crossspec_ros.nodes.tap import open_tap

_BACK_S = 120.0
_IN_FLIGHT_S = 0.1                                              # what was published before the kill has arrived by then
_STARTED = re.compile(r'/(\w+) started, pid (\d+)')


@dataclass
class Vehicle(Playing):
    """A running ``crossspec up --restart`` with cameras and an ear."""

    log: Path = Path()

    def pids(self) -> dict[str, int]:
        """The newest pid of every node."""
        return {name: int(pid) for name, pid in _STARTED.findall(self.log.read_text(errors='replace'))}

    def told(self) -> str:
        """What is known of a graph that does not go on."""
        inputs = [f'{role}: {self.cameras.sent[role]} sent, {NODE_OF[role]} told {self.input(role)}' for role in ROLES]
        tail = '\n'.join(self.log.read_text(errors='replace').splitlines()[-15:])
        return f'{"; ".join(inputs)}; pids {self.pids()}; the end of its log:\n{tail}'

    def kill(self, node: str) -> float:
        """End a node by SIGKILL; returns how long until it speaks again, s. Raises CrossSpecError where it does not."""
        pid = self.pids()[node]
        os.kill(pid, signal.SIGKILL)
        killed_s = time.monotonic()
        self.wait(lambda: self.pids()[node] != pid, _BACK_S, f'the {node} started again')
        spoken = killed_s + _IN_FLIGHT_S
        return self.wait(lambda: getattr(self.heard, node) > spoken, _BACK_S, f'a word of the {node}') - killed_s


@contextmanager
def vehicle(*options: str) -> Iterator[Vehicle]:
    """The graph under ``up --restart``, once both models speak; ended with the block.

    ``options`` are more of ``up``.
    """
    domain = free_domain(1 + os.getpid() % 101)
    environment, heard = share_transport(domain), Heard()
    command = [sys.executable, '-m', 'crossspec_ros.cli', 'up', '--restart', *options]
    with (tempfile.TemporaryDirectory(prefix='crossspec-resilience-') as folder,
          open_stage(domain_id=domain, namespace=NAMESPACE) as stage,
          open_stage(domain_id=domain, namespace=NAMESPACE, name='camera') as camera,
          open_tap(heard.record, heard.listen, domain_id=domain, namespace=NAMESPACE) as tap):
        log = Path(folder, 'up.log')
        with log.open('wb') as file:
            process = children.start(command, environment, stdin=subprocess.DEVNULL, stdout=file,
                                     stderr=subprocess.STDOUT)
        cameras = Cameras(stage, camera, scene(), EVENTS_TOPIC, IMAGE_TOPIC)

        def alive() -> None:
            if process.poll() is not None:
                raise CrossSpecError(f'crossspec up ended with {process.returncode}')

        try:
            running = Vehicle(tap, heard, cameras, alive, stage, log=log)
            running.begin()
            yield running
        except CrossSpecError as error:
            raise CrossSpecError(f'{error}; {running.told()}') from error
        finally:
            cameras.close()
            children.end([process], 60.0)


@dataclass
class Ledger:
    """The account over the lives of several processes; by role what was sent, gone with a process and unaccounted."""

    base: dict[str, Account] = field(default_factory=lambda: {role: Account() for role in ROLES})
    totals: dict[str, dict[str, int]] = field(default_factory=lambda: {
        role: {'sent': 0, 'received': 0, 'lost_counted': 0, 'gone_with_the_process': 0, 'unaccounted': 0}
        for role in ROLES})

    def same(self, role: str, now: Account) -> None:
        """The process of the last entry lives still."""
        self._add(role, now, now.since(self.base[role]), 0)

    def another(self, role: str, now: Account, sent_when_back: int) -> None:
        """It was killed after the last entry; the one that lives now was back when so many had been sent.

        The new process' account begins with the first message that it receives. What it does not have was sent before
        it was back, or is lost without a count.
        """
        own = Account(now.sent - self.base[role].sent, now.received, now.lost)
        self._add(role, now, own, max(0, sent_when_back - self.base[role].sent))

    def _add(self, role: str, now: Account, part: Account, most_gone: int) -> None:
        total, missing = self.totals[role], part.sent - part.received - part.lost
        gone = min(max(0, missing), most_gone)
        for name, count in (('sent', part.sent), ('received', part.received), ('lost_counted', part.lost),
                            ('gone_with_the_process', gone), ('unaccounted', abs(missing - gone))):
            total[name] += count
        self.base[role] = now

    @property
    def unaccounted(self) -> int:
        """Of all roles."""
        return sum(total['unaccounted'] for total in self.totals.values())


def rest(running: Vehicle, ledger: Ledger) -> None:
    """Pause the cameras, so that the account of the processes that live is whole."""
    for role, account in running.settle(reset=False).items():
        ledger.same(role, account)


def kill_once(running: Vehicle, node: str, ledger: Ledger, rest_s: float = 1.0) -> float:
    """Kill a node of a graph at `rest`, ``rest_s`` after it has spoken; returns how long until it was back, s.

    The cameras rest then, too.
    """
    running.cameras.play()
    for each in PAIR:
        running.next_word(each)
    running.tap.poll(rest_s)
    back_s = running.kill(node)
    sent = dict(running.cameras.sent)
    for role, account in running.settle(reset=False).items():
        if NODE_OF[role] == node:
            ledger.another(role, account, sent[role])
        else:
            ledger.same(role, account)
    return back_s


def kills(referee: Referee, advance: Callable[[float], None], count: int, *, rest_s: float = 1.0,
          say: Callable[[str], None] = lambda text: None, options: Sequence[str] = ()) -> dict[str, Any]:
    """Kill each node with a model so often, all over a window; how long until each was back, by node, and what became
    of the input.
    """
    back: dict[str, list[float]] = {node: [] for node in PAIR}
    ledger = Ledger()
    with vehicle(*options) as running:
        rest(running, ledger)
        for number in range(2 * count):
            node = PAIR[number % 2]
            back[node].append(kill_once(running, node, ledger, rest_s + 0.37 * number % 1.0))
            say(f'{node} back after {back[node][-1]:.2f} s')
            advance(1)
        words = referee.check(list(running.heard.captions), running.cameras.pictures)
    return {'kills': {**{node: {'n': len(times), 'back_s': spread(times)} for node, times in back.items()},
                      'inputs': ledger.totals, 'words': words}}
