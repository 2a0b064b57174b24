"""Sources of other packages: an entry point of the group ``crossspec.sources`` answers to ``NAME:ARGUMENT``.

In the ``pyproject.toml`` of such a package::

    [project.entry-points."crossspec.sources"]
    lab = "lab_recordings:open_lab"

``open_lab(argument: str)`` returns a ``replay.Source``; ``crossspec replay lab:drive_7`` calls ``open_lab('drive_7')``.
"""
from __future__ import annotations

from crossspec_ros.plugged import brought, check_parts
from crossspec_ros.recordings.replay import Source

GROUP = 'crossspec.sources'
_FIELDS = ('name', 'topics', 'start_ns', 'end_ns', 'messages', 'close')


def plugged_source(uri: str) -> Source | None:
    """The source that an installed package has for ``NAME:ARGUMENT``; None where there is none of that name.

    Raises CrossSpecError, in one line, for whatever goes wrong in the package.
    """
    name, colon, argument = uri.partition(':')
    if not colon:
        return None
    what = f'source {uri}'
    return brought(GROUP, name, what, argument,
                   use=lambda made: check_parts(made, _FIELDS, what, 'crossspec_ros.recordings.replay.Source'))
