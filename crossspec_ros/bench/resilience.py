"""How soon nodes are back that were ended by SIGKILL, over real DDS under ``crossspec up --restart``.

Run ``python -m crossspec_ros.bench.resilience`` for the kills alone.
"""
from __future__ import annotations

import argparse
import json
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
from statistics import median

from crossspec_ros import children
from crossspec_ros.demo.options import free_domain
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import LIFECYCLE_NODES, node_environment
from crossspec_ros.nodes.tap import Tap, open_tap
from crossspec_ros.speculation.types import Stage
from crossspec_ros.view.record import Recorder, WindowRecord

NAMESPACE = 'crossspec'
_READY_S, _BACK_S = 240.0, 120.0
_IN_FLIGHT_S = 0.1                                              # what was published before the kill has arrived by then
_KILLS_A_DRIVE = 3
_STARTED = re.compile(r'/(\w+) started, pid (\d+)')


@dataclass
class Heard:
    """When drafts and final captions came last, on the monotonic clock, s; and windows with any."""

    drafter: float = 0.0
    verifier: float = 0.0
    record: Recorder = field(default_factory=Recorder)

    def listen(self, what: str, window: WindowRecord) -> None:
        """For a tap."""
        if what == 'draft':
            self.drafter = time.monotonic()
        elif window.newest is not None and window.newest.stage is Stage.FINAL:
            self.verifier = time.monotonic()


@dataclass
class Vehicle:
    """A running ``crossspec up --restart`` and an ear on its topics."""

    process: subprocess.Popen
    log: Path
    tap: Tap
    heard: Heard

    def pids(self) -> dict[str, int]:
        """The newest pid of every node."""
        return {name: int(pid) for name, pid in _STARTED.findall(self.log.read_text(errors='replace'))}

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        """Listen until something holds; returns when it did, monotonic s. Raises CrossSpecError after ``seconds``."""
        until_s = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until_s or self.process.poll() is not None:
                tail = '\n'.join(self.log.read_text(errors='replace').splitlines()[-15:])
                raise CrossSpecError(f'{what} not within {seconds:g} s; the end of the log of crossspec up:\n{tail}')
            self.tap.poll(0.02)
        return time.monotonic()

    def speaks(self, node: str, since_s: float) -> bool:
        """Whether a draft or final caption has come since then."""
        return getattr(self.heard, node) > since_s


@contextmanager
def vehicle(*options: str, source: str = 'world:1') -> Iterator[Vehicle]:
    """The graph on a recording, once both models speak; ended with the block.

    ``options`` are more of ``crossspec up``.
    """
    domain = free_domain(1 + os.getpid() % 101)
    environment = node_environment(domain_id=domain)
    os.environ.update({name: environment[name] for name in          # the tap needs the same transport as the nodes
                       ('FASTDDS_DEFAULT_PROFILES_FILE', 'ROS_AUTOMATIC_DISCOVERY_RANGE') if name in environment})
    command = [sys.executable, '-m', 'crossspec_ros.cli', 'up', '--restart', '--bag', source, *options]
    with tempfile.TemporaryDirectory(prefix='crossspec-resilience-') as folder:
        log = Path(folder, 'up.log')
        with log.open('wb') as file:
            process = children.start(command, environment, stdin=subprocess.DEVNULL, stdout=file,
                                     stderr=subprocess.STDOUT)
        heard = Heard()
        try:
            with open_tap(heard.record, heard.listen, domain_id=domain, namespace=NAMESPACE) as tap:
                running = Vehicle(process, log, tap, heard)
                for node in LIFECYCLE_NODES:
                    running.wait(lambda node=node: running.speaks(node, 0.0), _READY_S, f'the first word of the {node}')
                yield running
        finally:
            children.end([process], 60.0)


def kill(running: Vehicle, node: str) -> float:
    """End a node by SIGKILL; returns how long until it speaks again, s. Raises CrossSpecError where it does not."""
    pid = running.pids()[node]
    os.kill(pid, signal.SIGKILL)
    killed_s = time.monotonic()
    running.wait(lambda: running.pids()[node] != pid, _BACK_S, f'the {node} started again')
    back_s = running.wait(lambda: running.speaks(node, killed_s + _IN_FLIGHT_S), _BACK_S, f'a word of the {node}')
    return back_s - killed_s


def measure_kills(running: Vehicle, count: int, rest_s: float = 3.0,
                  say: Callable[[str], None] = lambda text: None) -> dict[str, list[float]]:
    """Kill each node with a model so often; how long until each was back, s, by node.

    Before each kill the graph runs for ``rest_s`` and a little more, so that kills fall all over a window.
    """
    back: dict[str, list[float]] = {node: [] for node in LIFECYCLE_NODES}
    for number in range(count):
        for node in LIFECYCLE_NODES:
            since_s = time.monotonic()
            running.tap.poll(rest_s + 0.37 * number % 1.0)
            running.wait(lambda: all(running.speaks(each, since_s) for each in LIFECYCLE_NODES), _BACK_S,
                         'drafts and captions')
            back[node].append(kill(running, node))
            say(f'{node} back after {back[node][-1]:.2f} s')
    return back


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Median and largest; None where there is none."""
    return {'p50': round(median(values), 2) if values else None, 'max': round(max(values), 2) if values else None}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(prog='resilience', description=__doc__)
    parser.add_argument('--kills', type=int, default=10, help='of each node with a model (default: 10)')
    args = parser.parse_args(arguments)
    back: dict[str, list[float]] = {node: [] for node in LIFECYCLE_NODES}
    while len(back[LIFECYCLE_NODES[0]]) < args.kills:           # a recording lasts for a few kills
        with vehicle() as running:
            count = min(_KILLS_A_DRIVE, args.kills - len(back[LIFECYCLE_NODES[0]]))
            for node, times in measure_kills(running, count, say=lambda text: print(text, file=sys.stderr)).items():
                back[node] += times
    print(json.dumps({'kills': {node: {'n': len(times), 'back_s': spread(times)} for node, times in back.items()}}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
