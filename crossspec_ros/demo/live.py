"""The demo in the terminal: each window's words, dim while only drafted, solid once verified.

On a terminal the last windows are redrawn in place; into a file or a pipe it is a line for each thing that happens.
"""
from __future__ import annotations

import time
from types import TracebackType
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from crossspec_ros.speculation.drafter import NOT_TRAINED
from crossspec_ros.timing.window import WindowGrid
from crossspec_ros.view.record import Recorder, WindowRecord
from crossspec_ros.view.safe import clean
from crossspec_ros.view.words import Fate

_SHOWN = 5
_PROGRESS_S = 5.0
_DIM, _SOLID, _STRUCK, _ADDED = 'dim', 'bold', 'dim strike red', 'bold green'
_STYLES = {Fate.OPEN: _DIM, Fate.KEPT: _SOLID, Fate.STRUCK: _STRUCK, Fate.ADDED: _ADDED}


def format_age(age_ms: float | None) -> str:
    """``+12 ms``, ``-95 ms`` (before the window ended), ``+1.20 s``, or a dash."""
    if age_ms is None:
        return '-'
    return f'{age_ms / 1000:+.2f} s' if abs(age_ms) >= 1000 else f'{round(age_ms):+d} ms'


def window_text(window: WindowRecord) -> Text:
    """The words of a window as they stand now."""
    return Text(' ').join(Text(run.text, style=_STYLES[run.fate]) for run in window.standing(False))


class LiveView:
    """Context manager; `draft` and `caption` for what arrives, `tick` now and then to redraw.

    ``first_ns`` and ``last_ns`` bound the stream in the graph's clock once they are known: windows are named by the
    time since its start, and those that hold nothing of it are not shown.
    """

    def __init__(self, record: Recorder, *, file: IO[str], title: str, force_terminal: bool | None = None,
                 grid: WindowGrid = WindowGrid()) -> None:
        self._grid = grid
        self._record, self._title, self._status = record, title, ''
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self._next_progress_s = 0.0
        self._console = Console(file=file, force_terminal=force_terminal, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live is not None:
            self.tick()
            self._live.stop()

    def say(self, message: str) -> None:
        """A line about the demo itself."""
        self._status = message
        if self._live is None:
            self._console.print(message, markup=False)
        else:
            self.tick()

    def progress(self, message: str) -> None:
        """How far something is; off a terminal a line now and then."""
        now_s = time.monotonic()
        if self._live is not None or now_s >= self._next_progress_s:
            self._next_progress_s = now_s + _PROGRESS_S
            self.say(message)

    def draft(self, window: WindowRecord) -> None:
        """A draft has arrived; off a terminal, one that goes on from verified words is no line of its own."""
        newest = window.drafts[-1]
        if self._live is None and newest.base_length == 0 and self._in_stream(window):
            words = f'(drafter {NOT_TRAINED})' if newest.other_verifier else clean(newest.text)
            self._line(window, 'draft', window.draft_age_ms, Text(words, style=_DIM))

    def caption(self, window: WindowRecord) -> None:
        """A caption has arrived; partial ones are shown on a terminal only."""
        if self._live is None and window.caption is not None and self._in_stream(window):
            passes = max(1, window.caption.target_passes)
            self._line(window, 'caption', window.caption_age_ms, Text(clean(window.caption.text), style=_SOLID),
                       f'  [{(len(window.caption.token_ids) + 1) / passes:.1f} tokens/pass]')

    def _line(self, window: WindowRecord, what: str, age_ms: float | None, text: Text, tail: str = '') -> None:
        self._console.print(Text.assemble(f'{self._clock(window)}  {what:<8}{format_age(age_ms):>9}  ', text, tail))

    def _clock(self, window: WindowRecord) -> str:
        """The window's end, counted from the stream's start."""
        begin_ns = self.first_ns
        if begin_ns is None:
            begin_ns = self._record.windows[min(self._record.windows)].window_end_ns
        return f'{(window.window_end_ns - begin_ns) / 1e9:6.2f} s'

    def _in_stream(self, window: WindowRecord) -> bool:
        return ((self.first_ns is None or window.window_end_ns > self.first_ns)
                and (self.last_ns is None or window.window_end_ns - self._grid.span_ns < self.last_ns))

    def tick(self) -> None:
        """Redraw."""
        if self._live is not None:
            self._live.update(self.render(), refresh=True)

    def render(self) -> RenderableType:
        """The screen: the last windows, newest at the bottom, and a line of figures."""
        windows = [window for window in self._record.ordered() if self._in_stream(window)]
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(justify='right', no_wrap=True, style='cyan')
        table.add_column(justify='right', no_wrap=True)
        table.add_column(ratio=1)
        for window in windows[-_SHOWN:]:
            ages = Text.assemble(('draft ', _DIM), (f'{format_age(window.draft_age_ms):>8}', _DIM), '\n',
                                 ('caption ', ''),
                                 (f'{format_age(window.caption_age_ms):>8}', 'bold' if window.final else _DIM))
            table.add_row(self._clock(window), ages, window_text(window) or Text('...', style=_DIM))
        legend = Text.assemble(('drafted ', _DIM), ('verified ', _SOLID), ('struck out', _STRUCK), ' ',
                               ('put in', _ADDED))
        final = sum(window.final for window in windows)
        foot = Text.assemble(f'{len(windows)} windows, {final} verified   ', legend, f'   {self._status}')
        return Panel(Group(table, Text(), foot), title=self._title, title_align='left', border_style='dim')
