"""Processes of the demo: started with what nodes need, watched, and always ended, each by its own pid."""
from __future__ import annotations

import logging
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from crossspec_ros import children
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.shared_memory import Leftovers

_log = logging.getLogger(__name__)
_TAIL_LINES = 15


@dataclass
class _Child:
    process: subprocess.Popen
    log_path: Path
    told_to_end: bool = False
    rss_mb: float = 0.0
    cpu_s: float = 0.0


class Processes:
    """A group of named child processes with a log file each; a context manager that ends them however it is left.

    It may be entered again, within what must outlive them.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: dict[str, _Child] = {}
        self._leftovers = Leftovers()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.end_all()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Start one process; its output goes to ``<log_dir>/<name>.log``. Returns its pid.

        Ctrl-C in the terminal does not reach it: it is ended by `end_all`, once; see `crossspec_ros.children`.
        """
        path = self._log_dir / f'{name}.log'
        with path.open('wb') as log:
            process = children.start(command, environment, stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=subprocess.STDOUT)
        self._children[name] = _Child(process, path)
        _log.info('started %s, pid %d', name, process.pid)
        return process.pid

    def running(self, name: str) -> bool:
        return self._children[name].process.poll() is None

    def pid(self, name: str) -> int:
        """The process' id."""
        return self._children[name].process.pid

    def exit_codes(self) -> dict[str, int | None]:
        """Exit code by name; None while it runs."""
        return {name: child.process.poll() for name, child in self._children.items()}

    def log_tail(self, name: str, lines: int = _TAIL_LINES) -> str:
        """The end of a process' output."""
        text = self._children[name].log_path.read_text(encoding='utf-8', errors='replace')
        return '\n'.join(text.rstrip().splitlines()[-lines:])

    def check(self, *, ended_ok: Sequence[str] = ()) -> None:
        """Raises CrossSpecError with the end of its log when a process has ended that nobody told to.

        Those named in ``ended_ok`` may end by themselves, with code 0.
        """
        for name, child in self._children.items():
            code = child.process.poll()
            if code is None or child.told_to_end or (code == 0 and name in ended_ok):
                continue
            how = f'was ended by {signal.Signals(-code).name}' if code < 0 else f'ended with exit code {code}'
            raise CrossSpecError(f'the {name} process {how}; the end of its log:\n{self.log_tail(name)}')

    def sample(self) -> None:
        """Keep the largest resident set and the CPU time of every process so far."""
        for child in self._children.values():
            self._leftovers.note(child.process.pid)
            try:
                process = psutil.Process(child.process.pid)
                with process.oneshot():
                    child.rss_mb = max(child.rss_mb, process.memory_info().rss / 1e6)
                    times = process.cpu_times()
            except psutil.Error:
                continue                                                  # gone meanwhile: what was seen stays
            child.cpu_s = max(child.cpu_s, times.user + times.system)

    def rss_mb(self) -> dict[str, float]:
        """Largest resident set by name, MB."""
        return {name: round(child.rss_mb, 1) for name, child in self._children.items()}

    def cpu_s(self) -> dict[str, float]:
        """CPU time by name, s, at the last `sample`."""
        return {name: round(child.cpu_s, 2) for name, child in self._children.items()}

    def end(self, *names: str, timeout_s: float = 20.0) -> None:
        """Ask processes to end (SIGINT), insist (SIGTERM), then end them (SIGKILL)."""
        self._end(names, timeout_s)

    def end_all(self, timeout_s: float = 20.0) -> None:
        """End all that still run, together; what was started last goes first. Takes at most about 1.5 timeouts."""
        self._end(list(reversed(self._children)), timeout_s)

    def _end(self, names: Sequence[str], timeout_s: float) -> None:
        for name in names:
            self._children[name].told_to_end = True
            self._leftovers.note(self._children[name].process.pid)
        children.end([self._children[name].process for name in names], timeout_s)
        for child in self._children.values():
            if child.process.poll() is not None:
                self._leftovers.ended(child.process.pid)
        self._leftovers.sweep(last=True)                        # one that was killed has left its shared memory
