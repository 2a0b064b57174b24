"""What an experiment is: settings, parts that can be kept, and what is told of them."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.world import DESCRIBE, EVALUATION_SEED

if TYPE_CHECKING:
    from crossspec_ros.experiments.lab import Lab

HOLDS, IN_PART, FAILS, OPEN = 'holds', 'holds in part', 'does not hold', 'cannot be told here'


@dataclass(frozen=True)
class Settings:
    """What every experiment is given; an experiment adds its own fields.

    ``drives`` of ``windows`` each are answered of every pace; ``taught`` windows of other drives are learned from,
    where something is trained, once for each of ``seeds``. ``heads``: folders of trained heads; ``traces``: folder of
    recorded captions and stage times of the 7B pair; ``timeline``: a folder of parts that a traced graph left.
    """

    paces: tuple[str, ...] = ('brisk', 'calm')
    drives: int = 10
    windows: int = 20
    taught: int = 480
    steps: int = 1500
    seeds: int = 3
    seed: int = EVALUATION_SEED + 5000
    prompt: str = DESCRIBE
    model: str = 'builtin'
    drafter: str = 'builtin'
    heads: tuple[str, ...] = ()
    traces: str = ''
    timeline: str = ''

    def __post_init__(self) -> None:
        for name in ('drives', 'windows', 'taught', 'steps', 'seeds'):
            if getattr(self, name) < 1:
                raise CrossSpecError(f'{name} must be >= 1, got {getattr(self, name)}')

    def given(self, values: Mapping[str, Any]) -> Settings:
        """The same with what the command line names; nothing where a value is None."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})


def row_parts(settings: Settings, rows: Collection[str], seeded: Collection[str], last: str) -> tuple[str, ...]:
    """``pace/row``, of ``seeded`` rows ``pace/row/seed`` for each seed, and then ``pace/last``."""
    return tuple(f'{pace}/{row}' + (f'/{seed}' if row in seeded else '') for pace in settings.paces
                 for row in rows for seed in range(settings.seeds if row in seeded else 1)
                 ) + tuple(f'{pace}/{last}' for pace in settings.paces)


ENOUGH_STEPS = 500
"""Of training; what learned for fewer tells nothing against a method that must be trained."""

QUICK = dict(paces=('brisk',), drives=4, windows=6, taught=24, steps=40, seeds=1)
"""Minutes instead of hours for all experiments together."""


@dataclass(frozen=True)
class Value:
    """A figure with its 95% interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None
    digits: int = 2

    def __str__(self) -> str:
        text = f'{self.value:.{self.digits}f}'
        return text if self.low is None else f'{text} ({self.low:.{self.digits}f} to {self.high:.{self.digits}f})'


Cell = str | Value | None
"""What stands in a table; None: not measured."""


@dataclass(frozen=True)
class Table:
    """Rows under ``columns``; the first cell names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ''


@dataclass(frozen=True)
class Plot:
    """``kind``: 'bars' (a series a row of labels) or 'lines'. Points of a series: (x or label, y, low, high)."""

    kind: str
    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[Any, float, float | None, float | None]]]
    mark: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What an experiment says. ``measured`` stands beside the source's claim, which ``verdict`` judges; ``advice`` is
    what follows for a user; ``skipped``: what could not be measured here, and why."""

    tables: tuple[Table, ...]
    measured: str
    verdict: str
    advice: str
    plot: Plot | None = None
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.verdict in (HOLDS, IN_PART, FAILS, OPEN), f'no verdict: {self.verdict}'


def outcome_from(told: Mapping[str, Any]) -> Outcome:
    """An outcome as `dataclasses.asdict` wrote it. Raises KeyError or TypeError for anything else."""
    def cell(found: Any) -> Cell:
        return Value(**found) if isinstance(found, dict) else found
    tables = tuple(Table(table['title'], tuple(table['columns']), tuple(tuple(map(cell, row)) for row in table['rows']),
                         table['note']) for table in told['tables'])
    plot = None if told['plot'] is None else Plot(**told['plot'])
    return Outcome(tables, told['measured'], told['verdict'], told['advice'], plot, tuple(told['skipped']))


@dataclass(frozen=True)
class Experiment(ABC):
    """An experiment: ``full`` and ``quick`` settings, the ``source`` and its ``claim``, what is ``measured`` of it.

    ``lossless``: whether its rows must say the verifier's own tokens; asserted where they do.
    """

    name: str
    title: str
    source: str
    claim: str
    measures: str
    lossless: bool = True
    full: Settings = field(default_factory=Settings)
    quick: Settings = field(default_factory=lambda: Settings(**QUICK))

    @abstractmethod
    def parts(self, settings: Settings) -> tuple[str, ...]:
        """Names of what is measured and kept one by one, in this order."""

    @abstractmethod
    def measure(self, settings: Settings, part: str, lab: Lab) -> dict[str, Any]:
        """One part, JSON-ready. Raises CrossSpecError for what a user can mend."""

    @abstractmethod
    def conclude(self, settings: Settings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        """What all parts together say."""
