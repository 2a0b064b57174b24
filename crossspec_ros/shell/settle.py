"""Looks at the shell, refuses what cannot work, and turns what can be turned."""
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping
from contextlib import suppress

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.shell.table import OWN_GRAPH, REFUSED, TURNED, VARIABLES, Finding


def look(environment: Mapping[str, str], *, ros: bool = True, without: Collection[str] = ()) -> list[Finding]:
    """All that is wrong, in the table's order; ``without`` names variables that will not be used."""
    rows = [row for row in VARIABLES if row.name not in without and (ros or not row.ros)]
    return [found for row in rows if (found := row.look(environment)) is not None]


def settle(environment: MutableMapping[str, str] | None = None, *, ros: bool = True, own_graph: bool = False,
           without: Collection[str] = (), say: Callable[[str], None] | None = None) -> None:
    """Make the environment (this process' own) one that works; a line is said for each value that was changed.

    ``own_graph``: for nodes that nobody else is to meet, which leaves aside how others would be found.

    Raises:
        CrossSpecError: a value with which nothing can run; the text names the variable and what to do.
    """
    environment = os.environ if environment is None else environment
    environment['MPLBACKEND'] = 'agg'                                    # plots go into files; another may not import
    say = say or (lambda text: print(f'crossspec: {text}', file=sys.stderr))
    if own_graph:
        for name in OWN_GRAPH:
            if environment.pop(name, '') and name in ('ROS_DISCOVERY_SERVER', 'ROS_STATIC_PEERS'):
                say(f'{name} is left aside: these nodes find each other on this host, in a domain of their own')
    findings = look(environment, ros=ros, without=without)
    for finding in findings:
        if finding.kind == REFUSED:
            raise CrossSpecError(finding.text)
    for finding in findings:
        say(finding.text)
        if finding.kind == TURNED:
            for name, value in finding.settings.items():
                if value is None:
                    environment.pop(name, None)
                else:
                    environment[name] = value


def settle_streams() -> None:
    """Let output go to a terminal that cannot show every character: it shows the others, and escapes these."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):                       # replaced by a program, or closed
            if (stream.encoding or '').lower().replace('-', '') != 'utf8':
                stream.reconfigure(errors='backslashreplace')
