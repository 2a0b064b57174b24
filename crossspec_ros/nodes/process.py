"""What every node's process does: threads beside the callbacks, time jumps, start and end with the right exit code."""
from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import rclpy
from rclpy.clock import JumpHandle, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.exceptions import NameValidationException, NoTypeSupportImportedException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node
from rosidl_generator_py.import_type_support_impl import UnsupportedTypeSupport

from crossspec_ros.children import follow_parent
from crossspec_ros.config import TraceConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.interrupts import interruptible
from crossspec_ros.nodes.watchdog import leave_if_stuck
from crossspec_ros.shared_memory import dead_ports_kept
from crossspec_ros.tracing.tracer import TRACER
from crossspec_ros.transport import follow_profile

EXIT_BAD_INPUT = 2
_DESTROY_S = 3.0
_REFUSALS = (rclpy_implementation.RCLError, rclpy_implementation.RMWError, rclpy_implementation.UnknownROSArgsError,
             NameValidationException, NoTypeSupportImportedException, UnsupportedTypeSupport, ImportError)
_CLOSE_S = 12.0                                                 # less than a supervisor's patience
_SHOWING = 10                                                   # niceness of what shows


class Worker:
    """A thread that calls ``step`` while there is work, so that callbacks never wait for a model.

    ``step`` returns whether it did something; else the thread sleeps until `wake` or ``idle_s``. What ``step`` raises
    goes to ``failed`` and the thread lives on.
    """

    def __init__(self, name: str, step: Callable[[], bool], failed: Callable[[Exception], None], idle_s: float) -> None:
        self._step, self._failed, self._idle_s = step, failed, idle_s
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def stopping(self) -> bool:
        """Whether the end was asked for; long steps look at it."""
        return self._stop.is_set()

    def wake(self) -> None:
        """There is work."""
        self._wake.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread after its current step."""
        self._stop.set()
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                worked = self._step()
            except Exception as error:  # noqa: BLE001 - one window's trouble must not end the node
                if self._stop.is_set() or not rclpy.ok():
                    return
                self._failed(error)
                worked = False
            if not worked:
                self._wake.wait(self._idle_s)


def stand_behind(nice: int) -> None:
    """Let the other threads of this host that want the core have it before the calling one, where the host can."""
    if nice and hasattr(os, 'setpriority'):
        thread = threading.get_native_id()                      # on Linux threads have a niceness of their own
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + nice))


def show_behind_the_models() -> None:
    """Let all others of this host that want the core have it before this process, which only shows what they say.

    Call it before any thread is started.
    """
    os.nice(_SHOWING)


def on_time_jump(node: Node, callback: Callable[[], None]) -> JumpHandle:
    """Call back when the ROS clock jumps back or changes its source."""
    threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)

    def jumped(jump: TimeJump) -> None:
        del jump
        callback()

    return node.get_clock().create_jump_callback(threshold, post_callback=jumped)


def trace(node: Node, config: TraceConfig) -> None:
    """Begin this process's part of a timeline, where one was asked for; it is named after its first node.

    Raises CrossSpecError where it cannot be written.
    """
    TRACER.open(config.folder, node.get_fully_qualified_name(), config.mb)


def since_ms(system_ns: int | None) -> float | None:
    """How long ago a time of the system clock is, ms; None where it is not known."""
    return (time.time_ns() - system_ns) / 1e6 if system_ns else None


def report_failure(node: Node, what: str, error: Exception) -> None:
    """Log what went wrong: bad input in one line, anything else with where it happened."""
    expected = isinstance(error, (CrossSpecError, OSError))
    text = str(error) if expected else ''.join(traceback.format_exception(error))
    node.get_logger().error(f'{what}: {text}')


def autostart(node: LifecycleNode) -> bool:
    """Configure and activate; False where a transition did not succeed."""
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


@contextmanager
def starting() -> Iterator[None]:
    """Around the start of ROS 2 and of a node: what its libraries have against it becomes a CrossSpecError."""
    follow_profile()
    try:
        yield
    except _REFUSALS as error:
        text = ' '.join(str(error).split())
        raise CrossSpecError(f'ROS 2 does not start here: {text.partition(", at /")[0]}; '
                             '`crossspec doctor` looks at the shell') from error


def run(make: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Spin a node until it is told to end; returns the exit code.

    0 after SIGINT or SIGTERM; 2 for bad input: a parameter out of range, a checkpoint that is not there.
    """
    nodes: list[Node] = []

    def spin() -> int:
        with starting():
            nodes.append(make())
        node, executor = nodes[0], SingleThreadedExecutor()
        executor.add_node(node)
        start = getattr(node, 'start', None)
        if start is not None and not start():
            return EXIT_BAD_INPUT
        while rclpy.ok() and not getattr(node, 'finished', False):
            executor.spin_once(timeout_sec=0.5)
        return getattr(node, 'exit_code', 0)

    return run_nodes(spin, nodes, args)


def spin_together(nodes: Sequence[Node]) -> int:
    """Start nodes that share a process, and spin them in one thread until told to end; returns the exit code."""
    if not all([node.start() for node in nodes]):               # all of them say what is wrong
        return EXIT_BAD_INPUT
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    while rclpy.ok():
        executor.spin_once(timeout_sec=0.5)
    return 0


def _one_of_several() -> bool:
    """Whether torchrun has started this process for its rank 0, which alone has nodes."""
    return 'TORCHELASTIC_RUN_ID' in os.environ and os.environ.get('RANK', '0') != '0'


def run_nodes(spin: Callable[[], int], nodes: Sequence[Node], args: Sequence[str] | None) -> int:
    """Call ``spin`` with ROS there, then close the ``nodes`` it has made by then; returns the exit code as `run`."""
    code = 1
    if _one_of_several():
        from crossspec_ros.pipeline.building import follow
        return follow()
    try:
        follow_parent()
        with interruptible(), dead_ports_kept():
            with starting():
                ros = rclpy.init(args=args)
            with ros:
                code = spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        code = 0
    except CrossSpecError as error:
        print(f'error: {error}', file=sys.stderr)
        code = EXIT_BAD_INPUT
    finally:
        with leave_if_stuck(_CLOSE_S, code):                    # what is on disk by now can be read
            for node in nodes:
                _close_node(node, code)
            TRACER.close()
    return code


def leave(code: int) -> NoReturn:
    """End the process now.

    Node, threads and files are closed by `run`; to let the libraries of the models take themselves apart can take the
    interpreter many seconds on a busy host, in which a supervisor would lose patience.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _close_node(node: Node, code: int) -> None:
    """End a node's threads and files, then the node; never raises.

    Fast DDS 3.2 may wait for ever for the thread of a TCP connection that nothing comes from: `_DESTROY_S` must do.
    """
    try:
        close = getattr(node, 'close', None)
        if close is not None:
            close()
        with leave_if_stuck(_DESTROY_S, code):
            node.destroy_node()
    except Exception:  # noqa: BLE001 - the process ends; what is left to do is to say why it was not clean
        traceback.print_exc()
