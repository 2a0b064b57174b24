"""Fields of settings: default, meaning and range in one place, from which parameters, checks and tables are made."""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from crossspec_ros.errors import CrossSpecError


def described(default: Any, description: str, *, name: str = '', low: float | None = None, high: float | None = None,
              choices: tuple[str, ...] = (), live: bool = False, pattern: str = '') -> Any:
    """A dataclass field that says what it means.

    ``name``: its ROS parameter, where that is not its own name; ``live``: may change while a node runs;
    ``pattern``: a regular expression that all of a text must match.
    """
    return dataclasses.field(default=default, metadata={
        'name': name, 'description': description, 'low': low, 'high': high, 'choices': choices, 'live': live,
        'pattern': pattern})


def checked(name: str, value: Any, default: Any, metadata: Mapping[str, Any]) -> Any:
    """The value as the type of its default: an int for a float becomes one, a list of strings a tuple.

    Raises:
        CrossSpecError: another type, none of the choices, or out of range; with name, rule and value.
    """
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if wanted is tuple and isinstance(value, list):
        value = tuple(value)
    if type(value) is not wanted or (wanted is tuple and not all(isinstance(each, str) for each in value)):
        raise CrossSpecError(f'{name} must be {"a list of strings" if wanted is tuple else wanted.__name__}, '
                             f'got {value!r}')
    if metadata['choices'] and value not in metadata['choices']:
        raise CrossSpecError(f'{name} must be one of {", ".join(metadata["choices"])}, got {value!r}')
    low, high = metadata['low'], metadata['high']
    if low is not None and not low <= value <= high:                     # also refuses nan
        raise CrossSpecError(f'{name} must be {low:g} to {high:g}, got {value!r}')
    if metadata['pattern'] and not re.fullmatch(metadata['pattern'], value):
        raise CrossSpecError(f'{name} must be {metadata["pattern"]}, got {value!r}')
    return value
