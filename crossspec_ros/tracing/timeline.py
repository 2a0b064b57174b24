"""The parts of processes, joined to one timeline, in the JSON object format of trace events.

Parts of one start of a machine share the clock of `perf_counter_ns`, so they line up to the microsecond whoever sets
the system's clock meanwhile; parts of other machines line up as well as the system clocks of the two do.
"""
from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.tracing.tracer import CLOCK, OLDER

Event = dict[str, Any]
PARTS = '*-*.json'
_ORDER = ('windows', 'player', 'verifier', 'several', 'qualifier', 'drafter', 'monitor', 'overlay', 'viewer', 'keeper')


@dataclass
class Part:
    """What one process wrote. ``clock`` as `tracer.CLOCK` has it; ``torn``: lines that cannot be read."""

    name: str
    pid: int
    clock: Mapping[str, Any]
    events: list[Event] = field(default_factory=list)
    torn: int = 0


@dataclass
class Timeline:
    """Events of all processes, oldest first, ``ts`` in us since ``zero_ns`` of the system clock."""

    events: list[Event]
    zero_ns: int = 0
    torn: int = 0

    def slices(self, name: str, pid: int | None = None) -> list[Event]:
        """Slices of a name, oldest first."""
        return self._of('X', name, pid)

    def instants(self, name: str, pid: int | None = None) -> list[Event]:
        """Instants of a name, oldest first."""
        return self._of('i', name, pid)

    def _of(self, phase: str, name: str, pid: int | None) -> list[Event]:
        return [event for event in self.events if event['ph'] == phase and event['name'] == name
                and pid in (None, event['pid'])]


def read_part(path: Path) -> Part | None:
    """A part, also of a process that was killed amid a line; None where not even its head is there.

    Raises CrossSpecError where the file cannot be read.
    """
    try:
        lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError as error:
        raise CrossSpecError(f'{path} cannot be read: {error.strerror}') from error
    part = Part('', 0, {})
    for line in lines:
        text = line.strip().rstrip(',')
        if text in ('', '[', ']'):
            continue
        try:
            event = json.loads(text)
            name, phase, part.pid = event['name'], event['ph'], event['pid']
        except (ValueError, TypeError, KeyError):
            part.torn += 1
            continue
        if phase == 'M' and name == CLOCK:
            part.clock = event['args']
        elif phase == 'M' and name == 'process_name':
            part.name = event['args']['name']
        else:
            part.events.append(event)
    return part if part.clock and part.name else None


def read_parts(folder: str | Path) -> list[Part]:
    """All parts in a folder. Raises CrossSpecError where there is none."""
    paths = sorted(Path(folder).glob(PARTS), key=lambda path: (path.name.removesuffix(OLDER), path.name))
    parts = [part for path in paths if (part := read_part(path)) is not None]
    if not parts:
        raise CrossSpecError(f'{folder} must be a folder with the parts of a trace (NODE-PID.json); it has none')
    return parts


def join(parts: Iterable[Part]) -> Timeline:
    """One timeline: times by the clocks of the parts, a number of its own for each process."""
    parts = list(parts)
    anchors: dict[str, Mapping[str, Any]] = {}
    numbers: dict[tuple[Any, ...], int] = {}
    timed: list[tuple[float, float, Event]] = []
    heads: list[Event] = []
    base_ns = parts[0].clock['system_ns'] - parts[0].clock['perf_ns'] if parts else 0
    for part in parts:
        host = part.clock.get('host') or f'{part.pid} {part.clock["perf_ns"]}'
        clock = anchors.setdefault(host, part.clock)
        shift_us = (clock['system_ns'] - clock['perf_ns'] - base_ns) / 1000
        who = (host, part.name, part.pid)
        if who not in numbers:
            numbers[who] = pid = part.pid if part.pid not in numbers.values() else max(numbers.values()) + 1
            heads += _heads(part.name, pid)
        for event in part.events:
            event = event | {'pid': numbers[who]}
            if event['ph'] == 'M':
                heads.append(event)
            else:
                timed.append((event['ts'] + shift_us, -event.get('dur', 0.0), event))
    timed.sort(key=lambda each: each[:2])                       # what holds others comes before them
    zero_us = timed[0][0] if timed else 0.0
    events = heads + [event | {'ts': round(time_us - zero_us, 3)} for time_us, _, event in timed]
    return Timeline(events, base_ns + round(zero_us * 1000), sum(part.torn for part in parts))


def _heads(name: str, pid: int) -> list[Event]:
    kind = name.rsplit('/', 1)[-1]
    place = _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
    return [{'name': what, 'ph': 'M', 'pid': pid, 'tid': pid, 'args': args} for what, args in (
        ('process_name', {'name': name}), ('process_sort_index', {'sort_index': place}))]


def write(timeline: Timeline, path: str | Path) -> None:
    """Write a whole file or none. Raises CrossSpecError where it cannot be written."""
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.partial')
    head = json.dumps({'displayTimeUnit': 'ms', 'otherData': {'zero_ns': str(timeline.zero_ns),
                                                               'torn_lines': timeline.torn}})
    try:
        with open(temporary, 'w', encoding='utf-8') as file:
            file.write(head[:-1] + ', "traceEvents": [\n')
            for place, event in enumerate(timeline.events):
                file.write((',\n' if place else '') + json.dumps(event, separators=(',', ':')))
            file.write('\n]}\n')
        os.replace(temporary, path)
    except OSError as error:
        raise CrossSpecError(f'{path} cannot be written: {error.strerror}') from error
