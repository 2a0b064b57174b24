"""What can be learned from a verifier's answers, by name. A draft source that is new here is a line in `LEARNABLES`."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads.config import KINDS
from crossspec_ros.speculation.sources.base import NEEDS

DRAFTER = 'drafter'


@dataclass(frozen=True)
class Learnable:
    """What the answers must keep for it, names of `speculation.sources.base.NEEDS` besides the likely tokens."""

    needs: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        assert self.needs <= set(NEEDS), f'needs must be among {NEEDS}'


LEARNABLES: dict[str, Learnable] = {DRAFTER: Learnable()} | {kind: Learnable(frozenset({'hidden'})) for kind in KINDS}


def check_sources(names: Sequence[str]) -> None:
    """Raises CrossSpecError unless all names are known, each once, the drafter among them."""
    unknown = [name for name in names if name not in LEARNABLES]
    if unknown:
        raise CrossSpecError(f'sources must be among {", ".join(LEARNABLES)}, got {unknown[0]!r}')
    if len(set(names)) < len(names) or DRAFTER not in names:
        raise CrossSpecError(f'sources must be named once each, {DRAFTER} among them, got {", ".join(names) or "none"}')


def keeps_states(names: Sequence[str]) -> bool:
    """Whether one of them learns from the verifier's states, which the answers then keep too."""
    return any('hidden' in LEARNABLES[name].needs for name in names)


def heads_of(names: Sequence[str]) -> tuple[str, ...]:
    """The kinds of heads among them, in the order of `LEARNABLES`, which does not hang on how they were named."""
    return tuple(kind for kind in KINDS if kind in names)
