"""A process's part of a timeline: what it did when, written while it runs, in the trace event format.

Format: the JSON array of "Trace Event Format" (Chrome, Perfetto), an event a line, times in us of `perf_counter_ns`.
The array is never closed: that is allowed, so the part of a process that was killed can be read as any other. Where
nobody asked for a trace, `Tracer.span` costs about as much as a call of a function.
"""
from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter_ns, thread_time_ns, time_ns
from typing import IO, Any

from crossspec_ros.errors import CrossSpecError

CLOCK = 'crossspec_clock'
"""Name of the metadata event that tells what the clocks said together: perf_ns, system_ns, and whose they are."""

OLDER = '.older.json'
_log = logging.getLogger(__name__)
_WRITE_S = 0.2                                                  # so much of a killed process is not in its part
_WAITING = 50_000                                               # events that wait for the disk at most
_SHORT_NS = 50_000                                              # collections of garbage below are no pause
_OFF = nullcontext()


class _Span:
    """A block of a thread, from `perf_counter_ns` and the time that the thread had a core."""

    __slots__ = ('_tracer', '_name', '_args', '_start_ns', '_cpu_ns')

    def __init__(self, tracer: Tracer, name: str, args: dict[str, Any]) -> None:
        self._tracer, self._name, self._args = tracer, name, args

    def __enter__(self) -> _Span:
        self._cpu_ns, self._start_ns = thread_time_ns(), perf_counter_ns()
        return self

    def __exit__(self, *error: object) -> None:
        end_ns = perf_counter_ns()
        self._tracer.put('X', self._name, self._start_ns, end_ns - self._start_ns, thread_time_ns() - self._cpu_ns,
                         self._args)


class Tracer:
    """What the process tells of itself; nothing until `open`. Any thread may call.

    ``on`` tells whether anybody listens, for what would cost something to find out.
    """

    def __init__(self) -> None:
        self.on = False
        self.lost = 0                                           # events that came faster than they were written
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._threads: dict[int, tuple[int, str]] = {}          # native id and name by ident
        self._file: IO[bytes] | None = None
        self._gc_ns = self._gc_cpu_ns = 0

    # ---- what is told

    def span(self, name: str, **args: Any) -> AbstractContextManager:
        """Around a block: a slice of this thread. ``args`` are numbers, texts and truth values."""
        return _Span(self, name, args) if self.on else _OFF

    def instant(self, name: str, **args: Any) -> None:
        """Something happened now, in this thread."""
        if self.on:
            self.put('i', name, perf_counter_ns(), 0, 0, args)

    def put(self, phase: str, name: str, start_ns: int, length_ns: int, cpu_ns: int, args: Mapping[str, Any]) -> None:
        """An event of this thread; times are of `perf_counter_ns` and `thread_time_ns`."""
        ident = threading.get_ident()
        if ident not in self._threads:
            self._threads[ident] = threading.get_native_id(), threading.current_thread().name
        if len(self._waiting) >= _WAITING:
            self.lost += 1
            return
        self._waiting.append((phase, name, start_ns, length_ns, cpu_ns, ident, args))

    def _on_gc(self, phase: str, info: Mapping[str, int]) -> None:
        now_ns, cpu_ns = perf_counter_ns(), thread_time_ns()
        if phase == 'start':
            self._gc_ns, self._gc_cpu_ns = now_ns, cpu_ns
        elif now_ns - self._gc_ns >= _SHORT_NS:
            self.put('X', 'gc', self._gc_ns, now_ns - self._gc_ns, cpu_ns - self._gc_cpu_ns, dict(info))

    # ---- where it goes

    def open(self, folder: str | Path, name: str, most_mb: int = 32) -> None:
        """Begin a part of this process in a folder, ``most_mb`` MB at most, the newest; nothing where it has one.

        Raises CrossSpecError where it cannot be written.
        """
        if self.on or not str(folder):
            return
        plain = ''.join(letter if letter.isalnum() or letter in '._' else '.' for letter in name.strip('/'))
        self._path, self._name = Path(folder) / f'{plain}-{os.getpid()}.json', name
        self._half, self._anchor = most_mb * 500_000, (perf_counter_ns(), time_ns())
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._begin()
        except OSError as error:
            raise CrossSpecError(f'trace.folder must be a folder that can be written, got {folder}: '
                                 f'{error.strerror}') from error
        self._stop.clear()
        self._waiting.clear()
        self._thread = threading.Thread(target=self._run, name='tracing', daemon=True)
        self.on = True
        gc.callbacks.append(self._on_gc)
        self._thread.start()

    def close(self) -> None:
        """Write what waits and end; nothing where there is no part."""
        self.on = False
        if self._on_gc in gc.callbacks:
            gc.callbacks.remove(self._on_gc)
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
        self._flush()
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None
            self._threads = {}

    def _begin(self) -> None:
        """A new file that says whose it is; the one before becomes the older half."""
        if self._file is not None:
            self._file.close()
            os.replace(self._path, self._path.with_suffix(OLDER))
        self._file = open(self._path, 'wb', buffering=0)
        self._told: set[int] = set()
        perf_ns, system_ns = self._anchor
        clock = {'perf_ns': perf_ns, 'system_ns': system_ns, 'host': _host()}
        lines = (_line('M', 'process_name', args={'name': self._name.strip('/') or 'process'}),
                 _line('M', CLOCK, args=clock))
        self._written = self._file.write(('[\n' + ''.join(lines)).encode())

    def _run(self) -> None:
        while not self._stop.wait(_WRITE_S):
            self._flush()

    def _flush(self) -> None:
        """Write what waits; where the disk refuses, the part ends and the process goes on."""
        with self._lock:
            if self._file is None:
                return
            lines = []
            while self._waiting:
                phase, name, start_ns, length_ns, cpu_ns, ident, args = self._waiting.popleft()
                native, thread = self._threads[ident]
                if native not in self._told:
                    self._told.add(native)
                    lines.append(_line('M', 'thread_name', native, args={'name': thread}))
                lines.append(_line(phase, name, native, start_ns, length_ns, cpu_ns, args))
            try:
                if lines:
                    self._written += self._file.write(''.join(lines).encode())
                if self._written > self._half:
                    self._begin()
            except OSError as error:
                self.on, self._file = False, None
                _log.warning('%s cannot be written any more (%s): the trace of this process ends here', self._path,
                             error.strerror)


def _line(phase: str, name: str, thread: int = 0, start_ns: int | None = None, length_ns: int = 0, cpu_ns: int = 0,
          args: Mapping[str, Any] | None = None) -> str:
    event: dict[str, Any] = {'name': name, 'ph': phase, 'pid': os.getpid(), 'tid': thread or os.getpid()}
    if start_ns is not None:
        event['ts'] = start_ns / 1000
    if phase == 'X':
        event |= {'dur': length_ns / 1000, 'tdur': cpu_ns / 1000}
    elif phase == 'i':
        event['s'] = 't'
    if args:
        event['args'] = args
    return json.dumps(event, separators=(',', ':'), default=str) + ',\n'


def _host() -> str:
    """Which clock `perf_counter_ns` is of: one of each start of a machine. Empty: not known here."""
    try:
        return hashlib.sha256(Path('/proc/sys/kernel/random/boot_id').read_bytes()).hexdigest()[:12]
    except OSError:
        return ''


TRACER = Tracer()
"""The one of this process."""
