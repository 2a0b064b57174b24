"""What a live view tells its screens: collected between two looks, bounded, words safe for screens.

Free of ROS and of any viewer: `crossspec_ros.nodes.viewer` fills a `Feed`, and each `Screen` shows what it tells.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Protocol

from crossspec_ros.speculation.drafter import NOT_TRAINED
from crossspec_ros.speculation.types import Caption, Draft, Verdict
from crossspec_ros.view.drops import dropped_by_node, node_name
from crossspec_ros.view.record import Diagnostic, Latency, Recorder, WindowRecord
from crossspec_ros.view.safe import clean
from crossspec_ros.view.shown import Shown
from crossspec_ros.view.words import Run

LEVELS = ('ok', 'warn', 'error', 'stale')                       # of a diagnostic, by number
AGES, ACCEPTANCE, DROPS = 'ages', 'acceptance', 'drops'         # groups of series
_WINDOWS = 16                                                   # kept
_CORRECTED = 6                                                  # windows told word by word
_VERDICTS = 20                                                  # windows that acceptance looks back on
_PENDING = 400                                                  # values and lines between two looks at most
_SERIES = 32                                                    # a group at most: names come from outside
_NODES = 32


@dataclass(frozen=True)
class Value:
    """A point of a series."""

    group: str
    name: str
    value: float
    stamp_ns: int


@dataclass(frozen=True)
class Line:
    """A line of the log; ``level`` is ok, warn, error or stale."""

    level: str
    source: str
    text: str
    stamp_ns: int


@dataclass(frozen=True)
class Corrected:
    """A window word by word; ``ages`` as people read them."""

    clock: str
    ages: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Words:
    """The texts of one moment, all of them cleaned."""

    question: str
    verified: str
    drafted: str
    note: str
    corrected: tuple[Corrected, ...]


@dataclass(frozen=True)
class Look:
    """Everything that screens are told at once. ``pictures``: JPEG files by name (camera, events)."""

    stamp_ns: int
    pictures: dict[str, bytes]
    words: Words | None
    values: Sequence[Value]
    lines: Sequence[Line]
    states: dict[str, str]


class Screen(Protocol):
    """Something that shows looks. A screen that cannot keep up says so and is told less, never later."""

    def show(self, look: Look) -> bool:
        """Show it; False where the screen has not taken in the one before, so that this one was left out."""

    def close(self) -> None:
        """End; what was shown is on disk where it was to be saved."""


@dataclass
class _Tally:
    """Draft tokens checked and accepted of the last windows, by source."""

    windows: deque[Verdict] = field(default_factory=lambda: deque(maxlen=_VERDICTS))

    def add(self, verdict: Verdict) -> dict[str, float]:
        """Take in a window's last verdict; percent accepted by source."""
        self.windows.append(verdict)
        shares = {}
        for name in sorted(verdict.drafted):
            drafted = sum(each.drafted.get(name, 0) for each in self.windows)
            accepted = sum(each.accepted.get(name, 0) for each in self.windows)
            if drafted:
                shares[name] = 100.0 * accepted / drafted
        return shares


class Feed:
    """Collects what arrives; `look` hands it out once. Call from one thread."""

    def __init__(self, stale_ns: int, stride_ns: int, show_untrained: bool = False) -> None:
        self.shown = Shown(stale_ns, stride_ns, show_untrained)
        self._show_untrained = show_untrained
        self.record = Recorder()
        self.left_out = 0                                       # values and lines that there was no room for
        self._question = ''
        self._tally = _Tally()
        self._pending: deque[Value | Line] = deque()
        self._names: dict[str, set[str]] = {}
        self._drops: dict[tuple[str, str], int] = {}
        self._said: dict[str, tuple[int, str]] = {}
        self._told: Words | None = None

    def reset(self) -> None:
        """Time jumped: no text of before is shown."""
        self.shown.reset()
        self.record.windows.clear()
        self._tally = _Tally()

    # ---- what is heard

    def add_prompt(self, text: str) -> None:
        """The question that is asked from now on."""
        self._question = clean(text)

    def add_draft(self, draft: Draft, age_ms: float) -> None:
        """A draft, ``age_ms`` after its window's end."""
        self.shown.add_draft(draft)
        self.record.add_draft(draft, age_ms, 0)
        self.record.keep(_WINDOWS)

    def add_caption(self, caption: Caption, age_ms: float) -> None:
        """A caption of any stage."""
        self.shown.add_caption(caption)
        self.record.add_caption(caption, age_ms)
        self.record.keep(_WINDOWS)

    def add_verdict(self, verdict: Verdict, stamp_ns: int) -> None:
        """A verdict; a window's last one counts."""
        if verdict.final:
            for name, percent in self._tally.add(verdict).items():
                self._value(ACCEPTANCE, name, percent, stamp_ns)

    def add_latency(self, latency: Latency, stamp_ns: int) -> None:
        """The monitor's row of a window."""
        for name, age_ms in (('draft', latency.draft_age_ms), ('first verified words', latency.first_partial_age_ms),
                             ('caption', latency.caption_age_ms)):
            if age_ms is not None:
                self._value(AGES, name, age_ms, stamp_ns)

    def add_diagnostic(self, name: str, status: Diagnostic, stamp_ns: int) -> None:
        """The newest status of a node: a line where it changed, a point for each count that grew."""
        if name not in self.record.diagnostics and len(self.record.diagnostics) >= _NODES:
            self.left_out += 1
            return
        self.record.add_diagnostic(name, status)
        said = (status.level, status.message)
        if self._said.get(name) != said:
            self._said[name] = said
            self._put(Line(_level(status.level), clean(node_name(name)), clean(status.message), stamp_ns))
        for node, causes in dropped_by_node({name: status}).items():
            for cause, count in causes.items():
                if self._drops.get((node, cause)) != count:
                    if self._value(DROPS, f'{node}: {cause}', count, stamp_ns):
                        self._drops[node, cause] = count

    def _value(self, group: str, name: str, value: float, stamp_ns: int) -> bool:
        names, name = self._names.setdefault(group, set()), clean(name)
        if name not in names and len(names) >= _SERIES:
            self.left_out += 1
            return False
        names.add(name)
        self._put(Value(group, name, value, stamp_ns))
        return True

    def _put(self, item: Value | Line) -> None:
        if len(self._pending) >= _PENDING:
            self._pending.popleft()
            self.left_out += 1
        self._pending.append(item)

    # ---- what is told

    def look(self, now_ns: int, pictures: dict[str, bytes]) -> Look:
        """Everything since the last look; words only where they changed."""
        items, self._pending = self._pending, deque()
        words = self.words(now_ns)
        changed, self._told = words if words != self._told else None, words
        states = {clean(node_name(name)): _level(level) for name, (level, _) in self._said.items()}
        return Look(now_ns, pictures, changed, [item for item in items if isinstance(item, Value)],
                    [item for item in items if isinstance(item, Line)], states)

    def again(self) -> None:
        """The last look was left out by a screen: tell the words again."""
        self._told = None

    def words(self, now_ns: int) -> Words:
        """The texts as they stand now."""
        verified, drafted = self.shown.text(now_ns)
        shown = self._show_untrained
        newest = [window for window in self.record.ordered() if window.standing(shown)][-_CORRECTED:]
        return Words(self._question, verified, drafted, self.shown.note(now_ns),
                     tuple(_corrected(window, shown) for window in newest))


def _level(number: int) -> str:
    return LEVELS[min(max(number, 0), len(LEVELS) - 1)]


def _corrected(window: WindowRecord, show_untrained: bool) -> Corrected:
    clock = datetime.fromtimestamp(window.window_end_ns / 1e9, timezone.utc).strftime('%H:%M:%S')
    ages = [f'{what} {age_ms:+.0f} ms' for what, age_ms in
            (('draft', window.draft_age_ms), ('caption', window.caption_age_ms)) if age_ms is not None]
    ages += [f'drafter {NOT_TRAINED}'] if window.draft is not None and window.draft.other_verifier else []
    return Corrected(clock, ', '.join(ages), tuple(window.standing(show_untrained)))


def newest_first(corrected: Iterable[Corrected]) -> list[Corrected]:
    """In the order in which a page shows them."""
    return list(corrected)[::-1]
