"""Draft sources: who proposes the next tokens. One base class, one file a source, and their registry."""
from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.plugged import names_of
from crossspec_ros.speculation.drafter import SOURCE_PATTERN
from crossspec_ros.speculation.sources.base import DraftSource
from crossspec_ros.speculation.sources.chain import PreviousCaption, PromptLookup, Rehearsal
from crossspec_ros.speculation.sources.plugged import GROUP, Surroundings, plugged_source
from crossspec_ros.speculation.sources.recall import Recall
from crossspec_ros.speculation.sources.recycling import TokenRecycling


@dataclass(frozen=True)
class SourceSettings:
    """What the built-in sources may hold."""

    memory_captions: int = 256
    memory_growth: float = 1.03
    memory_escape: float = 0.15
    max_prompts: int = 4

    def __post_init__(self) -> None:
        if self.memory_captions < 1:
            raise CrossSpecError(f'memory_captions must be > 0, got {self.memory_captions}')


DRAFTS = 'drafts'
"""Stands in a list of sources for all drafters that hand in drafts from outside, each a source of its own name."""

REGISTRY: dict[str, Callable[[SourceSettings], DraftSource]] = {
    'memory': lambda settings: Recall(settings.memory_captions, growth=settings.memory_growth,
                                      escape=settings.memory_escape, max_prompts=settings.max_prompts),
    'previous': lambda settings: PreviousCaption(max_prompts=settings.max_prompts),
    'rehearsal': lambda settings: Rehearsal(),
    'recycling': lambda settings: TokenRecycling(),
    'prompt': lambda settings: PromptLookup(),
}
"""From a name to what makes the source. A new source is a file beside these and a line here."""

SOURCE_NAMES = ('memory', 'previous', DRAFTS, 'rehearsal', 'recycling', 'prompt')


def check_names(names: Sequence[str]) -> None:
    """Raises `CrossSpecError` unless all are names of sources, each once: built-in ones, or ``NAME`` and
    ``NAME:ARGUMENT`` of other packages."""
    foreign = [name for name in names if name not in REGISTRY and name != DRAFTS]
    if foreign:
        brought = tuple(name for name in names_of(GROUP) if re.fullmatch(SOURCE_PATTERN, name))
        known = tuple(dict.fromkeys((DRAFTS, *REGISTRY, *brought)))
        unknown = sorted({name for name in foreign if name.partition(':')[0] not in brought
                          or name.partition(':')[0] in (DRAFTS, *REGISTRY)})
        if unknown:
            near = difflib.get_close_matches(unknown[0].partition(':')[0], known, 3)
            raise CrossSpecError(f'sources must be among {", ".join(known)}, got {", ".join(unknown)}'
                                 + (f'; did you mean {" or ".join(near)}?' if near else ''))
    if len({name.partition(':')[0] for name in names}) < len(names):
        raise CrossSpecError(f'sources must be named once each, got {", ".join(names)}')


def make_sources(names: Sequence[str], settings: SourceSettings,
                 surroundings: Surroundings | None = None) -> tuple[DraftSource, ...]:
    """The sources of these names, in this order; those of other packages are told of their ``surroundings``.

    Raises `CrossSpecError` for what goes wrong in another package.
    """
    return tuple(REGISTRY[name](settings) if name in REGISTRY else plugged_source(name, surroundings or Surroundings())
                 for name in names if name != DRAFTS)
