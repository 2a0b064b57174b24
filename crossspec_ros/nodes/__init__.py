"""ROS 2 nodes around the core. Importing any of them looks at the shell first, and needs a ROS 2 that can be used."""
import importlib
import os
import signal
import sys
from pathlib import Path

from crossspec_ros import shell
from crossspec_ros.errors import CrossSpecError


def _enter() -> None:
    """Raises CrossSpecError where this process cannot use ROS 2; the text says which variable or package it is."""
    shell.settle()
    try:
        importlib.import_module('rclpy')
    except ModuleNotFoundError as error:
        line = shell.explain(error)
        if line is None:
            raise                                                        # not installed: callers know what to say
        raise CrossSpecError(line) from error
    except Exception as error:  # noqa: BLE001 - the code of another Python may fail in any way
        raise CrossSpecError(shell.explain(error) or f'rclpy cannot be imported ({type(error).__name__}: {error}); '
                             'source a ROS 2 of this Python, or install it again') from error


# A node as a program: by `python -m`, which looks for it now, or by the script of its name that `ros2 run` starts.
_PROGRAM = sys.argv[0] == '-m' or Path(__file__).with_name(f'{Path(sys.argv[0]).name}.py').is_file()
if _PROGRAM:
    # Ctrl-C amid the imports, seconds on a busy host: there is no node yet that has to be closed.
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(0))
try:
    _enter()
except CrossSpecError as problem:
    if not _PROGRAM:
        raise
    print(f'error: {problem}', file=sys.stderr)
    sys.exit(2)
