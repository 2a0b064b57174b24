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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossspec_ros import children
from crossspec_ros.bench.resilience.referee import Referee
from crossspec_ros.bench.resilience.spread import spread
from crossspec_ros.bench.resilience.stage import (EVENTS_TOPIC, IMAGE_TOPIC, NAMESPACE, NODE_OF, Account, Heard, Playing,
                                                  scene, share_transport)
from crossspec_ros.demo.options import free_domain
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import LIFECYCLE_NODES
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
    """The graph under ``up --restart``, once both models speak; ended with the block. ``options`` are more of ``up``."""
    domain = free_domain(1 + os.getpid() % 101)
    environment, heard = share_transport(domain), Heard()
    command = [sys.executable, '-m', 'crossspec_ros.cli', 'up', '--restart', *options]
    with (tempfile.TemporaryDirectory(prefix='crossspec-resilience-') as folder,
          open_stage(domain_id=domain, namespace=NAMESPACE) as stage,
          open_tap(heard.record, heard.listen, domain_id=domain, namespace=NAMESPACE) as tap):
        log = Path(folder, 'up.log')
        with log.open('wb') as file:
            process = children.start(command, environment, stdin=subprocess.DEVNULL, stdout=file,
                                     stderr=subprocess.STDOUT)
        cameras = Cameras(stage, scene(), EVENTS_TOPIC, IMAGE_TOPIC)

        def alive() -> None:
            if process.poll() is not None:
                tail = '\n'.join(log.read_text(errors='replace').splitlines()[-15:])
                raise CrossSpecError(f'crossspec up ended with {process.returncode}; the end of its log:\n{tail}')

        try:
            running = Vehicle(tap, heard, cameras, alive, stage, log=log)
            running.begin()
            yield running
        finally:
            cameras.close()
            children.end([process], 60.0)


def _gone(running: Vehicle, role: str, quiet: Account, back_sent: int) -> tuple[int, int]:
    """After a kill: (messages that the process took with it or that found nobody, unaccounted).

    The new process' account begins with the first that it receives. What it does not have was sent before it was back,
    or lost without a count.
    """
    after = running.settle(reset=False)[role]
    missing = after.sent - quiet.sent - after.received - after.lost
    return missing, max(0, missing - (back_sent - quiet.sent)) + max(0, -missing)


def kills(referee: Referee, advance: Callable[[float], None], count: int, *, rest_s: float = 1.0,
          say: Callable[[str], None] = lambda text: None, options: Sequence[str] = ()) -> dict[str, Any]:
    """Kill each node with a model so often; how long until each was back, by node, and what became of its input.

    Before each kill the cameras rest, so that the account of the process that dies is whole; then the graph runs for
    ``rest_s`` and a little more, so that kills fall all over a window.
    """
    back: dict[str, list[float]] = {node: [] for node in LIFECYCLE_NODES}
    role_of = {node: role for role, node in NODE_OF.items()}
    totals = {role: {'sent': 0, 'gone_with_the_process': 0, 'unaccounted': 0} for role in ROLES}
    with vehicle(*options) as running:
        for number in range(2 * count):
            node = LIFECYCLE_NODES[number % 2]
            role = role_of[node]
            quiet = running.settle(reset=False)[role]
            running.cameras.play()
            for each in LIFECYCLE_NODES:
                running.next_word(each)
            running.tap.poll(rest_s + 0.37 * number % 1.0)
            back[node].append(running.kill(node))
            gone, unaccounted = _gone(running, role, quiet, running.cameras.sent[role])
            totals[role]['sent'] += running.cameras.sent[role] - quiet.sent
            totals[role]['gone_with_the_process'] += gone
            totals[role]['unaccounted'] += unaccounted
            say(f'{node} back after {back[node][-1]:.2f} s')
            advance(1)
        captions = list(running.heard.captions)
        words = referee.check(captions, running.cameras.pictures)
    return {'kills': {**{node: {'n': len(times), 'back_s': spread(times)} for node, times in back.items()},
                      'inputs': totals, 'words': words}}
