"""A node of a launch, looked after: forked by the process that the launch has for it, and forked again when it dies.

``python -m crossspec_ros.launched NAME DELAY_S EXECUTABLE ARGUMENTS`` stands before the command of a node. SIGINT and
SIGTERM end the node and this; so does a node that ends with 0. The death of either's parent ends both.
"""
from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from crossspec_ros import children
from crossspec_ros.nursery import SharedNursery
from crossspec_ros.supervisor import Supervisor

_ENDING = (signal.SIGINT, signal.SIGTERM)


def command_before(name: str, delay_s: float, python: Sequence[str] = (sys.executable,)) -> list[str]:
    """What stands before the command of a node; ``name`` is the nursery's, ``delay_s`` the least before a restart."""
    return [*python, '-m', 'crossspec_ros.launched', name, str(delay_s)]


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Once: a launch may tell the same twice, and later insist."""
    for sign in _ENDING:
        signal.signal(sign, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Start the node and look after it; 0 when told to end or when the node ended with 0."""
    parser = argparse.ArgumentParser(prog='python -m crossspec_ros.launched', description='Look after a node of a '
                                     'launch; the launch files put it before the command of a node.')
    parser.add_argument('name', metavar='NAME', help='of the process that forks nodes')
    parser.add_argument('delay_s', metavar='DELAY_S', type=float, help='the least time before a restart')
    parser.add_argument('executable', metavar='EXECUTABLE', help='of the node, as `ros2 run` starts it')
    parser.add_argument('arguments', metavar='ARGUMENTS', nargs=argparse.REMAINDER, help='of the node')
    args = parser.parse_args(argv)
    for sign in _ENDING:
        signal.signal(sign, _interrupt)
    environment = dict(os.environ)
    supervisor = Supervisor(environment, restart=True, nursery=SharedNursery(environment, args.name),
                            delay_s=args.delay_s)
    node = Path(args.executable).name
    try:
        children.follow_parent()
        supervisor.start(node, [sys.executable, '-m', f'crossspec_ros.nodes.{node}', *args.arguments], forked=True)
        return supervisor.run()
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.end()


if __name__ == '__main__':
    sys.exit(main())
