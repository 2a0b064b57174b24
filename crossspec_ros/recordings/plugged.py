"""Sources of other packages: an entry point of the group ``crossspec.sources`` answers to ``NAME:ARGUMENT``.

In the ``pyproject.toml`` of such a package::

    [project.entry-points."crossspec.sources"]
    lab = "lab_recordings:open_lab"

``open_lab(argument: str)`` returns a ``replay.Source``; ``crossspec replay lab:drive_7`` calls ``open_lab('drive_7')``.
"""
from __future__ import annotations

import importlib.metadata

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.replay import Source

GROUP = 'crossspec.sources'
_FIELDS = ('name', 'topics', 'start_ns', 'end_ns', 'messages', 'close')


def plugged_source(uri: str) -> Source | None:
    """The source that an installed package has for ``NAME:ARGUMENT``; None where there is none of that name.

    Raises CrossSpecError, in one line, for whatever goes wrong in the package.
    """
    name, colon, argument = uri.partition(':')
    found = [entry for entry in importlib.metadata.entry_points(group=GROUP) if entry.name == name] if colon else []
    if not found:
        return None
    entry = found[0]
    try:
        source = entry.load()(argument)
    except CrossSpecError:
        raise
    except Exception as error:      # another package's code: it can raise anything
        raise CrossSpecError(f'source {uri}: {entry.value} of the entry points {GROUP} failed '
                             f'({type(error).__name__}: {" ".join(str(error).split())}); ask who made it') from error
    if missing := [field for field in _FIELDS if not hasattr(source, field)]:
        raise CrossSpecError(f'source {uri}: what {entry.value} returns has no {", ".join(missing)}; it must be a '
                             'crossspec_ros.recordings.replay.Source')
    return source
