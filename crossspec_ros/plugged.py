"""What other packages bring: functions that answer to ``NAME`` or ``NAME:ARGUMENT``, found by their entry points.

In the ``pyproject.toml`` of such a package::

    [project.entry-points."crossspec.draft_sources"]
    lab = "lab_drafts:make"

Each room that takes something names its group: recordings take ``crossspec.sources``, the verifier takes
``crossspec.draft_sources``. Whatever goes wrong in another package is told in one line that names it.
"""
from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

from crossspec_ros.errors import CrossSpecError


def names_of(group: str) -> tuple[str, ...]:
    """Names that installed packages answer to, in their order, each once."""
    return tuple(dict.fromkeys(entry.name for entry in importlib.metadata.entry_points(group=group)))


def brought(group: str, name: str, what: str, *given: Any, use: Callable[[Any], Any] | None = None) -> Any:
    """What a package's function of this name makes of ``given``; None where no package answers to it.

    ``use`` looks at what was made and may return something else; ``what`` names it in errors. Raises CrossSpecError, in
    one line, where the package cannot be loaded, and for whatever its function or ``use`` raises.
    """
    entry = next((entry for entry in importlib.metadata.entry_points(group=group) if entry.name == name), None)
    if entry is None:
        return None
    try:
        made = entry.load()(*given)
        return made if use is None else use(made)
    except CrossSpecError:
        raise
    except (Exception, SystemExit) as error:      # another package's code: it can raise anything
        raise CrossSpecError(f'{what}: {entry.value} of the entry points {group} failed ({told(error)}); ask who made '
                             'it') from error


def check_parts(made: Any, parts: tuple[str, ...], what: str, wanted: str) -> Any:
    """What was made, unchanged. Raises CrossSpecError where it lacks one of ``parts``; ``wanted`` says what to make."""
    if missing := [part for part in parts if not hasattr(made, part)]:
        raise CrossSpecError(f'{what}: what its package returns has no {", ".join(missing)}; it must be a {wanted}')
    return made


def told(error: BaseException) -> str:
    """An error in one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())}'
