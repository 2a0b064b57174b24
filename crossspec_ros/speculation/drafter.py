"""What is asked of a drafter of captions: which view of the events it eats and in which tokens it speaks.

A view is described here and built elsewhere (`pipeline.views`), so that a drafter needs to know nothing of packets.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from crossspec_ros.errors import CrossSpecError

DEFAULT_SOURCE = 'event_drafter'
NOT_TRAINED = 'not trained for this verifier'
"""What is said wherever words of a drafter are spoken of that learned from another verifier."""
SOURCE_PATTERN = '[a-z0-9_]{1,32}'


def check_source(source: str) -> str:
    """The name under which drafts are counted. Raises `CrossSpecError` unless it is `SOURCE_PATTERN`."""
    if not re.fullmatch(SOURCE_PATTERN, source):
        raise CrossSpecError(f'source must be {SOURCE_PATTERN}, got {source!r}')
    return source


def _check_positive(view: Any) -> None:
    for field in fields(view):
        if not getattr(view, field.name) > 0:
            raise CrossSpecError(f'{field.name} of a view must be > 0, got {getattr(view, field.name)}')


@dataclass(frozen=True)
class VoxelGrid:
    """A window as float32 (bins, height, width): signed events, shared linearly between neighbouring bins of time."""

    bins: int
    height: int
    width: int

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True)
class EventPictures:
    """A window as a tuple of ``count`` uint8 RGB (height, width, 3), oldest first, of equal numbers of events.

    White ground, OFF blue, ON red, the last event of a pixel on top; the sensor's pixels are scaled to the picture's.
    """

    count: int
    height: int
    width: int

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True)
class EventCanvases:
    """The last ``span_ms`` of a window as a tuple of ``count`` uint8 RGB (H, W, 3), oldest first, of equal numbers of
    events.

    Drawn as `EventPictures` are, on the sensor's own pixels; H and W, at least 2, reach as far as the picture's events.
    """

    count: int
    span_ms: float

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True)
class RawSlices:
    """A window as a tuple of `events.types.Events`, oldest first, each of ``span_ms``; the last ends with the window.

    Of a slice the newest ``max_events`` are there; times are ROS time in ns. Where the window is no whole number of
    slices, the first is shorter.
    """

    span_ms: float
    max_events: int

    def __post_init__(self) -> None:
        _check_positive(self)


View = VoxelGrid | EventPictures | EventCanvases | RawSlices


class Drafted(Protocol):
    """What a drafter says; see `models.drafter.DraftTokens`."""

    token_ids: Sequence[int]
    weights: Sequence[int]
    parents: Sequence[int]
    text: str
    compute_ms: float


class Drafter(Protocol):
    """A model that drafts captions from events; `models.drafter` has the built-in one."""

    @property
    def view(self) -> View:
        """What it eats; asked once, when it is put to work."""
        ...

    @property
    def tokenizer_key(self) -> str:
        """Fingerprint of the vocabulary of the drafted ids."""
        ...

    @property
    def verifier_key(self) -> str:
        """Key of the verifier's checkpoint that it learned from; empty, or not there at all: not said."""
        ...

    @property
    def branches(self) -> bool:
        """Whether `draft` takes ``alternatives``, the number of tokens that it may offer beside its likeliest words;
        False, or not there at all: it does not.
        """
        ...

    def draft(self, seen: Any, /, *, prompt: str, prefix_ids: Sequence[int] = (), max_tokens: int = 64,
              should_stop: Callable[[], bool] | None = None) -> Drafted:
        """Draft a caption of what is ``seen``, in the form that `view` says, after the committed ``prefix_ids``.

        ``seen`` must not be changed. ``should_stop`` is asked between tokens: what has been said by then is returned.
        """
        ...
